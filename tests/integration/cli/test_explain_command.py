"""`kubectl imports explain-scaling`: what was decided, from what, and that the same comes of it again."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cli_world import CliWorld

from import_core.adapters.postgres.decisions import DecisionStore, RecordedDecision
from import_core.domain.drain_time import SizeClass, Work
from import_core.domain.pool_scaling import INPUTS_VERSION, PoolFacts, PoolWishes, ScalingInputs, decide_pool
from import_core.domain.resources.worker_pool import ScalingPolicy
from import_core.domain.scaling import Observation, ScalingHistory, ScalingSpec

SPEC = ScalingSpec(
    minimum=2, maximum=50, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
)


def made(facts: PoolFacts, *, drain: bool = False) -> RecordedDecision:
    """A decision as the operator keeps it."""
    wishes = PoolWishes(SPEC, policy=ScalingPolicy.DRAIN_TIME if drain else ScalingPolicy.QUEUE_DEPTH)
    inputs = ScalingInputs(wishes, facts, ScalingHistory(), 5000.0)
    decision = decide_pool(inputs)
    return RecordedDecision(
        *("fast", datetime.now(UTC), INPUTS_VERSION),
        *(facts.observation.current, decision.replicas, decision.desired, decision.need),
        decision.reason.value,
        inputs.to_json(),
    )


DEEP = made(PoolFacts(Observation(2, 300, 0)))
HELD = made(PoolFacts(Observation(30, None, None)))
LARGE = made(PoolFacts(Observation(2, 80, 5), Work((SizeClass(80, 30_000.0),), rate=10.0)), drain=True)


async def test_decisions_are_shown_and_replayed(cli: CliWorld) -> None:
    now = datetime.now(UTC)
    kept = [
        replace(decision, decided_at=now - timedelta(minutes=minutes))
        for decision, minutes in ((DEEP, 30), (HELD, 20), (LARGE, 10))
    ]
    await DecisionStore(cli.database).add(cli.namespace, kept)
    result = await cli.invoke("explain-scaling", "fast")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == ["AT", "WORKERS", "REASON", "NEED", "FROM", "REPLAY"]
    assert "2 to 30" in lines[1]
    assert "depth 300, 0 running, 2–50" in lines[1]
    assert "depth unknown" in lines[2]
    assert "30,000 products and images at 10/s for a job" in lines[3]
    assert [line.split()[-1] for line in lines[1:4]] == ["same"] * 3
    recent = await cli.invoke("explain-scaling", "fast", "--since", "15m", "-o", "json")
    (decision,) = json.loads(recent.output)["decisions"]
    assert (decision["reason"], decision["same"], decision["replay"]["replicas"]) == ("WorkRose", True, 10)
    assert decision["inputs"] == LARGE.inputs


async def test_a_decision_that_comes_out_differently_is_said(cli: CliWorld) -> None:
    other = replace(DEEP, replicas=31)
    newer = replace(DEEP, version=INPUTS_VERSION + 1)
    await DecisionStore(cli.database).add(cli.namespace, [other, newer])
    result = await cli.invoke("explain-scaling", "fast")
    assert result.exit_code == 1
    assert "30, DepthRose" in result.output
    assert "unreadable" in result.output
    assert "2 of them come out differently now" in result.output


async def test_a_pool_without_decisions(cli: CliWorld) -> None:
    result = await cli.invoke("explain-scaling", "none")
    assert (result.exit_code, "No decision on none is kept" in result.output) == (0, True)
    assert (await cli.invoke("explain-scaling", "none", "--since", "soon")).exit_code == 2
