"""What names a dead letter, what is none, and what to look at for each reason."""

import string
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.dead_letters import (
    LONGEST_ID,
    DeadStep,
    LetterName,
    advice_for,
    item_id,
    letter_id,
    may_pass,
    parse_letter_id,
    why_no_letter,
)
from import_core.domain.errors import JobError, ProductsRefusedError, ProviderRejectedError
from import_core.domain.failures import is_wrong_setup
from import_core.domain.item_errors import GONE_FROM_SOURCE, NO_EXTERNAL_ID
from import_core.domain.jobs import JobState
from import_core.domain.steps import StepKind
from import_core.domain.values import MAX_TEXT_LENGTH
from import_worker.steps.importing import PASSED_ON

IDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=40)
ADDRESS = set(string.ascii_letters + string.digits + "._-")


@given(IDS, st.sampled_from(StepKind))
def test_an_id_names_its_product_and_step_and_fits_an_address(product: str, step: StepKind) -> None:
    text = letter_id(product, step)
    assert set(text) <= ADDRESS
    assert text[0].isalnum()
    named = LetterName(DeadStep(step.value), product_id=product)
    assert parse_letter_id(text) == named


@given(IDS, IDS)
def test_an_id_names_what_an_import_gave_up(job: str, external_id: str) -> None:
    text = item_id(job, external_id)
    assert set(text) <= ADDRESS
    named = LetterName(DeadStep.IMPORT, job_id=job, external_id=external_id)
    assert parse_letter_id(text) == named


def test_every_id_that_an_import_keeps_of_a_product_can_be_named() -> None:
    job, external_id = "j" * 253, "\N{TEAPOT}" * MAX_TEXT_LENGTH
    text = item_id(job, external_id)
    assert parse_letter_id(text) == LetterName(DeadStep.IMPORT, job_id=job, external_id=external_id)
    for kind in StepKind:
        assert parse_letter_id(letter_id(external_id, kind)) == LetterName(
            DeadStep(kind.value), product_id=external_id
        )
    assert parse_letter_id(item_id("j" * LONGEST_ID, external_id)) is None


@given(st.text(max_size=300))
def test_what_names_none_is_told_from_what_does_and_each_has_one_name(text: str) -> None:
    for candidate in (text, f"generate-embedding.{text}", f"import.{text}"):
        parsed = parse_letter_id(candidate)
        if parsed is None:
            continue
        if parsed.step.kind is None:
            assert item_id(parsed.job_id, parsed.external_id) == candidate
        else:
            assert letter_id(parsed.product_id, parsed.step.kind) == candidate


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "generate-embedding",
        "generate-embedding.",
        "wash.cDE",
        "generate-embedding.cDE=",
        "index-product.AA",
        "import.cDE",
        "import.AGEA",
    ],
)
def test_wrong_ids(text: str) -> None:
    assert parse_letter_id(text) is None


def test_a_letter_s_steps_are_the_import_and_those_after_it_in_their_order() -> None:
    assert [step.kind for step in DeadStep] == [None, *StepKind]


def test_advice_follows_the_reason_and_else_whether_another_try_may_help() -> None:
    assert advice_for("NothingToEmbed", retryable=False).field == "title, description"
    assert advice_for("Timeout", retryable=True).field == "installation"
    for reason in (None, "", "NeverHeardOf"):
        assert "retry" in advice_for(reason, retryable=True).fix
        assert "leads nowhere" in advice_for(reason, retryable=False).fix
    of_import = DeadStep.IMPORT
    assert "field mapping" in advice_for("InvalidField", retryable=False, step=of_import).fix
    assert "whole import" in advice_for(NO_EXTERNAL_ID, retryable=False, step=of_import).fix
    assert advice_for("Timeout", retryable=True, step=of_import).field == "source"
    assert "leads nowhere" in advice_for("NeverHeardOf", retryable=False, step=of_import).fix


def kinds_of_error(base: type[JobError] = JobError) -> Iterator[type[JobError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds_of_error(kind)


def test_there_is_no_advice_on_what_kills_no_step() -> None:
    told_of_one_product = {ProviderRejectedError.reason, ProductsRefusedError.reason}
    waits = {
        kind.reason
        for kind in kinds_of_error()
        if is_wrong_setup(kind.__new__(kind)) or issubclass(kind, PASSED_ON)
    }
    assert {"ModelNotUsable", "InvalidCredentials", "StorageRefused", "ProviderThrottled"} <= waits
    for reason in {*waits, "InvalidInput"} - told_of_one_product:
        assert advice_for(reason, retryable=True) == advice_for(None, retryable=True), reason


def test_what_fails_for_the_product_s_own_fault_does_not_pass_by_itself() -> None:
    assert may_pass("fetch", "ProviderUnavailable")
    assert not may_pass("map", "InvalidField")
    for reason in (GONE_FROM_SOURCE, NO_EXTERNAL_ID, "TooLarge"):
        assert not may_pass("fetch", reason)


@pytest.mark.parametrize(
    ("state", "is_old", "word"),
    [
        (JobState.COMPLETED, False, None),
        (JobState.FAILED, False, None),
        (JobState.FAILED, True, "A later import than autumn"),
        (JobState.PENDING, False, "autumn is under way"),
        (JobState.IN_PROGRESS, True, "autumn is under way"),
        (JobState.CANCELLED, False, "autumn was cancelled"),
    ],
)
def test_only_what_the_last_import_gave_up_at_its_end_is_a_dead_letter(
    state: JobState, is_old: bool, word: str | None
) -> None:
    why_not = why_no_letter("autumn", state, is_old=is_old)
    assert (why_not is None) if word is None else (why_not or "").startswith(word)
