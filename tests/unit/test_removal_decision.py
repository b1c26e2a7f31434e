"""Which products are archived because they are gone from the source, and when a person is asked first."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.failures import Fail, decide_after_error
from import_core.domain.jobs import JobRow, JobState, ObjectReference
from import_core.domain.projection import project
from import_core.domain.removals import (
    Archive,
    Ask,
    Nothing,
    decide_removals,
    describe_removals,
    is_confirmed,
    not_confirmed,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROW = JobRow(
    "uid-1",
    "acme",
    "acme-shopify",
    JobState.IN_PROGRESS,
    "imports",
    NOW,
    origin=ObjectReference("shops", "nightly", "uid-1"),
    generation=3,
)
PRESENT = st.integers(0, 20_000)
PERCENT = st.integers(0, 100)


def test_a_listing_shorter_than_the_sources_own_count_keeps_everything() -> None:
    for confirmed in (False, True):
        assert decide(2, 100, confirmed=confirmed, unlisted=3) == Nothing(2, 0, 3)
    assert describe_removals(0, Nothing(2, 0, 3)) == (
        "2 products not seen at the source are kept: it counts 3 products that it did not list"
    )
    assert describe_removals(0, Nothing(1, 2, 1)) == (
        "1 product not seen at the source is kept: it counts 1 product that it did not list, and 2 products of"
        " the source could not be told by id"
    )


def decide(missing: int, present: int, max_percent: int = 20, **values) -> Archive | Ask | Nothing:
    defaults = {"confirmed": False, "unidentified_failures": 0}
    return decide_removals(
        missing=missing, present=present, max_percent=max_percent, **{**defaults, **values}
    )


@pytest.mark.parametrize(
    ("missing", "present", "max_percent", "wanted"),
    [
        (0, 0, 20, Nothing()),
        (0, 100, 0, Nothing()),
        (20, 100, 20, Archive(20)),
        (21, 100, 20, Ask(21, 100, 20)),
        (21, 104, 20, Ask(21, 104, 20)),  # 20.2 percent, which whole numbers would round to 20
        (1, 20_000, 0, Ask(1, 20_000, 0)),
        (100, 100, 99, Ask(100, 100, 99)),
        (100, 100, 100, Archive(100)),
        (1, 1, 20, Ask(1, 1, 20)),
    ],
)
def test_more_than_the_share_is_asked_about(missing, present, max_percent, wanted) -> None:
    assert decide(missing, present, max_percent) == wanted


def test_an_empty_catalogue_asks() -> None:
    assert decide(500, 500) == Ask(500, 500, 20)


@given(PRESENT, PRESENT, PERCENT)
def test_a_confirmed_removal_is_never_asked_about(one, other, max_percent) -> None:
    missing, present = sorted((one, other))
    wanted = Archive(missing) if missing else Nothing()
    assert decide(missing, present, max_percent, confirmed=True) == wanted


@given(PRESENT, PRESENT, PERCENT, st.integers(1, 50), st.booleans())
def test_an_unknown_product_keeps_everything(one, other, max_percent, unknown, confirmed) -> None:
    missing, present = sorted((one, other))
    decision = decide(missing, present, max_percent, confirmed=confirmed, unidentified_failures=unknown)
    assert decision == (Nothing(missing, unknown) if missing else Nothing())


@given(PRESENT, PRESENT, PERCENT)
def test_without_a_word_no_more_than_the_share_goes(one, other, max_percent) -> None:
    missing, present = sorted((one, other))
    decision = decide(missing, present, max_percent)
    exceeds = missing / present > max_percent / 100 + 1e-9 if present else False
    if isinstance(decision, Archive):
        assert decision.products == missing > 0
        assert not exceeds
    elif isinstance(decision, Ask):
        assert missing / present > max_percent / 100 - 1e-9
    else:
        assert missing == 0


@given(PRESENT, PRESENT, PERCENT, PRESENT)
def test_what_was_begun_is_finished_without_asking(one, other, max_percent, done) -> None:
    """A worker that died between two batches: archived products are neither missing nor present any more."""
    missing, present = sorted((one, other))
    done = min(done, missing)
    if isinstance(decide(missing, present, max_percent), Archive):
        rest = decide(missing - done, present - done, max_percent)
        assert rest == (Archive(missing - done) if missing > done else Nothing())


@given(PRESENT, PRESENT, PERCENT, PERCENT)
def test_a_higher_share_never_asks_more(one, other, low, high) -> None:
    missing, present = sorted((one, other))
    low, high = sorted((low, high))
    if isinstance(decide(missing, present, high), Ask):
        assert isinstance(decide(missing, present, low), Ask)


@pytest.mark.parametrize(("confirmed", "wanted"), [(None, False), (2, False), (3, True), (4, False)])
def test_a_word_counts_for_its_generation_only(confirmed, wanted) -> None:
    assert is_confirmed(replace(ROW, confirmed_removals=confirmed)) is wanted


def test_the_question_names_the_numbers_and_the_command() -> None:
    error = not_confirmed(ROW, Ask(1_200, 3_000, 20))
    assert error.message == (
        "1,200 of the connection's 3,000 products are gone from the source, more than removed.maxPercent (20 %)"
        " allows; nothing was archived. If this is right, confirm it: kubectl annotate importjob nightly"
        " --namespace shops --overwrite imports.avnz.io/confirm-removals=3"
    )
    assert decide_after_error(error, attempt=0, spread=0.5) == Fail("RemovalsNotConfirmed", error.message)


def test_the_object_shows_the_whole_question_in_its_condition() -> None:
    name, namespace = "n" * 253, "s" * 63  # as long as Kubernetes allows
    origin = ObjectReference(namespace, name, "uid-1")
    error = not_confirmed(replace(ROW, origin=origin), Ask(19_999, 20_000, 100))
    fail = decide_after_error(error, attempt=0, spread=0.5)
    assert isinstance(fail, Fail)
    row = replace(ROW, state=JobState.FAILED, failure_reason=fail.reason, message=fail.message)
    patch = project({"metadata": {"generation": 3}}, row, None, NOW)
    assert patch is not None
    failed = next(item for item in patch.status["conditions"] if item["type"] == "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "RemovalsNotConfirmed")
    assert failed["message"] == patch.status["message"] == error.message
    assert failed["message"].endswith("imports.avnz.io/confirm-removals=3")


def test_a_generation_that_was_confirmed_before_is_told_of_no_command_that_is_refused() -> None:
    message = not_confirmed(replace(ROW, confirmed_removals=-3), Ask(2, 3, 20)).message
    assert "confirm-removals" not in message
    assert "change the spec" in message
    assert "imports.avnz.io/retry" in message
    earlier = not_confirmed(replace(ROW, confirmed_removals=-2), Ask(2, 3, 20)).message
    assert "confirm-removals=3" in earlier, "another generation was"


def test_a_job_without_an_object_is_told_of_no_annotation() -> None:
    message = not_confirmed(replace(ROW, origin=None), Ask(2, 3, 20)).message
    assert "kubectl" not in message
    assert "higher removed.maxPercent" in message


@pytest.mark.parametrize(
    ("archived", "kept", "wanted"),
    [
        (0, None, None),
        (0, Nothing(), None),
        (1, None, "1 product archived, gone from the source"),
        (3_000, None, "3,000 products archived, gone from the source"),
        (
            0,
            Nothing(1, 2),
            "1 product not seen at the source is kept: 2 products of the source could not be told by id",
        ),
        (
            0,
            Nothing(5, 1),
            "5 products not seen at the source are kept: 1 product of the source could not be told by id",
        ),
    ],
)
def test_a_person_is_told_what_was_done(archived, kept, wanted) -> None:
    assert describe_removals(archived, kept) == wanted
