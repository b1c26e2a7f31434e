"""The checker's rules for steps on made-up records: each thing that is wrong is found, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from faults.expected import Expectation, JobRecord
from faults.load import STEP_CHOICES
from faults.statuses import History
from faults.step_rules import (
    BatchRecord,
    ProductRecord,
    StepRecord,
    check_batches,
    check_enriched,
    check_order,
    check_product_steps,
    check_stores,
)
from import_core.domain.steps import STEPS_IN_ORDER, StepKind

EMBED, CHECK, INDEX = STEPS_IN_ORDER
ASKED: Mapping[str, Collection[StepKind]] = {"c": STEPS_IN_ORDER}
PRODUCT = ProductRecord("p", "c", 1, ("approved",), 1, 1, 1)
FLAGGED = replace(PRODUCT, decisions=("flagged",), documents=0)
DONE = [StepRecord("p", "c", kind.value, "Done", 0, True, None) for kind in STEPS_IN_ORDER]
HALTED = [*DONE[:2], replace(DONE[2], state="Halted", is_current=False)]


def steps(
    *rows: StepRecord, asked: Mapping[str, Collection[StepKind]] = ASKED, most_tries: int = 0
) -> list[str]:
    return list(check_product_steps([PRODUCT], rows, asked, Expectation(most_tries=most_tries)))


def changed(**values: object) -> list[StepRecord]:
    """The last of three rows, otherwise than it should be."""
    return [*DONE[:2], replace(DONE[2], **values)]  # type: ignore[arg-type]


def test_products_that_took_all_their_steps_or_were_halted_are_as_promised() -> None:
    assert steps(*DONE) == []
    assert steps(*HALTED) == []
    assert list(check_order(DONE, [PRODUCT])) == []
    assert list(check_order(HALTED, [FLAGGED])) == []
    assert list(check_stores([PRODUCT], ASKED)) == []
    assert list(check_stores([FLAGGED], ASKED)) == []


def test_a_step_that_was_lost_or_that_nobody_asked_for_is_found() -> None:
    assert "0 rows" in steps(*DONE[:2])[0]
    assert "2 rows" in steps(*DONE, DONE[2])[0]
    assert "nobody asked" in steps(*DONE, asked={"c": [EMBED, CHECK]})[0]
    assert "nobody asked" in steps(*DONE, replace(DONE[0], product="other"))[0]
    assert len(steps(*DONE, asked={})) == 3


def test_a_dead_step_is_always_found() -> None:
    (finding,) = steps(*changed(state="Dead", attempts=4, is_current=False), most_tries=3)
    assert "is dead after 4 tries" in finding


@pytest.mark.parametrize("state", ["Waiting", "Due", "Cancelled", "Discarded"])
def test_a_step_that_has_not_ended_well_is_found(state: str) -> None:
    found = steps(*changed(state=state, batch="PENDING" if state == "Due" else None))
    assert len(found) == 1
    assert state in found[0]


def test_a_step_that_is_done_for_an_earlier_content_is_found() -> None:
    assert "not for what was asked" in steps(*changed(is_current=False))[0]


@pytest.mark.parametrize("batch", [None, "", "COMPLETED", "FAILED", "CANCELLED"])
def test_a_due_step_that_nobody_will_take_is_found(batch: str | None) -> None:
    assert any("in no batch" in finding for finding in steps(*changed(state="Due", batch=batch)))


@pytest.mark.parametrize("state", ["Done", "Dead", "Halted", "Waiting"])
@pytest.mark.parametrize("batch", ["PENDING", "IN_PROGRESS", "COMPLETED", ""])
def test_a_step_that_has_ended_and_is_still_in_a_batch_is_found(state: str, batch: str) -> None:
    assert any("still in a batch" in finding for finding in steps(*changed(state=state, batch=batch)))


def test_a_try_that_was_used_up_is_found_where_none_may_be() -> None:
    assert "1 tries" in steps(*changed(attempts=1))[0]
    assert steps(*changed(attempts=1), most_tries=3) == []


def test_a_product_that_went_on_though_it_was_not_approved_or_was_halted_though_it_was_is_found() -> None:
    assert "not halted" in next(check_order(DONE, [FLAGGED]))
    assert "is halted" in next(check_order(HALTED, [PRODUCT]))
    assert "is halted" in next(check_order([replace(DONE[0], state="Halted")], [PRODUCT]))
    assert list(check_order([DONE[0], DONE[2]], [replace(PRODUCT, decisions=())])) == []


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ({"decisions": ()}, "0 decisions"),
        ({"decisions": ("approved", "approved")}, "2 decisions"),
        ({"texts": 0}, "0 vectors of its text"),
        ({"texts": 2}, "2 vectors of its text"),
        ({"pictures": 0}, "0 vectors of an image"),
        ({"images": 0}, "1 vectors of an image, not 0"),
        ({"documents": 0}, "0 search documents"),
        ({"documents": 2}, "2 search documents"),
        ({"decisions": ("rejected",)}, "1 search documents, not 0"),
        ({"outdated": 1}, "another content"),
    ],
)
def test_a_store_that_has_a_product_not_once_is_found(kept: dict[str, object], says: str) -> None:
    found = list(check_stores([replace(PRODUCT, **kept)], ASKED))  # type: ignore[arg-type]
    assert any(says in finding for finding in found), found


def test_stores_keep_nothing_that_was_not_asked_for() -> None:
    assert len(list(check_stores([PRODUCT], {}))) == 4
    alone = replace(PRODUCT, decisions=(), documents=0)
    assert list(check_stores([alone], {"c": [EMBED]})) == []
    indexed = replace(PRODUCT, decisions=(), texts=0, pictures=0)
    assert list(check_stores([indexed], {"c": [INDEX]})) == []


def test_a_batch_without_its_import_or_that_did_not_complete_is_found() -> None:
    job = JobRecord("b", "made-0000 x", "c", "COMPLETED", 0, 0, 1, None, None, None, None, None)
    assert list(check_batches([BatchRecord(job, "j", "COMPLETED")])) == []
    assert "no import" in next(check_batches([BatchRecord(job, None, "")]))
    assert "no import" in next(check_batches([BatchRecord(job, "gone", "")]))
    for status in ("PENDING", "IN_PROGRESS", "FAILED", "CANCELLED"):
        assert status in next(check_batches([BatchRecord(replace(job, status=status), "j", "COMPLETED")]))


def test_an_object_that_does_not_say_that_its_steps_have_ended_is_found() -> None:
    def history(*statuses: str) -> History:
        return History("a", "j", [{"conditions": [{"type": "Enriched", "status": s}]} for s in statuses])

    assert list(check_enriched(["a"], [history("False", "True")])) == []
    assert list(check_enriched(["a"], [history("True", "False")]))
    assert list(check_enriched(["a"], [History("a", "j", [{}])]))
    assert list(check_enriched(["a"], []))
    assert list(check_enriched([], [])) == []


def test_the_load_asks_for_every_step_alone_or_with_others() -> None:
    assert {kind for choice in STEP_CHOICES for kind in choice} == set(StepKind)
