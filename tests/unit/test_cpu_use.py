"""CPU as the metrics API gives it, and the workers that it asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from import_core.domain.cpu_use import CpuUse, cores_of, needed_by_cpu, requested_cores, used_cores

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def metrics(name: str, *cpu: str, timestamp: str = "2026-01-01T11:59:40Z") -> dict[str, Any]:
    """An item of a PodMetricsList, as metrics-server answers."""
    return {
        "metadata": {"name": name, "namespace": "imports", "creationTimestamp": "2026-01-01T12:00:00Z"},
        "timestamp": timestamp,
        "window": "15.048s",
        "containers": [
            {"name": f"c{number}", "usage": {"cpu": value, "memory": "104388Ki"}}
            for number, value in enumerate(cpu)
        ],
    }


@pytest.mark.parametrize(
    ("quantity", "cores"),
    [
        ("250m", 0.25),
        ("1842391n", 0.001842391),
        ("500u", 0.0005),
        ("2", 2.0),
        (2, 2.0),
        ("0", 0.0),
        ("1.5", 1.5),
    ],
)
def test_quantities(quantity: object, cores: float) -> None:
    assert cores_of(quantity) == pytest.approx(cores)


@pytest.mark.parametrize("quantity", ["", "lots", "-1", None, "1x"])
def test_what_is_no_quantity(quantity: object) -> None:
    assert cores_of(quantity) is None


def test_uses_of_all_containers_are_added() -> None:
    used, measured = used_cores([metrics("a", "700m", "50m"), metrics("b", "1250000000n")], NOW)
    assert (used, measured) == (pytest.approx(2.0), 2)


def test_old_and_broken_measures_are_unknown_and_not_zero() -> None:
    pods = [
        metrics("old", "1", timestamp="2026-01-01T11:57:00Z"),
        metrics("none"),
        metrics("broken", "1", "?"),
        {"metadata": {"name": "bare"}},
    ]
    assert used_cores(pods, NOW) == (0.0, 0)
    assert needed_by_cpu(CpuUse(0.0, 0, 1.0), current=2, target_percent=70) is None


def container(**resources: Any) -> dict[str, Any]:
    return {"name": "worker", "resources": resources}


def test_requests_are_what_the_containers_ask_for_together() -> None:
    both = {"containers": [container(requests={"cpu": "1500m"}), container(limits={"cpu": 1})]}
    assert requested_cores(both) == pytest.approx(2.5)
    assert requested_cores({"containers": [container(requests={"cpu": "1"}), {"name": "side"}]}) is None
    assert requested_cores({"containers": [container(requests={"cpu": "0"})]}) is None


@pytest.mark.parametrize(("used", "need"), [(7.0, None), (7.7, None), (7.8, 12), (14.0, 20), (0.0, None)])
def test_workers_for_a_use(used: float, need: int | None) -> None:
    # Ten workers of one core each at 70 %.
    assert needed_by_cpu(CpuUse(used, 10, 1.0), current=10, target_percent=70) == need
