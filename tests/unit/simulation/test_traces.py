"""Traces: read from files with errors that name line and field, or made from a seed."""

from __future__ import annotations

import pytest

from import_core.domain.errors import InvalidResourceError
from import_core.domain.jobs import Tier
from import_core.domain.simulation.generating import DAY, LARGEST, SCENARIOS
from import_core.domain.simulation.trace import read_trace


def test_reads_csv_in_any_order() -> None:
    trace = read_trace("t", ["at,products,images,company,tier", "20,5,7,acme,pro", "10,3,,,"], as_csv=True)
    first, second = trace.arrivals
    assert (first.at, first.products, first.images, first.tier) == (10.0, 3, 9, Tier.BASIC)
    assert (second.company, second.connection, second.images, second.tier) == ("acme", "acme", 7, Tier.PRO)
    assert trace.seconds == 20.0


def test_reads_json_lines() -> None:
    trace = read_trace("t", ['{"at": 1.5, "products": 2, "provider": "roastify"}', ""], as_csv=False)
    assert [(one.at, one.provider) for one in trace.arrivals] == [(1.5, "roastify")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"products": 1}', "line 1: at: must be a number"),
        ('{"at": -1, "products": 1}', "line 1: at: must be from 0"),
        ('{"at": 1, "products": "many"}', "line 1: products: must be a number"),
        ('{"at": 1, "products": NaN}', "line 1: products: must be from 0"),
        ('{"at": 1, "products": 1, "tier": "GOLD"}', "line 1: tier"),
        ("[1]", "line 1: must be a JSON object"),
        ("at", "line 1: is not JSON"),
        ("", "holds no arrivals"),
    ],
)
def test_says_what_is_wrong(line: str, message: str) -> None:
    with pytest.raises(InvalidResourceError, match=message):
        read_trace("t", [line], as_csv=False)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_scenarios_follow_from_their_seed(name: str) -> None:
    make = SCENARIOS[name].make
    trace = make(1, 2000)
    assert trace == make(1, 2000)
    assert trace.arrivals != make(2, 2000).arrivals
    assert len(trace.arrivals) == 2000
    moments = [arrival.at for arrival in trace.arrivals]
    assert moments == sorted(moments)
    assert 0 <= moments[0] <= moments[-1] <= DAY
    assert all(1 <= arrival.products <= LARGEST for arrival in trace.arrivals)


def test_sizes_have_a_heavy_tail() -> None:
    sizes = sorted(arrival.products for arrival in SCENARIOS["heavy"].make(1, 5000).arrivals)
    assert sum(sizes[-500:]) > 0.7 * sum(sizes)
