"""Who leads: by changes of the Lease and our own clock, never by the times that are written in it."""

from import_core.domain.leadership import Candidacy, LeaseAction, LeaseView, decide

TEN = 10.0


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
