"""A rollout's decisions: step by step, judged by enough jobs only, never with fewer workers than needed, and back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.rollout import (
    ROLLED_BACK,
    RolloutDecision,
    RolloutFacts,
    RolloutPhase,
    RolloutReason,
    RolloutSpec,
    RolloutState,
    Step,
    Version,
    Wishes,
    decide,
    share,
    split,
    template_hash,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SPEC = RolloutSpec(
    initial_replicas=2,
    steps=(Step(None, 600), Step(25, 600), Step(100, 0)),
    min_success_percent=90,
    min_jobs=20,
    ready_seconds=600,
)
STABLE = RolloutState("old", "fast-workers")
GOOD = Version(replicas=2, ready=2, succeeded=20)


def facts(**values: Any) -> RolloutFacts:
    defaults: dict[str, Any] = {
        "template": "new",
        "canary_name": "fast-workers-new",
        "total": 20,
        "stable": Version(replicas=18, ready=18, succeeded=200),
        "canary": GOOD,
    }
    return RolloutFacts(**{**defaults, **values})


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def started(**values: Any) -> RolloutState:
    """A rollout whose first workers are ready since noon."""
    begun = decide(STABLE, SPEC, facts(canary=Version()), NOON).state
    return replace(begun, watched_from=NOON, **values)


def run(state: RolloutState, *looks: tuple[float, RolloutFacts]) -> RolloutDecision:
    for seconds, seen in looks:
        decision = decide(state, SPEC, seen, at(seconds))
        state = decision.state
    return decision


def test_a_changed_template_starts_with_two_workers_beside_all_old_ones() -> None:
    decision = decide(STABLE, SPEC, facts(canary=Version()), NOON)
    assert (decision.state.canary, decision.state.step) == ("new", 0)
    assert (decision.stable_replicas, decision.canary_replicas) == (20, 2)
    assert decision.happened == (RolloutReason.STARTED,)
    assert decision.state.stable == "old"


def test_the_same_template_needs_nothing() -> None:
    decision = decide(STABLE, SPEC, facts(template="old"), NOON)
    assert decision == RolloutDecision(STABLE, 20, 0)


def test_old_workers_go_as_new_ones_get_ready() -> None:
    one_ready = decide(started(), SPEC, facts(canary=Version(replicas=2, ready=1)), at(1))
    assert (one_ready.stable_replicas, one_ready.canary_replicas) == (19, 2)
    both_ready = decide(started(), SPEC, facts(), at(1))
    assert (both_ready.stable_replicas, both_ready.canary_replicas) == (18, 2)


def test_the_way_of_a_good_version() -> None:
    watching = decide(started(), SPEC, facts(), at(599))
    assert (watching.state.step, watching.state.reason) == (0, RolloutReason.WATCHING)
    quarter = decide(watching.state, SPEC, facts(), at(600))
    assert (quarter.state.step, quarter.canary_replicas) == (1, 5)
    assert quarter.happened == (RolloutReason.STEPPED,)
    fewer = facts(canary=replace(GOOD, replicas=5, ready=4))
    assert decide(quarter.state, SPEC, fewer, at(2000)).state.reason is RolloutReason.STARTING
    ready = facts(canary=replace(GOOD, replicas=5, ready=5))
    everything = run(quarter.state, (700, ready), (1299, ready), (1300, ready))
    assert (everything.state.step, everything.stable_replicas, everything.canary_replicas) == (2, 15, 20)
    ended = run(everything.state, (1310, facts(canary=replace(GOOD, replicas=20, ready=20))))
    assert ended.state == RolloutState("new", "fast-workers-new")
    assert ended.happened == (RolloutReason.COMPLETED,)
    assert (ended.stable_replicas, ended.canary_replicas) == (20, 0)


def test_a_step_waits_for_jobs_and_for_numbers_that_can_be_read() -> None:
    few = facts(canary=replace(GOOD, succeeded=19))
    assert decide(started(), SPEC, few, at(10_000)).state.reason is RolloutReason.AWAITING_JOBS
    unknown = facts(canary=Version(replicas=2, ready=2, restarts=9), jobs_known=False)
    decision = decide(started(), SPEC, unknown, at(10_000))
    assert (decision.state.step, decision.state.reason) == (0, RolloutReason.JOBS_UNKNOWN)


def test_without_workers_to_watch_it_waits() -> None:
    decision = decide(started(), SPEC, facts(total=0, canary=Version()), at(10_000))
    assert (decision.state.reason, decision.canary_replicas) == (RolloutReason.NO_WORKERS, 0)


def test_time_without_workers_is_no_time_to_get_ready() -> None:
    nobody = facts(total=0, stable=Version(), canary=Version())
    begun = decide(STABLE, SPEC, nobody, NOON).state
    starting = facts(total=1, stable=Version(), canary=Version(replicas=1))
    decision = run(
        begun, (1, nobody), (10_000, facts(total=1, stable=Version(), canary=Version())), (10_001, starting)
    )
    assert decision.state.canary == "new"
    assert run(decision.state, (10_700, starting)).state.reason is RolloutReason.NOT_READY


def test_promoting_does_not_try_again_what_the_api_server_refuses() -> None:
    promoted = Wishes(promote="new")
    refused = facts(canary=Version(), refused="no such field", wishes=promoted)
    back = decide(started(), SPEC, refused, at(1))
    assert back.state.reason is RolloutReason.REFUSED
    assert decide(back.state, SPEC, facts(canary=Version(), wishes=promoted), at(2)).happened == ()


@pytest.mark.parametrize(
    ("succeeded", "failed", "back"),
    [(0, 19, False), (18, 2, False), (17, 3, True), (0, 20, True)],
    ids=["too few jobs", "90 %", "85 %", "none"],
)
def test_below_the_wanted_success_it_goes_back(succeeded: int, failed: int, back: bool) -> None:
    seen = facts(canary=replace(GOOD, succeeded=succeeded, failed=failed))
    decision = decide(started(), SPEC, seen, at(5))
    assert (decision.state.phase is RolloutPhase.ROLLED_BACK) is back
    if back:
        assert decision.state.reason is RolloutReason.LOW_SUCCESS
        assert (decision.stable_replicas, decision.canary_replicas) == (20, 0)
        assert f"{succeeded} of 20" in decision.state.message


def test_it_is_not_to_blame_for_what_fails_with_the_old_version_as_well() -> None:
    outage = facts(
        stable=Version(replicas=18, ready=18, succeeded=60, failed=40),
        canary=replace(GOOD, succeeded=12, failed=8),
    )
    decision = decide(started(), SPEC, outage, at(10_000))
    assert (decision.state.step, decision.state.reason) == (0, RolloutReason.BOTH_FAIL)
    unknown_old = replace(outage, stable=Version(replicas=18, ready=18, succeeded=6, failed=4))
    assert decide(started(), SPEC, unknown_old, at(5)).state.reason is RolloutReason.LOW_SUCCESS


def test_workers_that_restart_end_it() -> None:
    fresh = decide(STABLE, SPEC, facts(canary=Version()), NOON).state
    crashing = facts(canary=Version(replicas=2, restarts=3))
    decision = decide(fresh, SPEC, crashing, at(5))
    assert decision.state.reason is RolloutReason.RESTARTS
    assert "restarted 3 times" in decision.state.message
    everywhere = replace(crashing, stable=Version(replicas=18, ready=9, restarts=27))
    assert decide(fresh, SPEC, everywhere, at(5)).state.canary == "new"
    large = facts(canary=Version(replicas=20, ready=20, succeeded=20, restarts=19))
    assert decide(started(step=2), SPEC, large, at(5)).state.phase is not RolloutPhase.ROLLED_BACK


def test_workers_that_never_get_ready_end_it() -> None:
    fresh = decide(STABLE, SPEC, facts(canary=Version()), NOON).state
    stuck = facts(canary=Version(replicas=2))
    assert decide(fresh, SPEC, stuck, at(600)).state.canary == "new"
    assert decide(fresh, SPEC, stuck, at(601)).state.reason is RolloutReason.NOT_READY
    assert decide(started(), SPEC, stuck, at(601)).state.canary == "new", "they were ready once"


def test_what_was_rolled_back_is_not_tried_again_before_the_template_changes() -> None:
    bad = decide(started(), SPEC, facts(refused="no such volume"), at(5))
    assert bad.state.reason is RolloutReason.REFUSED
    again = decide(bad.state, SPEC, facts(canary=Version()), at(99_999))
    assert again == RolloutDecision(bad.state, 20, 0)
    other = decide(bad.state, SPEC, facts(template="newer", canary=Version()), at(6))
    assert (other.state.canary, other.state.rolled_back) == ("newer", None)
    healed = decide(bad.state, SPEC, facts(template="old", canary=Version()), at(6))
    assert healed.state == STABLE
    assert decide(healed.state, SPEC, facts(canary=Version()), at(7)).state.canary == "new"


def test_a_template_that_changes_on_the_way_ends_it() -> None:
    back = decide(started(), SPEC, facts(template="old"), at(5))
    assert back.state == STABLE
    assert back.happened == (RolloutReason.SUPERSEDED,)
    newer = decide(started(step=1), SPEC, facts(template="newer"), at(5))
    assert (newer.state.canary, newer.state.step) == ("newer", 0)
    assert newer.happened == (RolloutReason.SUPERSEDED, RolloutReason.STARTED)


def test_a_pause_holds_steps_and_beginnings_but_not_the_way_back() -> None:
    paused = Wishes(paused=True)
    held = decide(started(), SPEC, facts(wishes=paused), at(10_000))
    assert (held.state.phase, held.state.step) == (RolloutPhase.PAUSED, 0)
    assert decide(held.state, SPEC, facts(), at(10_001)).state.step == 1
    waits = decide(STABLE, SPEC, facts(wishes=paused, canary=Version()), NOON)
    assert (waits.state.phase, waits.state.canary, waits.canary_replicas) == (RolloutPhase.PAUSED, None, 0)
    assert decide(waits.state, SPEC, facts(canary=Version()), at(1)).state.canary == "new"
    failing = facts(wishes=paused, canary=replace(GOOD, succeeded=0, failed=20))
    assert decide(held.state, SPEC, failing, at(10_000)).state.phase is RolloutPhase.ROLLED_BACK


def test_promoting_takes_all_steps_at_once_and_asks_no_jobs() -> None:
    wishes = Wishes(paused=True, promote="new")
    failing = facts(wishes=wishes, canary=Version(replicas=2, ready=2, failed=50, restarts=50))
    decision = decide(started(), SPEC, failing, at(1))
    assert (decision.state.step, decision.state.phase) == (2, RolloutPhase.PROMOTING)
    assert (decision.stable_replicas, decision.canary_replicas) == (18, 20), "none goes before one is ready"
    assert decision.happened == (RolloutReason.PROMOTED,)
    ended = decide(decision.state, SPEC, facts(wishes=wishes, canary=Version(replicas=20, ready=20)), at(2))
    assert ended.state == RolloutState("new", "fast-workers-new")
    other = decide(started(), SPEC, facts(wishes=Wishes(promote="another")), at(1))
    assert other.state.step == 0


def test_promoting_tries_again_what_was_rolled_back() -> None:
    bad = decide(started(), SPEC, facts(wishes=Wishes(abort="new")), at(5)).state
    assert bad.reason is RolloutReason.ABORTED
    assert decide(bad, SPEC, facts(wishes=Wishes(promote="new")), at(6)).state.canary == "new"


def test_a_hash_names_one_template_of_one_pool() -> None:
    template = {"spec": {"containers": [{"name": "worker", "image": "w:1"}]}}
    known = template_hash("imports", "fast", template)
    assert known == template_hash("imports", "fast", dict(reversed(template.items())))
    assert known != template_hash("imports", "slow", template)
    assert known != template_hash("imports", "fast", {"spec": {"containers": []}})
    assert len(known) == 10


versions = st.builds(
    Version,
    replicas=st.integers(0, 60),
    ready=st.integers(0, 60),
    restarts=st.integers(0, 5),
    succeeded=st.integers(0, 40),
    failed=st.integers(0, 8),
)
wishes = st.builds(
    Wishes,
    paused=st.booleans(),
    promote=st.sampled_from([None, None, None, "a", "b"]),
    abort=st.sampled_from([None, None, None, "b"]),
)
looks = st.builds(
    RolloutFacts,
    template=st.sampled_from(["a", "b", "b", "b", "c"]),
    canary_name=st.just("name"),
    total=st.integers(0, 50),
    stable=versions,
    canary=versions,
    jobs_known=st.booleans(),
    refused=st.sampled_from([None, None, None, None, "no"]),
    wishes=wishes,
)
specs = st.builds(
    RolloutSpec,
    initial_replicas=st.integers(1, 5),
    steps=st.sampled_from(
        [
            (Step(None, 0), Step(100, 0)),
            (Step(None, 5), Step(25, 5), Step(100, 0)),
            (Step(None, 0), Step(1, 1), Step(50, 0), Step(100, 9)),
        ]
    ),
    min_success_percent=st.integers(0, 100),
    min_jobs=st.integers(0, 30),
    ready_seconds=st.sampled_from([1.0, 20.0]),
)


@given(specs, st.lists(looks, min_size=1, max_size=20))
def test_whatever_is_seen(spec: RolloutSpec, seen: list[RolloutFacts]) -> None:
    """Enough workers at every moment, no judgement before the minimum, back always to the version before."""
    state, now = RolloutState("a", "first"), NOON
    for look in seen:
        before, now = state, now + timedelta(seconds=3)
        decision = decide(before, spec, look, now)
        state = decision.state
        ready = min(look.canary.ready, decision.canary_replicas)
        assert decision.stable_replicas + ready >= look.total
        assert decision.canary_replicas <= look.total
        enough = look.canary.ended >= max(1, spec.min_jobs) and look.jobs_known
        if RolloutReason.LOW_SUCCESS in decision.happened:
            assert enough
        if RolloutReason.STEPPED in decision.happened:
            assert look.jobs_known
            assert look.canary.ended >= spec.min_jobs
            assert not look.wishes.paused
        if state.stable != before.stable:
            assert state.stable == before.canary == look.template
            assert decision.happened[-1] is RolloutReason.COMPLETED
            assert look.canary.ready >= look.total
        if ROLLED_BACK & set(decision.happened):
            assert state.stable == before.stable
            assert (state.canary, state.rolled_back) == (None, look.template)
            assert decision.stable_replicas == look.total
        if before.canary == state.canary is not None:
            assert state.step >= before.step


@given(specs, st.integers(0, 200), st.integers(0, 200))
def test_shares_grow_to_all_and_lose_nobody(spec: RolloutSpec, total: int, ready: int) -> None:
    shares = [share(spec, step, total) for step in range(len(spec.steps))]
    assert shares == sorted(shares)
    assert shares[-1] == total
    for wanted in shares:
        stable, canary = split(total, wanted, ready)
        assert canary == wanted
        assert stable + min(ready, canary) == total
        assert stable + canary >= total
