"""When a breaker opens, who probes, and what closes it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.breaker import (
    CLOSED,
    FORCED_LOOK_SECONDS,
    Breaker,
    BreakerPolicy,
    admit,
    after_abandoning,
    after_failure,
    after_success,
    opened_by_hand,
    seconds_until_probe,
)
from import_core.domain.resources.import_provider import BreakerState

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
POLICY = BreakerPolicy(failure_threshold=3, open_seconds=60)
LEASE = 30.0


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def failed(breaker: Breaker = CLOSED, times: int = 1, *, now: datetime = NOW) -> Breaker:
    for _ in range(times):
        breaker = after_failure(breaker, holder=None, policy=POLICY, now=now)
    return breaker


def probing(holder: str = "one", *, now: datetime | None = None) -> Breaker:
    return admit(failed(times=3), holder=holder, now=now or later(60), lease_seconds=LEASE).after


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    assert failed(times=2) == Breaker(failures=2)
    assert failed(times=3) == Breaker(BreakerState.OPEN, 3, opened_at=NOW, probe_at=later(60))


def test_a_success_between_starts_the_count_anew() -> None:
    assert failed(after_success(failed(times=2), holder=None), times=2).state is BreakerState.CLOSED


def test_until_the_probe_no_call_goes_and_then_exactly_one() -> None:
    opened = failed(times=3)
    assert admit(opened, holder="one", now=later(59), lease_seconds=LEASE).wait_seconds == 1
    first = admit(opened, holder="one", now=later(60), lease_seconds=LEASE)
    assert (first.wait_seconds, first.is_probe) == (None, True)
    assert admit(first.after, holder="two", now=later(61), lease_seconds=LEASE).wait_seconds == 29


def test_a_probe_that_succeeds_closes() -> None:
    assert after_success(probing(), holder="one") == CLOSED


def test_a_probe_that_fails_opens_for_another_time_and_the_outage_goes_on() -> None:
    after = after_failure(probing(), holder="one", policy=POLICY, now=later(62))
    assert after == Breaker(BreakerState.OPEN, 4, opened_at=NOW, probe_at=later(122))


def test_a_probe_that_is_not_sent_is_followed_by_another_after_the_usual_time() -> None:
    after = after_abandoning(probing(), holder="one", policy=POLICY, now=later(61))
    assert after == Breaker(BreakerState.OPEN, 3, opened_at=NOW, probe_at=later(121))
    assert admit(after, holder="two", now=later(121), lease_seconds=LEASE).is_probe
    assert after_abandoning(probing("two"), holder="one", policy=POLICY, now=later(61)) == probing("two")


def test_a_prober_that_died_is_followed_by_another_and_has_no_say_any_more() -> None:
    second = admit(probing("one"), holder="two", now=later(91), lease_seconds=LEASE)
    assert second.is_probe
    assert after_success(second.after, holder="one") == second.after
    assert after_failure(second.after, holder="one", policy=POLICY, now=later(92)) == second.after
    assert after_success(second.after, holder="two") == CLOSED


@pytest.mark.parametrize("breaker", [failed(times=3), probing()])
def test_a_call_from_before_it_opened_decides_nothing(breaker: Breaker) -> None:
    assert after_success(breaker, holder=None) == breaker
    assert after_failure(breaker, holder=None, policy=POLICY, now=later(5)) == breaker


def test_what_a_person_opened_stays_open_whatever_happens() -> None:
    forced = opened_by_hand(probing("one"), by="ada", reason="migration", now=later(61))
    assert (forced.state, forced.opened_at, forced.forced_by) == (BreakerState.OPEN, NOW, "ada")
    answer = admit(forced, holder="two", now=later(100_000), lease_seconds=LEASE)
    assert answer.wait_seconds == FORCED_LOOK_SECONDS
    assert after_success(forced, holder="one") == forced
    assert after_failure(forced, holder="one", policy=POLICY, now=later(62)) == forced


def test_counting_ends_somewhere() -> None:
    breaker = Breaker(BreakerState.HALF_OPEN, 1_000_000, NOW, probe_holder="one")
    assert after_failure(breaker, holder="one", policy=POLICY, now=NOW).failures == 1_000_000


@dataclass
class World:
    """Workers that call through one breaker, as fate has it; checks what must always hold."""

    breaker: Breaker = CLOSED
    seconds: float = 0.0
    under_way: dict[str, str | None] = field(default_factory=dict)
    started: int = 0

    @property
    def now(self) -> datetime:
        return later(self.seconds)

    def call(self) -> None:
        before = self.breaker
        self.started += 1
        holder = f"call-{self.started}"
        admission = admit(before, holder=holder, now=self.now, lease_seconds=LEASE)
        if admission.wait_seconds is not None:
            assert admission.wait_seconds > 0
            assert admission.after == before
            return
        if before.state is not BreakerState.CLOSED:
            assert admission.is_probe
            assert not before.is_forced
            lease_is_over = before.probe_until is not None and before.probe_until <= self.now
            assert before.state is BreakerState.OPEN or lease_is_over
            assert before.state is not BreakerState.OPEN or before.probe_at is not None
            assert before.probe_at is None or before.probe_at <= self.now
        self.breaker = admission.after
        self.under_way[holder] = holder if admission.is_probe else None

    def end(self, number: int, how: str) -> None:
        if not self.under_way:
            return
        name = sorted(self.under_way)[number % len(self.under_way)]
        holder, before = self.under_way.pop(name), self.breaker
        if how == "success":
            self.breaker = after_success(before, holder=holder)
        elif how == "failure":
            self.breaker = after_failure(before, holder=holder, policy=POLICY, now=self.now)
        elif holder is not None:
            self.breaker = after_abandoning(before, holder=holder, policy=POLICY, now=self.now)
        if before.state is not BreakerState.CLOSED and self.breaker != before:
            assert holder == before.probe_holder

    def check(self) -> None:
        breaker = self.breaker
        is_closed, is_half_open = (breaker.state is s for s in (BreakerState.CLOSED, BreakerState.HALF_OPEN))
        assert (breaker.opened_at is None) == is_closed
        assert (breaker.probe_holder is None) == (breaker.probe_until is None) == (not is_half_open)
        assert is_closed <= (breaker.failures < POLICY.failure_threshold)
        assert not is_closed or not breaker.is_forced
        # Nothing but a person keeps it open for longer than the policy or a lease.
        if not breaker.is_forced:
            assert seconds_until_probe(breaker, self.now) <= max(POLICY.open_seconds, LEASE)


STEPS = st.one_of(
    st.just(("call",)),
    st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from(["success", "failure", "abandoned"])),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 1.0, 29.0, 31.0, 61.0])),
    st.sampled_from([("open",), ("reset",)]),
)


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_at_most_one_probes_and_only_it_decides(steps: list[tuple[object, ...]]) -> None:
    world = World()
    for step in steps:
        match step:
            case ("call",):
                world.call()
            case ("end", int(number), str(how)):
                world.end(number, how)
            case ("pass", float(seconds)):
                world.seconds += seconds
            case ("open",):
                world.breaker = opened_by_hand(world.breaker, by="ada", reason=None, now=world.now)
            case ("reset",):
                world.breaker = CLOSED
        world.check()
