"""Kept decisions: read as they were written, and no more of them than may be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.decisions import DecisionStore, RecordedDecision
from import_core.domain.pool_scaling import PoolFacts, PoolWishes, ScalingInputs
from import_core.domain.scaling import Observation, ScalingHistory, ScalingSpec

NOW = datetime.now(UTC)
SPEC = ScalingSpec(
    minimum=2, maximum=50, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
)
# Numbers that have no end in binary: they must come back bit by bit.
INPUTS = ScalingInputs(
    PoolWishes(SPEC),
    PoolFacts(Observation(2, 500, 0), unknown_seconds=0.1 + 0.2),
    ScalingHistory(((1 / 3, 2),), 123456.789012345, 2),
    123456.789012345678,
)
DECISION = RecordedDecision("fast", NOW, 1, 2, 50, 50, 50, "DepthRose", INPUTS.to_json())


async def test_what_was_kept_comes_back_exactly(database: Database) -> None:
    store = DecisionStore(database)
    held = replace(DECISION, replicas=2, need=None, reason="DepthUnknown")
    await store.add("imports", [DECISION, held])
    await store.add("imports", [replace(DECISION, pool="slow")])
    await store.add("elsewhere", [DECISION])
    found = await store.read("imports", "fast", since=None, limit=10)
    assert found == [DECISION, held]
    assert ScalingInputs.from_json(found[0].inputs) == INPUTS
    assert await store.read("imports", "fast", since=None, limit=1) == [held], "the newest"
    assert await store.read("imports", "fast", since=NOW + timedelta(seconds=1), limit=10) == []


async def test_old_ones_and_those_above_a_pools_share_go(database: Database) -> None:
    store = DecisionStore(database)
    old = replace(DECISION, decided_at=NOW - timedelta(days=8))
    await store.add("imports", [old, *(replace(DECISION, before=number) for number in range(5))])
    await store.add("imports", [replace(DECISION, pool="slow")] * 3)
    assert await store.prune(of_a_pool=3) == 3
    assert [each.before for each in await store.read("imports", "fast", since=None, limit=10)] == [2, 3, 4]
    assert len(await store.read("imports", "slow", since=None, limit=10)) == 3
    assert await store.prune(of_a_pool=3) == 0
