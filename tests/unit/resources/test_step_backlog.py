"""The number of `ImportQueueBacklog`: what the largest sync makes, and what a pool at its maximum gets through."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.resources.worker_pool import Health, WorkerPool, parse_worker_pool
from import_core.domain.steps import BATCH_SIZES, StepKind
from import_local.alert_rules import alerts
from import_operator.policies import queue_policies
from import_operator.standalone.fleet import policy_of

COMPONENT = Path(__file__).parents[3] / "deploy/components/catalogue-sync"
LARGEST_CATALOGUE = 10_000
SYNCS_AT_ONCE = 3
BATCH_SECONDS = 30
"""Of quality control, whose batches are the smallest and wait for a model."""
(RULE,) = (alert.rule for alert in alerts() if alert.name == "ImportQueueBacklog")
(THRESHOLD,) = (int(number) for number in re.findall(r"depth:max > (\d+)", RULE["expr"]))


def pool_of(kind: StepKind) -> WorkerPool:
    return parse_worker_pool(yaml.safe_load((COMPONENT / f"{kind.value}.yaml").read_text()))


def test_it_is_the_number_that_import_queues_are_degraded_at() -> None:
    assert Health().degraded_above == THRESHOLD


def test_the_largest_sync_alone_is_never_above_it() -> None:
    assert max(-(-LARGEST_CATALOGUE // size) for size in BATCH_SIZES.values()) == THRESHOLD


def test_levels_of_the_steps_pools_come_later_so_that_this_alert_tells_it() -> None:
    for kind in StepKind:
        pool = pool_of(kind).spec
        assert pool.health.degraded_above > THRESHOLD, kind


def test_three_syncs_at_once_are_below_it_again_before_it_is_told() -> None:
    kind = StepKind.QUALITY_CONTROL
    pool = pool_of(kind).spec
    batches = SYNCS_AT_ONCE * LARGEST_CATALOGUE // BATCH_SIZES[kind]
    a_minute = pool.scaling.max_replicas * pool.concurrency * 60 / BATCH_SECONDS
    assert (batches - THRESHOLD) / a_minute < int(RULE["for"].removesuffix("m"))


def test_without_pools_queues_are_judged_as_with_them() -> None:
    judged = {queue: policy_of(queue) for queue in (DEFAULT_QUEUE, *(kind.value for kind in StepKind))}
    assert judged == queue_policies(pool_of(kind) for kind in StepKind)
