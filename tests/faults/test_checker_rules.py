"""The checker's rules on made-up records: each kind of loss, double or late write is found, and nothing else."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from faults.audit import Audit, ClaimRecord, ItemRecord, PageRecord, StateRecord
from faults.checker import check_blamed, check_claims, check_jobs, check_states, check_statuses, check_tries
from faults.expected import Expectation, JobRecord
from faults.load import Company, Load, choose_owners, is_large
from faults.page_rules import check_items, check_page_counts, check_page_numbers, check_pages
from faults.recovery import (
    after_kills,
    after_loss_of_messages,
    after_standstill,
    kills_that_hit,
    lost_hand_overs,
)
from faults.scenario import faults_without_work
from faults.statuses import History, backward_steps, backward_steps_of_two_runs
from faults.world import Fault

START = datetime(2026, 1, 1, tzinfo=UTC)
COMPANY = Company("c", "shopify", "tiny-2-1-made", 2, 1)
LOAD = Load("made", (COMPANY,), (COMPANY,), 0.0, "http://127.0.0.1:1")
LARGE = replace(COMPANY, kind="roastify", products=45, images=0)
LARGE_LOAD = replace(LOAD, companies=(LARGE,), owners=(LARGE,))
PROGRESS = {"products_total": 2, "products_imported": 2, "images_imported": 2}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def claim(
    number: int, taken: float, ended: float | None, *, pod: str = "p1", by: str = "import-worker p1"
) -> ClaimRecord:
    ended_at = None if ended is None else at(ended)
    return ClaimRecord("j", f"claim-{number}", f"w{number}", pod, number, at(taken), ended_at, by)


def audit(**parts: object) -> Audit:
    empty: dict[str, object] = {"claims": [], "hand_overs": [], "states": [], "pages": [], "items": []}
    return Audit(**{**empty, **parts})  # type: ignore[arg-type]


def job(**changes: object) -> JobRecord:
    done = JobRecord("j", "made-0000", "c", "COMPLETED", 0, 0, 2, at(9), None, None, PROGRESS, 1)
    return replace(done, **changes)  # type: ignore[arg-type]


def page(
    pages: int, seconds: float, *, claim_id: str | None = "claim-1", writer: str = "import-worker p1"
) -> PageRecord:
    progress = {"products_imported": pages}
    return PageRecord("j", pages, progress, at(seconds), claim_id, "77", writer, "p1")


def item(**changes: object) -> ItemRecord:
    written = ItemRecord("Product", "x", "c", "INSERT", "77", "import-worker p1", at(2))
    return replace(written, **changes)  # type: ignore[arg-type]


def test_a_finished_job_with_the_sources_numbers_is_as_promised() -> None:
    assert list(check_jobs([job()], LOAD, Expectation())) == []


def test_a_lost_job_a_double_row_and_every_other_end_are_found() -> None:
    assert "lost" in next(check_jobs([], LOAD, Expectation()))
    assert "2 rows" in next(check_jobs([job(), job()], LOAD, Expectation()))
    for status in ("PENDING", "IN_PROGRESS", "FAILED", "CANCELLED"):
        assert status in next(check_jobs([job(status=status)], LOAD, Expectation()))


def test_wrong_counts_are_found() -> None:
    for wrong in ({"products_imported": 1}, {"products_total": 3}, {"images_imported": 1}):
        assert list(check_jobs([job(progress={**PROGRESS, **wrong})], LOAD, Expectation()))


def test_a_blamed_job_needs_four_deaths() -> None:
    allowed = Expectation(killed_alone=True)
    blamed = job(status="FAILED", reason="WorkerKilled", deaths=4)
    assert list(check_jobs([blamed], LOAD, allowed)) == []
    assert list(check_jobs([replace(blamed, deaths=3)], LOAD, allowed))
    assert list(check_jobs([blamed], LOAD, Expectation()))


def test_blamed_jobs_are_few_and_were_alone() -> None:
    blamed = job(status="FAILED", reason="WorkerKilled", deaths=4)
    others = [job(id=f"o{number}") for number in range(99)]
    alone = replace(claim(4, 6, 7, by="import-operator"), suspected=True)
    assert list(check_blamed([blamed, *others], audit(claims=[claim(3, 4, 5), alone]))) == []
    assert list(check_blamed([blamed, *others], audit(claims=[claim(3, 4, 5)])))
    assert list(check_blamed([blamed, blamed, blamed, *others], audit(claims=[alone])))


def test_tries_and_deaths_are_compared_with_what_was_cut() -> None:
    cut = audit(claims=[claim(1, 0, 1, by="import-operator"), claim(2, 2, 3)])
    assert list(check_tries([job(deaths=1)], cut, Expectation())) == []
    assert list(check_tries([job(deaths=2)], cut, Expectation()))
    assert list(check_tries([job(deaths=0)], cut, Expectation()))
    assert list(check_tries([job(deaths=0)], cut, Expectation(deaths_counted=False))) == []
    assert list(check_tries([job(deaths=1, attempt=1)], cut, Expectation()))


def test_a_hand_over_is_claimed_once_and_claims_never_overlap() -> None:
    assert list(check_claims(audit(claims=[claim(1, 0, 1), claim(2, 1, 2)]))) == []
    assert list(check_claims(audit(claims=[claim(1, 0, 1), claim(1, 2, 3)])))
    assert list(check_claims(audit(claims=[claim(1, 0, 2), claim(2, 1, 3)])))
    assert list(check_claims(audit(claims=[claim(1, 0, None)])))


def test_a_job_ends_once_and_stays_ended() -> None:
    end = StateRecord("j", "IN_PROGRESS", "COMPLETED", at(3), "import-worker p1")
    assert list(check_states(audit(states=[end]))) == []
    assert list(check_states(audit(states=[end, end])))
    assert list(check_states(audit(states=[end, replace(end, before="COMPLETED", after="PENDING")])))


def test_a_page_of_a_worker_without_the_claim_is_found() -> None:
    assert list(check_pages(audit(pages=[page(1, 1), page(2, 2)]))) == []
    assert list(check_pages(audit(pages=[page(1, 1, claim_id=None)])))
    assert list(check_pages(audit(pages=[page(1, 1, writer="import-worker p2")])))
    assert list(check_pages(audit(pages=[page(2, 1), page(1, 2)])))
    ahead = replace(page(1, 1), progress={"products_imported": 2})
    assert list(check_pages(audit(pages=[page(1, 1), ahead])))


def test_items_are_written_once_and_with_their_page() -> None:
    pages, owners = [page(1, 2)], {"j": "c"}
    assert list(check_items(audit(pages=pages, items=[item()]), owners)) == []
    assert list(check_items(audit(pages=pages, items=[item(transaction="78")]), owners))
    assert list(check_items(audit(pages=pages, items=[item(operation="UPDATE")]), owners))
    assert list(check_items(audit(pages=pages, items=[item()]), {"j": "another"}))


def test_pages_follow_each_other_also_over_claims() -> None:
    resumed = [page(1, 1), page(2, 2), page(3, 9, claim_id="claim-2")]
    assert list(check_page_numbers(audit(pages=resumed))) == []
    assert list(check_page_numbers(audit(pages=[page(1, 1), page(3, 2)])))
    assert list(check_page_numbers(audit(pages=[page(2, 1)])))
    from_the_start = [page(1, 1), page(2, 2), page(1, 9, claim_id="claim-2")]
    assert list(check_page_numbers(audit(pages=from_the_start)))


def test_only_the_same_claim_may_write_a_page_again_as_it_was() -> None:
    assert list(check_page_numbers(audit(pages=[page(1, 1), page(1, 2)])))
    assert list(check_page_numbers(audit(pages=[page(1, 1), page(1, 2)]), repeats=True)) == []
    other = replace(page(1, 2), progress={"products_imported": 2})
    assert list(check_page_numbers(audit(pages=[page(1, 1), other]), repeats=True))
    stolen = page(1, 2, claim_id="claim-2")
    assert list(check_page_numbers(audit(pages=[page(1, 1), stolen]), repeats=True))


def test_pages_of_a_second_run_are_not_those_of_the_first() -> None:
    again = StateRecord("j", "COMPLETED", "PENDING", at(5), "import-operator")
    assert list(check_page_numbers(audit(pages=[page(1, 1), page(2, 6), page(2, 7)], states=[again]))) == []
    assert list(check_page_numbers(audit(pages=[page(1, 1), page(1, 2)], states=[again])))


def test_a_job_has_the_pages_of_its_catalogue() -> None:
    three = audit(pages=[page(1, 1), page(2, 2), page(3, 3)])
    assert list(check_page_counts([job(pages=3)], three, LARGE_LOAD, Expectation())) == []
    assert list(check_page_counts([job(pages=2)], three, LARGE_LOAD, Expectation()))
    assert list(check_page_counts([job(pages=3)], three, LOAD, Expectation()))
    assert list(check_page_counts([job(pages=3)], three, LOAD, Expectation(short_pages=True))) == []
    one = audit(pages=[page(1, 1)])
    assert list(check_page_counts([job(pages=1)], one, LARGE_LOAD, Expectation(short_pages=True)))


def test_of_the_companies_half_have_one_job_and_a_fifth_have_several_pages() -> None:
    companies = [replace(COMPANY, id=f"c{number}") for number in range(100)]
    counts = Counter(company.id for company in choose_owners(companies, 350, random.Random(1)))
    assert sum(counts.values()) == 350
    assert sum(number == 1 for number in counts.values()) == 50
    large = [f"c{number}" for number in range(100) if is_large(number)]
    assert len(large) == 20
    assert sum(counts[one] == 1 for one in large) == 16


def history(*statuses: Mapping[str, object]) -> History:
    return History("made-0000", "j", [dict(status) for status in statuses])


def test_an_object_that_says_otherwise_than_its_row_is_found() -> None:
    progress = {"productsTotal": 2, "productsImported": 2, "imagesImported": 2}
    good = {"phase": "Succeeded", "progress": progress}
    assert list(check_statuses([job()], {"j": history(good)}, Expectation())) == []
    assert list(check_statuses([job()], {}, Expectation()))
    assert list(check_statuses([job()], {"j": history({"phase": "Running"})}, Expectation()))
    other = {"phase": "Succeeded", "progress": {**progress, "productsImported": 1}}
    assert list(check_statuses([job()], {"j": history(other)}, Expectation()))


def test_numbers_that_fall_and_ends_that_are_taken_back_are_found() -> None:
    first = {"phase": "Running", "attempts": 1, "startedAt": "a", "progress": {"percent": 50}}
    back = {"phase": "Queued", "attempts": 0, "startedAt": "a", "progress": {"percent": 50}}
    assert list(backward_steps(history(first, back, first, {**first, "phase": "Succeeded"}))) == []
    assert list(backward_steps(history(first, {**first, "progress": {"percent": 40}})))
    assert list(backward_steps(history(first, {**first, "startedAt": "b"})))
    assert list(backward_steps(history({**first, "phase": "Succeeded"}, first)))


def test_an_end_may_be_taken_back_once_where_items_were_retried() -> None:
    end = {"phase": "Succeeded", "progress": {"productsFailed": 1, "imagesImported": 2}}
    queued = {**end, "phase": "Queued"}
    better = {"phase": "Succeeded", "progress": {"productsFailed": 0, "imagesImported": 3}}
    assert list(backward_steps_of_two_runs(history(end, queued, better))) == []
    fell = {"phase": "Running", "progress": {"imagesImported": 3}}
    assert list(backward_steps_of_two_runs(history(fell, end, queued, better)))
    assert list(backward_steps_of_two_runs(history(end, queued, better, queued)))


def test_faults_that_hit_nothing_are_found() -> None:
    fault = Fault("worker killed", at(5), "p1")
    working, submitted = audit(claims=[claim(1, 0, 6)]), {"j": at(0)}
    assert list(faults_without_work(working, [fault], submitted, 1)) == []
    assert list(faults_without_work(working, [], submitted, 1))
    assert list(faults_without_work(working, [fault], submitted, 2))
    assert list(faults_without_work(working, [fault], {"j": None}, 1))
    assert list(faults_without_work(audit(claims=[claim(1, 0, 4)]), [fault], submitted, 1))
    ended = StateRecord("j", "IN_PROGRESS", "COMPLETED", at(4), "import-worker p1")
    assert list(faults_without_work(replace(working, states=[ended]), [fault], submitted, 1))


def test_kills_that_hit_are_counted_once_each() -> None:
    kills = [Fault("worker killed", at(5), "p1"), Fault("worker killed", at(5), "p2")]
    cut = claim(1, 0, 6, by="import-operator")
    two = [cut, replace(cut, job_id="k", claim_id="claim-9")]
    assert kills_that_hit(audit(claims=two), kills) == 1


def test_a_lost_hand_over_is_one_that_nobody_claimed_and_that_was_made_again() -> None:
    hand_overs = [("j", 1, at(4)), ("j", 2, at(9))]
    again = audit(hand_overs=hand_overs, claims=[claim(2, 10, 11)])
    assert lost_hand_overs(again, at(3), at(5)) == ["j"]
    assert lost_hand_overs(again, at(5), at(6)) == []
    assert lost_hand_overs(audit(hand_overs=hand_overs, claims=[claim(1, 5, 6)]), at(3), at(5)) == []


def test_recovery_counts_from_the_kill_to_the_next_claim() -> None:
    kill = Fault("worker killed", at(5), "p1")
    hit = [claim(1, 0, 6, by="import-operator"), claim(2, 8, 9, pod="p2", by="import-worker p2")]
    assert after_kills(audit(claims=hit), [kill]).seconds == (3.0,)
    assert after_kills(audit(claims=hit[:1]), [kill]).not_again == ("j",)
    assert after_kills(audit(claims=[claim(1, 0, 4)]), [kill]).seconds == ()
    handed_back = [claim(1, 0, 6), claim(2, 8, 9, pod="p2")]
    assert after_kills(audit(claims=handed_back), [kill]).seconds == ()


def test_recovery_after_lost_messages_counts_what_was_handed_over_and_not_claimed() -> None:
    fault = Fault("FLUSHALL", at(5))
    hand_overs = [("j", 1, at(4)), ("j", 2, at(7))]
    assert after_loss_of_messages(audit(hand_overs=hand_overs, claims=[claim(2, 8, 9)]), fault).seconds == (
        3.0,
    )
    claimed = audit(hand_overs=hand_overs[:1], claims=[claim(1, 4.5, 9)])
    assert after_loss_of_messages(claimed, fault).seconds == ()


def test_recovery_after_a_standstill_counts_to_the_next_sign_of_life() -> None:
    fault = Fault("PostgreSQL killed", at(5))
    running = audit(claims=[claim(1, 0, 12)], pages=[page(1, 2), page(2, 11)])
    assert after_standstill(running, fault).seconds == (6.0,)
    assert after_standstill(audit(claims=[claim(1, 0, None)]), fault).not_again == ("j",)
