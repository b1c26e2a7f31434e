"""Who leads: by changes of the Lease and our own clock, never by the times that are written in it."""

import pytest

from import_core.domain.leadership import (
    LEASE_SECONDS,
    RENEW_SECONDS,
    Candidacy,
    LeaseAction,
    LeaseView,
    decide,
)

TEN = 10.0
TAKEOVER_SECONDS = 15.0
"""docs/reference/lifecycle.md: from a leader's death until a standby leads."""


def lease(holder: str, version: str = "1") -> LeaseView:
    return LeaseView(holder, version, TEN)


def standby(seen: LeaseView | None, now: float = 0.0) -> Candidacy:
    return Candidacy("me").after_look(seen, now)


def test_no_lease_is_created() -> None:
    assert decide(standby(None), 0.0) is LeaseAction.CREATE


def test_lease_of_another_is_waited_for() -> None:
    candidacy = standby(lease("other"))
    assert decide(candidacy, 9.9) is LeaseAction.WAIT


def test_lease_that_is_not_renewed_is_taken() -> None:
    candidacy = standby(lease("other")).after_look(lease("other"), 8.0)
    assert decide(candidacy, 10.0) is LeaseAction.TAKE


def test_renewal_starts_the_wait_anew() -> None:
    candidacy = standby(lease("other")).after_look(lease("other", "2"), 8.0)
    assert decide(candidacy, 17.9) is LeaseAction.WAIT
    assert decide(candidacy, 18.0) is LeaseAction.TAKE


@pytest.mark.parametrize("tenths", range(int(RENEW_SECONDS * 10) + 1))
def test_takeover_comes_in_time_however_the_looks_fall(tenths: int) -> None:
    """The leader renews at 0 and dies; the standby looks so long after it for the first time, then by its clock."""
    before, last = (LeaseView("other", version, LEASE_SECONDS) for version in ("before", "last"))
    now = tenths / 10
    candidacy = standby(before, now - RENEW_SECONDS).after_look(last, now)
    while decide(candidacy, now) is LeaseAction.WAIT:
        now += RENEW_SECONDS
        candidacy = candidacy.after_look(last, now)
    assert decide(candidacy, now) is LeaseAction.TAKE
    assert LEASE_SECONDS <= now < TAKEOVER_SECONDS


def test_lease_given_back_is_taken_at_once() -> None:
    assert decide(standby(lease("")), 0.0) is LeaseAction.TAKE


def test_own_lease_is_renewed_even_when_late() -> None:
    candidacy = Candidacy("me").after_write(lease("me"), 0.0, asked_at=0.0).after_look(lease("me"), 500.0)
    assert candidacy.leading
    assert decide(candidacy, 1000.0) is LeaseAction.RENEW


def test_leader_steps_down_only_for_another_holder() -> None:
    leading = Candidacy("me").after_write(lease("me"), 0.0, asked_at=0.0)
    assert decide(leading.after_look(lease("other", "2"), 5.0), 5.0) is LeaseAction.STEP_DOWN
    assert decide(leading.after_look(None, 5.0), 5.0) is LeaseAction.CREATE
    assert decide(leading.after_look(lease("", "2"), 5.0), 5.0) is LeaseAction.TAKE


def test_looking_does_not_make_a_leader() -> None:
    assert not standby(lease("me")).leading
    assert Candidacy("me").after_write(lease("me"), 0.0, asked_at=0.0).after_look(None, 1.0).leading


def test_leader_is_sure_only_shortly_after_it_asked_for_a_renewal() -> None:
    leading = Candidacy("me").after_write(lease("me"), 3.0, asked_at=1.0)
    assert leading.is_sure(5.9)
    assert not leading.is_sure(6.0), "a standby may take the Lease while it still commits"
    looked = leading.after_look(lease("me", "2"), 7.0)
    assert not looked.is_sure(7.0), "a renewal whose answer was lost may be older than the look"
    assert not standby(lease("me")).is_sure(0.0)
