"""Held jobs are let in fairly and only as far as there is room."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.backpressure import Intake, IntakeState, QueueHealth, Thresholds, next_health, room
from import_core.domain.holding import Held, choose_admitted, held_message
from import_core.domain.jobs import Tier

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def state(depth: int, *, stopped: bool = False) -> IntakeState:
    return IntakeState(next_health(QueueHealth(), depth, Thresholds(), NOON), Intake(stopped=stopped))


def held(uid: str, company: str = "acme", tier: Tier = Tier.BASIC, age: float = 0.0) -> Held:
    return Held(uid, company, tier, NOON - timedelta(seconds=age))


def chosen(waiting: list[Held], intake: IntakeState, *, added: int = 0, limit: int = 500) -> list[str]:
    return choose_admitted(waiting, intake, added=added, limit=limit, now=NOON)


def test_nobody_while_intake_is_stopped() -> None:
    assert chosen([held("a", tier=Tier.ENTERPRISE)], state(12_000, stopped=True)) == []


def test_enterprise_alone_while_critical() -> None:
    waiting = [held("basic", age=100), held("large", "large", Tier.ENTERPRISE)]
    assert chosen(waiting, state(6000)) == ["large"]


def test_oldest_first_and_companies_in_turn() -> None:
    waiting = [held(f"big-{n}", "big", age=100 - n) for n in range(50)] + [held("small", "small", age=1)]
    assert chosen(waiting, state(0), limit=3) == ["big-0", "small", "big-1"]


def test_no_more_than_there_is_room_for() -> None:
    waiting = [held(f"{n:03}", age=n) for n in range(100)]
    assert len(chosen(waiting, state(4950), added=20)) == 30


def test_message_says_that_nobody_has_to_do_anything() -> None:
    assert held_message("The queue is full.").startswith("The queue is full. ")
    assert "by itself" in held_message(None)


@given(
    st.integers(0, 12_000),
    st.integers(0, 200),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Tier), st.floats(0, 5000)), max_size=60),
)
def test_rooms_are_kept_by_tier(depth: int, added: int, jobs: list[tuple[str, Tier, float]]) -> None:
    waiting = [held(str(n), company, tier, age) for n, (company, tier, age) in enumerate(jobs)]
    intake = state(depth)
    tiers = {each.uid: each.tier for each in waiting}
    admitted = chosen(waiting, intake, added=added)
    assert len(set(admitted)) == len(admitted)
    for place, uid in enumerate(admitted):
        assert place + added < room(tiers[uid], intake)
    if waiting and len(waiting) + added <= room(Tier.BASIC, intake):
        assert len(admitted) == len(waiting), "nobody is held without need"
