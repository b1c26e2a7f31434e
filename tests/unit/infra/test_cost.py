"""The cost estimate: it never falls with more work, no unit can be mistaken, and its files are complete."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from infra.configuration import parse_configuration
from infra.cost import units
from infra.cost.__main__ import EXAMPLES, main
from infra.cost.estimate import estimate_month, estimate_peak, estimate_quiet
from infra.cost.from_configuration import get_sizing, read_sizing, vcpus_of
from infra.cost.page import generated_files
from infra.cost.picture import cost_picture
from infra.cost.prices import PRICES_FILE, read_prices
from infra.cost.report import DOCUMENTS, make_report
from infra.cost.sizing import Sizing
from infra.cost.units import CostError, Price, Quantity, Unit, UnitError
from infra.cost.workload import Workload

ROOT = Path(__file__).parents[3]
REGIONS = ("us-east-1", "eu-west-2", "eu-central-1")
PRICES = read_prices("us-east-1")
SIZING = get_sizing("production", "us-east-1", parse_configuration({"environment": "production"}))
HOUR_OF_JOB = Workload(worker_seconds_per_job=3600, utilisation=1)

numbers = st.floats(min_value=0, max_value=1e12, allow_nan=False)


@given(st.sampled_from(Unit), st.sampled_from(Unit), numbers, numbers)
def test_a_price_is_for_its_own_unit_only(per: Unit, of: Unit, dollars: float, amount: float) -> None:
    price, quantity = Price(dollars, per, "test", verified=True), Quantity(amount, of)
    if per is of:
        assert price.times(quantity) == dollars * amount
    else:
        with pytest.raises(UnitError):
            price.times(quantity)


@given(numbers)
def test_quantities_are_converted_in_one_place(count: float) -> None:
    assert units.requests(count) == Quantity(count / 1000, Unit.THOUSAND_REQUESTS)
    assert units.gigabytes_of_bytes(count) == Quantity(count / 1e9, Unit.GIGABYTE)
    assert units.hours_of(count).amount == count * 730


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_a_quantity_is_a_number_from_zero(amount: float) -> None:
    with pytest.raises(CostError):
        Quantity(amount, Unit.HOUR)


workloads = st.builds(
    Workload,
    jobs=st.floats(0, 1e6),
    products_per_job=st.floats(0, 500),
    images_per_product=st.floats(0, 20),
    changed_share=st.floats(0, 1),
    waiting_seconds=st.floats(0, 100),
    utilisation=st.floats(0.5, 1),
)
sizings = st.builds(
    lambda spot, workers, zones, engine: replace(
        SIZING,
        spot_workers=spot,
        maximum_workers=100_000,
        minimum_workers=workers,
        zones=zones,
        redis_engine=engine,
    ),
    st.booleans(),
    st.integers(0, 50),
    st.integers(1, 4),
    st.sampled_from(["valkey", "redis"]),
)


@given(sizings, workloads, st.floats(0, 1e6))
def test_more_jobs_are_never_cheaper_and_each_job_is_never_dearer(
    sizing: Sizing, workload: Workload, more: float
) -> None:
    before = estimate_month(sizing, workload, PRICES)
    after = estimate_month(sizing, replace(workload, jobs=workload.jobs + more), PRICES)
    assert after.dollars >= before.dollars * (1 - 1e-9)
    if before.dollars_per_job is not None and after.dollars_per_job is not None:
        assert after.dollars_per_job <= before.dollars_per_job * (1 + 1e-9)


@given(sizings, workloads, st.floats(0, 1))
def test_more_new_images_are_never_cheaper(sizing: Sizing, workload: Workload, share: float) -> None:
    lower, higher = sorted([workload.changed_share, share])
    few = estimate_month(sizing, replace(workload, changed_share=lower), PRICES)
    many = estimate_month(sizing, replace(workload, changed_share=higher), PRICES)
    assert many.dollars >= few.dollars * (1 - 1e-9)


@given(sizings, workloads)
def test_quiet_is_the_least_and_peak_the_most(sizing: Sizing, workload: Workload) -> None:
    average = estimate_month(sizing, workload, PRICES)
    assert estimate_quiet(sizing, workload, PRICES).dollars <= average.dollars * (1 + 1e-9)
    assert estimate_peak(sizing, workload, PRICES, jobs=0).dollars >= average.dollars * (1 - 1e-9)


def test_an_estimate_by_hand() -> None:
    """1,460 worker-hours keep two workers: a third of a node of six, with Auto Mode's share."""
    sizing = replace(SIZING, minimum_workers=1, workers_per_node=6, worker_instance_type="c7i.4xlarge")
    month = estimate_month(sizing, replace(HOUR_OF_JOB, jobs=1_460), PRICES)
    assert month.mean_workers == pytest.approx(2)
    dollars = {(line.group, line.text): line.dollars for line in month.lines}
    assert dollars["workers", "0.3 × c7i.4xlarge"] == pytest.approx(2 / 6 * 730 * 0.714)
    assert dollars["workers", "EKS Auto Mode for them"] == pytest.approx(2 / 6 * 730 * 0.714 * 0.12)
    assert dollars["cluster", "control plane"] == pytest.approx(73)
    assert dollars["Redis", "3 × cache.r7g.large (valkey)"] == pytest.approx(3 * 730 * 0.1752)
    assert dollars["PostgreSQL", "db.m7g.large in 2 zones"] == pytest.approx(2 * 730 * 0.168)
    assert dollars["network", "NAT gateways"] == pytest.approx(3 * 730 * 0.045)


def test_more_than_the_pool_can_do_is_no_estimate() -> None:
    with pytest.raises(CostError, match="at most 50: raise the maximum of workers"):
        estimate_month(SIZING, replace(HOUR_OF_JOB, jobs=51 * 730), PRICES)


def test_what_you_bring_yourself_costs_nothing_here() -> None:
    own = parse_configuration(
        {
            "environment": "production",
            "network": {"vpc_id": "vpc-1", "private_subnet_ids": ["subnet-1", "subnet-2"]},
            "postgres": {"existing_secret_arn": "arn:aws:secretsmanager:eu-central-1:1:secret:platform"},
            "storage": {"existing_bucket": "platform-images"},
            "encryption": {"kms_key_arn": "arn:aws:kms:eu-central-1:1:key/1"},
        }
    )
    quiet = estimate_quiet(get_sizing("production", "us-east-1", own), Workload(), PRICES)
    texts = {line.text for line in quiet.lines}
    assert "PostgreSQL" not in quiet.groups()
    assert not {"NAT gateways", "encryption keys", "RDS Proxy"} & texts
    assert not any(line.text[-2:] == "GB" and line.group == "storage" for line in quiet.lines)


def entries() -> Iterator[tuple[str, str, dict[str, object]]]:
    for region, prices in yaml.safe_load(PRICES_FILE.read_text(encoding="utf-8"))["regions"].items():
        for name, entry in prices.items():
            if name != "ratios":
                yield region, name, entry


def test_every_region_prices_the_same_things_in_the_same_units() -> None:
    units_by_region = {
        region: {name: entry["per"] for own, name, entry in entries() if own == region} for region in REGIONS
    }
    assert units_by_region["eu-west-2"] == units_by_region["us-east-1"] == units_by_region["eu-central-1"]


@pytest.mark.parametrize("region", REGIONS)
def test_prices_are_of_the_size_that_their_region_makes_likely(region: str) -> None:
    """A slipped digit or a monthly price for an hourly one shows as a ratio that no two regions have."""
    for name, price in read_prices(region).prices.items():
        assert 0.9 <= price.dollars / PRICES.prices[name].dollars <= 1.3, name


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"dollars": 1, "per": "hour", "source": "s"}, "give dollars, per, source and verified"),
        ({"dollars": 1, "per": "day", "source": "s", "verified": True}, "per 'day' is none of"),
        ({"dollars": "1", "per": "hour", "source": "s", "verified": True}, "dollars must be a number"),
        ({"dollars": -1, "per": "hour", "source": "s", "verified": True}, "dollars must be a number"),
        ({"dollars": 1, "per": "hour", "source": "t", "verified": True}, "source 't' is not under sources"),
    ],
)
def test_an_incomplete_price_is_refused_by_name(
    entry: dict[str, object], problem: str, tmp_path: Path
) -> None:
    document = {
        "taken": "2026-01-01",
        "sources": {"s": "a page"},
        "regions": {"here": {"thing": entry, "ratios": {"auto_mode": 0, "spot_discount": 0}}},
    }
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(CostError, match=f"infra/prices.yaml, thing: .*{problem}"):
        read_prices("here", path=path)


def test_errors_name_the_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--folder", str(tmp_path)]) == 1
    assert "there is no Pulumi.production.yaml" in capsys.readouterr().err
    assert main(["--region", "mars-1"]) == 1
    assert "no prices for mars-1, only for us-east-1" in capsys.readouterr().err
    assert main(["--changed-share", "2"]) == 1
    assert "changed_share is 2.0" in capsys.readouterr().err
    with pytest.raises(CostError, match=r"no price 'rds db\.z1\.large' in us-east-1"):
        estimate_quiet(replace(SIZING, postgres_class="db.z1.large"), Workload(), PRICES)


@pytest.mark.parametrize(
    "command", [line.split("  ")[1].strip() for line in EXAMPLES.splitlines() if line.startswith("  make")]
)
def test_the_examples_of_the_help_run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    stack = re.search(r"STACK=(\w+)", command)
    given_options = re.search(r"COST='(.*)'", command)
    options = given_options[1].split() if given_options else []
    assert main(["--stack", stack[1] if stack else "production", *options]) == 0
    output = capsys.readouterr().out
    if "json" in options:
        document = json.loads(output)
        assert [volume["jobs"] for volume in document["volumes"]] == list(DOCUMENTS)
        assert document["average"]["dollars"] == pytest.approx(
            sum(x["dollars"] for x in document["average"]["lines"])
        )
    else:
        assert "together" in output


@pytest.mark.parametrize(
    ("instance_class", "vcpus"), [("db.t4g.micro", 2), ("db.m7g.xlarge", 4), ("db.r7g.4xlarge", 16)]
)
def test_vcpus_of_a_class(instance_class: str, vcpus: int) -> None:
    assert vcpus_of(instance_class) == vcpus


def test_the_page_and_the_picture_are_current() -> None:
    for path, text in generated_files().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, "run `make generate`"


def test_no_value_of_the_page_is_missing() -> None:
    page, picture = generated_files().values()
    assert not re.search(r"@\w+@", page)
    assert ElementTree.fromstring(picture).tag.endswith("svg")  # noqa: S314 - it is our own


def test_the_picture_says_every_number() -> None:
    report = make_report(read_sizing("production", ROOT, region="us-east-1"), Workload(), PRICES)
    picture = cost_picture(report)
    for volume in report.volumes:
        assert volume.estimate is not None
        assert f"{volume.estimate.dollars_per_job:.4f}" in picture
        assert f"{volume.documents_per_job:.3f}" in picture
