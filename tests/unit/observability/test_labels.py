"""Labels are bounded, whatever the values are."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics import MetricWrapperBase

from import_core.domain.jobs import Claim, JobRow, JobState, Progress, Tier
from import_core.observability.labels import (
    MOST_VALUES,
    OTHER,
    PROVIDERS,
    STEPS,
    UNKNOWN,
    BoundedNames,
    provider_label,
    tier_label,
)
from import_core.observability.metrics import JOB_OUTCOMES, WorkerMetrics
from import_gateway.metrics import GatewayMetrics
from import_operator import metrics as operator_metrics
from import_worker.counting import count_start, count_try
from import_worker.jobs import Outcome

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = {
    "about", "action", "cause", "change", "decision", "direction", "error", "event", "kind", "loop",
    "method", "neighbour", "outcome", "part", "phase", "pool", "process", "provider", "queue", "reason",
    "result", "route", "size", "source", "state", "status", "step", "tier", "version",
}  # fmt: skip
"""Each is a word of the code, or bounded as docs/reference/metrics.md says; a new one has to be thought about."""


def metrics_of(owner: object) -> list[MetricWrapperBase]:
    return [value for value in vars(owner).values() if isinstance(value, MetricWrapperBase)]


def all_metrics() -> dict[str, Iterable[MetricWrapperBase]]:
    worker = WorkerMetrics()
    return {
        "operator": metrics_of(operator_metrics),
        "worker": [*metrics_of(worker), *metrics_of(worker.process)],
        "gateway": metrics_of(GatewayMetrics()),
    }


def test_no_label_is_of_a_company_a_job_or_any_other_thing_without_bound() -> None:
    for process, found in all_metrics().items():
        for metric in found:
            name = metric.describe()[0].name
            assert name.startswith("imports_"), name
            assert set(metric._labelnames) <= LABELS, (process, name)


def test_every_metric_has_a_meaning_and_a_base_unit() -> None:
    for found in all_metrics().values():
        for metric in found:
            family = metric.describe()[0]
            assert len(family.documentation) > 5, family.name
            assert not re.search(r"_(ms|millis|minutes|hours|kb|mb|percent)(_|$)", family.name), family.name


@pytest.mark.parametrize("process", ["operator", "worker", "gateway"])
def test_every_metric_is_fed_by_code(process: str) -> None:
    """A name that nobody sets is a dashboard's empty panel and an alert that never fires."""
    folders = [ROOT / process / f"import_{process}", ROOT / "core" / "import_core" / "observability"]
    text = "\n".join(
        path.read_text() for folder in folders for path in folder.rglob("*.py") if path.name != "metrics.py"
    )
    owner = {"operator": operator_metrics, "worker": WorkerMetrics(), "gateway": GatewayMetrics()}[process]
    for attribute, value in vars(owner).items():
        if isinstance(value, MetricWrapperBase):
            assert re.search(rf"\b(metrics|_metrics|process)\.{attribute}\b", text), attribute


@given(st.text())
def test_any_word_becomes_one_of_few_labels(word: str) -> None:
    assert provider_label(word) in {*PROVIDERS, *STEPS, OTHER, UNKNOWN}
    assert tier_label(word) in set(Tier)


def test_providers_that_there_are_keep_their_names() -> None:
    names = ("shopify", "roastify", "index-product", "unknown", "", "etsy")
    assert [provider_label(name) for name in names] == [
        "shopify",
        "roastify",
        "index-product",
        UNKNOWN,
        UNKNOWN,
        OTHER,
    ]


@given(st.lists(st.text(max_size=3)))
def test_names_are_told_apart_up_to_a_bound_and_keep_their_place(names: list[str]) -> None:
    bounded = BoundedNames(most=4)
    labels = [bounded.label(name) for name in names]
    assert len(set(labels) - {OTHER}) <= 4
    assert [bounded.label(name) for name in names] == labels
    assert all(label in {name, OTHER} for name, label in zip(names, labels, strict=True))


def test_a_name_that_is_gone_makes_room() -> None:
    bounded = BoundedNames(most=2)
    assert [bounded.label(name) for name in "abc"] == ["a", "b", OTHER]
    assert bounded.forget_all_but({"b", "c"}) == {"a"}
    assert [bounded.label(name) for name in "bcd"] == ["b", "c", OTHER]


def claim(company: str, provider: str, tier: Tier = Tier.BASIC) -> Claim:
    job = JobRow(
        f"job-of-{company}", company, provider, JobState.IN_PROGRESS, None, queued_at=NOW, started_at=NOW
    )
    return Claim("c", "w", job, None, 60.0, tier=tier, waited_seconds=3.0)


def test_a_thousand_companies_and_connections_make_no_more_series_than_one() -> None:
    metrics = WorkerMetrics()

    def count(number: int) -> int:
        for outcome in Outcome:
            mine = claim(f"company-{number}", f"connection-{number}")
            count_start(metrics, mine)
            count_try(
                metrics,
                mine,
                Progress(),
                outcome=outcome.value,
                provider_type=f"type-{number}",
                seconds=1.0,
                now=NOW,
            )
        return sum(len(family.samples) for family in metrics.registry.collect())

    first = count(0)
    assert [count(number) for number in range(1, 1000)][-1] == first
    assert metrics.registry.get_sample_value("imports_jobs_total", {
        "outcome": "completed", "provider": OTHER, "tier": "BASIC"}) == 1000  # fmt: skip


def test_outcomes_are_those_of_the_worker() -> None:
    assert set(JOB_OUTCOMES) == {outcome.value for outcome in Outcome}


def test_pools_beyond_the_bound_share_a_series_and_gone_ones_leave_none() -> None:
    names = {f"test-pool-{number}" for number in range(3 * MOST_VALUES)}
    for name in names:
        operator_metrics.WORKERS.labels(operator_metrics.pool_label(name)).set(1)
        operator_metrics.SCALINGS.labels(operator_metrics.pool_label(name), "out").inc()
    try:
        shown = {sample.labels["pool"] for sample in operator_metrics.WORKERS.collect()[0].samples}
        assert len(shown & names) <= MOST_VALUES
        assert OTHER in shown
    finally:
        operator_metrics.forget_names(pools=set(), queues=set())
    for metric in (operator_metrics.WORKERS, operator_metrics.SCALINGS):
        left = {sample.labels["pool"] for sample in metric.collect()[0].samples}
        assert not left & names
