"""What a pool's decision is made of, and which decisions are kept."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from import_core.adapters.postgres.jobs import Depth
from import_core.adapters.postgres.queue_state import QueueState
from import_core.domain.backpressure import Intake, IntakeState
from import_core.domain.prescaling import StartTimes
from import_core.domain.resources.worker_pool import WorkerPool, parse_worker_pool
from import_core.domain.scaling import ScalingHistory, ScalingReason
from import_operator.scaling_policy import REASON_SECONDS, PoolDecision, PoolDecisions
from import_operator.state import OperatorState

QUIET = Depth(due=0, claimed=0, busy_workers=0)
DEEP = Depth(due=300, claimed=0, busy_workers=0)


@pytest.fixture
def state() -> OperatorState:
    return OperatorState("imports")


@pytest.fixture
def decisions(state: OperatorState) -> PoolDecisions:
    return PoolDecisions(state)


def pool(**spec: Any) -> WorkerPool:
    template = {"spec": {"containers": [{"name": "worker", "image": "import-worker:1"}]}}
    return parse_worker_pool({"metadata": {"name": "fast"}, "spec": {"template": template, **spec}})


def deployment(replicas: int) -> Mapping[str, Any]:
    return {"spec": {"replicas": replicas}}


async def decide(
    decisions: PoolDecisions, depth: Depth | None, now: float = 1000.0, *, replicas: int = 2, **spec: Any
) -> PoolDecision:
    return await decisions.decide(pool(**spec), deployment(replicas), depth, ScalingHistory(), now)


def note(decisions: PoolDecisions, before: int, made: PoolDecision) -> None:
    decisions.note("fast", before, made.decision.replicas, made)


async def test_one_that_waits_for_drains_is_not_kept_at_each_look(
    state: OperatorState, decisions: PoolDecisions
) -> None:
    for look in range(20):
        made = await decide(decisions, DEEP, 1000.0 + look / 4)
        decisions.note("fast", 2, 2, made)
    assert len(state.scaling.decisions) == 1


async def test_a_change_is_kept_with_what_it_was_made_of(
    state: OperatorState, decisions: PoolDecisions
) -> None:
    made = await decide(decisions, DEEP)
    note(decisions, 2, made)
    (kept,) = state.scaling.decisions
    assert (kept.pool, kept.before, kept.replicas, kept.reason) == ("fast", 2, 30, "DepthRose")
    assert kept.inputs == made.inputs.to_json()
    assert state.scaling.decisions_made.is_set()


async def test_what_has_not_changed_is_not_kept(state: OperatorState, decisions: PoolDecisions) -> None:
    for second in range(20):
        note(decisions, 2, await decide(decisions, QUIET, 1000.0 + second))
    assert [kept.reason for kept in state.scaling.decisions] == ["Steady"]


async def test_reasons_that_come_and_go_are_kept_now_and_then_and_changes_always(
    state: OperatorState, decisions: PoolDecisions
) -> None:
    for look in range(40):
        depth = QUIET if look % 2 else None
        note(decisions, 2, await decide(decisions, depth, 1000.0 + look / 4))
    assert 1 < len(state.scaling.decisions) <= 1 + 10 / REASON_SECONDS
    before = len(state.scaling.decisions)
    note(decisions, 2, await decide(decisions, DEEP, 1010.0))
    note(decisions, 20, await decide(decisions, DEEP, 1010.25, replicas=20))
    assert [kept.before for kept in list(state.scaling.decisions)[before:]] == [2, 20]


async def test_how_long_the_depth_is_unknown_is_counted_anew_each_time(decisions: PoolDecisions) -> None:
    seconds = [
        (await decide(decisions, depth, now)).inputs.facts.unknown_seconds
        for depth, now in ((None, 10.0), (None, 75.0), (QUIET, 80.0), (None, 90.0), (None, 91.0))
    ]
    assert seconds == [0.0, 65.0, 0.0, 0.0, 1.0]


def expect_runs(state: OperatorState, number: int, *, seconds: float) -> None:
    coming = datetime.now(UTC) + timedelta(seconds=seconds)
    state.scaling.next_starts = {f"schedule-{each}": coming for each in range(number)}


async def test_pools_of_the_default_queue_grow_ahead_of_schedules(
    state: OperatorState, decisions: PoolDecisions
) -> None:
    expect_runs(state, 100, seconds=30)
    made = await decide(decisions, QUIET, time.monotonic())
    assert (made.decision.replicas, made.decision.reason) == (10, ScalingReason.KNOWN_WAVE)
    assert (await decide(decisions, QUIET, time.monotonic(), queue="another")).inputs.facts.waves == ()


async def test_by_the_measured_start_of_a_worker(state: OperatorState, decisions: PoolDecisions) -> None:
    expect_runs(state, 100, seconds=400)
    state.scaling.start_times = {"fast": StartTimes((5.0,)), "slow": StartTimes((450.0,))}
    made = await decide(decisions, QUIET, time.monotonic())
    assert made.inputs.facts.lead_seconds == 5.0
    assert (made.inputs.facts.waves != (), made.decision.replicas) == (True, 2), "known, and not yet"


async def test_no_wave_is_expected_while_intake_is_stopped(
    state: OperatorState, decisions: PoolDecisions
) -> None:
    expect_runs(state, 100, seconds=30)
    stopped = QueueState(intake=IntakeState(intake=Intake(stopped=True)))
    state.queues["product-imports"] = stopped
    assert (await decide(decisions, QUIET, time.monotonic())).decision.replicas == 2


async def test_what_is_gone_is_forgotten(decisions: PoolDecisions) -> None:
    note(decisions, 2, await decide(decisions, None))
    decisions.keep([])
    assert (await decide(decisions, None, 5000.0)).inputs.facts.unknown_seconds == 0.0
