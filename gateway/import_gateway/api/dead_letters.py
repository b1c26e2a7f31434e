"""Dead letters over HTTP: which there are and why, and what a person decides on them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from import_core.adapters.dead_letters import Done, Note, Position
from import_core.adapters.postgres.dead_letters import DeadPosition, StepView
from import_core.adapters.postgres.failed_items import ItemPosition
from import_core.domain.dead_letters import (
    DeadFilter,
    DeadLetter,
    DeadStep,
    LetterAction,
    LetterName,
    advice_for,
    parse_letter_id,
    why_no_letter,
)
from import_core.domain.errors import InvalidInputError, ObjectNotFoundError
from import_core.domain.steps import StepState
from import_core.observability.logs import get_logger
from import_gateway.api.dead_letter_models import (
    DeadLetterChoice,
    DeadLetterDetail,
    DeadLetterPage,
    DeadLetterReason,
    DeadLetterReasons,
    DeadLettersChanged,
    DeadLettersQuery,
    DeadLettersRequest,
    DeadLetterView,
    ProductOfLetter,
    StepOfProduct,
)
from import_gateway.api.operation import Call, get_json_response
from import_gateway.api.problems import CONFLICT, ProblemError
from import_gateway.api.reading import read_body, read_query, read_text, write_text

log = get_logger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 10**16 - 1
"""Microseconds that a cursor has room for; beyond any time that is kept."""
_EVENTS = {
    LetterAction.RETRY: "dead_letters.retried",
    LetterAction.DISCARD: "dead_letters.discarded",
}
_NO_MORE = "It is no dead letter any more: somebody else was faster, or it was imported anew"


async def list_dead_letters(call: Call) -> Response:
    """Answer a page of dead letters: steps first, those that died last before others."""
    query = read_query(call.request, DeadLettersQuery)
    letters, following = await call.services.dead_letters.page(
        await _filter(call, query), after=_position(query.cursor), limit=query.limit
    )
    return get_json_response(
        DeadLetterPage(
            items=[DeadLetterView(**_values(letter)) for letter in letters],
            next=_cursor(following),
        )
    )


async def list_reasons(call: Call) -> Response:
    """Answer why they died, and what to do about it."""
    query = read_query(call.request, DeadLetterChoice)
    letters = call.services.dead_letters
    now = await letters.steps.now()
    found = await letters.reasons(await _filter(call, query, until=now))
    items = []
    for row in found.reasons:
        advice = advice_for(row.reason, retryable=row.retryable, step=row.step)
        items.append(
            DeadLetterReason(
                step=row.step.value,
                reason=row.reason,
                count=row.count,
                newest_at=row.newest_at,
                retryable=row.retryable,
                field=advice.field,
                fix=advice.fix,
            )
        )
    return get_json_response(
        DeadLetterReasons(
            items=items,
            more=found.more_reasons,
            total=found.total,
            is_at_least=not found.counted_all,
            as_of=_moment(now),
        )
    )


async def get_dead_letter(call: Call) -> Response:
    """Answer one dead letter, with its product and how that one's steps stand."""
    letter, why_not = await _find(call)
    if why_not is not None:
        raise ObjectNotFoundError(why_not)
    advice = advice_for(letter.reason, retryable=letter.retryable, step=letter.step)
    product, steps = None, []
    if letter.product_id is not None:
        product = await _product(call, letter.product_id)
        steps = await call.services.dead_letters.steps.steps_of(letter.product_id)
    return get_json_response(
        DeadLetterDetail(
            **_values(letter),
            field=advice.field,
            fix=advice.fix,
            product=product,
            steps=[_step(step) for step in steps],
        )
    )


async def retry_dead_letter(call: Call) -> Response:
    """Take one step again, with all its tries, or import what an import gave up again."""
    return await _act_on_one(call, LetterAction.RETRY)


async def discard_dead_letter(call: Call) -> Response:
    """Give one up."""
    return await _act_on_one(call, LetterAction.DISCARD)


async def retry_dead_letters(call: Call) -> Response:
    """Take many again."""
    return await _act_on_many(call, LetterAction.RETRY)


async def discard_dead_letters(call: Call) -> Response:
    """Give many up."""
    return await _act_on_many(call, LetterAction.DISCARD)


async def _act_on_one(call: Call, kind: LetterAction) -> Response:
    letter, why_not = await _find(call)
    if why_not is not None:
        raise ProblemError(CONFLICT, why_not)
    chosen = {"productId": letter.product_id, "externalId": letter.external_id, "step": letter.step.value}
    acted = await call.services.dead_letters.act(
        kind, letter, by=call.caller.username, note=_note(call, kind, chosen)
    )
    if not acted.changed:
        raise ProblemError(CONFLICT, acted.why or _NO_MORE)
    return get_json_response(DeadLettersChanged(changed=acted.changed))


async def _act_on_many(call: Call, kind: LetterAction) -> Response:
    wanted = await read_body(call.request, DeadLettersRequest)
    chosen = wanted.model_dump(by_alias=True, exclude_defaults=True, exclude={"limit", "until", "cursor"})
    if not chosen:
        raise InvalidInputError("body", "say which: companyId, job, step, reason, product, or all")
    until = None if wanted.until is None else _EPOCH + timedelta(microseconds=int(wanted.until))
    acted = await call.services.dead_letters.act_on_all(
        kind,
        await _filter(call, wanted, until=until),
        by=call.caller.username,
        note=_note(call, kind, chosen),
        most=wanted.limit,
        after=_position(wanted.cursor),
    )
    return get_json_response(
        DeadLettersChanged(
            changed=acted.changed,
            more=acted.next is not None,
            next=_cursor(acted.next),
            skipped=acted.skipped,
            why=acted.why,
        )
    )


def _note(call: Call, kind: LetterAction, chosen: dict[str, Any]) -> Note:
    """Keep who did what to which, as soon as it is done: the rows say so as well, for as long as they are there."""

    def note(done: Done) -> None:
        log.info(
            _EVENTS[kind],
            caller=call.caller.username,
            namespace=call.namespace,
            chosen=chosen,
            companyIds=list(done.company_ids),
            jobIds=list(done.job_ids),
            steps=[step.value for step in done.steps],
            changed=done.changed,
        )

    return note


async def _find(call: Call) -> tuple[DeadLetter, str | None]:
    """What the path names, and why it is no dead letter (any more), if so. Raises ObjectNotFoundError."""
    name = parse_letter_id(str(call.request.path_params["letter"]))
    found = None if name is None else await _read(call, name)
    if found is None:
        raise ObjectNotFoundError(f"There is no such dead letter in namespace {call.namespace}")
    return found


async def _read(call: Call, name: LetterName) -> tuple[DeadLetter, str | None] | None:
    letters, namespace = call.services.dead_letters, call.namespace
    if name.step.kind is not None:
        dead = await letters.steps.read(name.product_id, name.step.kind, namespace=namespace)
        if dead is None:
            return None
        letter, state = dead
        return letter, None if state is StepState.DEAD else f"{_NO_MORE}: its step is {state.value}"
    failed = await letters.items.read(name.job_id, name.external_id, namespace=namespace)
    if failed is None:
        return None
    letter, job = failed
    return letter, why_no_letter(job.name, job.state, is_old=job.is_old)


async def _filter(
    call: Call, wanted: DeadLetterChoice | DeadLettersRequest, *, until: datetime | None = None
) -> DeadFilter:
    namespace, job = call.namespace, wanted.job
    if job is not None:
        job = await call.services.jobs.views.newest_named(namespace, job) or job
    return DeadFilter(
        company=wanted.company_id,
        job=job,
        step=None if wanted.step is None else DeadStep(wanted.step),
        product=wanted.product,
        reason=wanted.reason,
        namespace=namespace,
        until=until,
    )


async def _product(call: Call, product_id: str) -> ProductOfLetter | None:
    facts = await call.services.dead_letters.steps.facts(product_id)
    if facts is None:
        return None
    return ProductOfLetter(
        title=facts.title,
        price=None if facts.price is None else format(facts.price, "f"),
        currency=facts.currency,
        vendor=facts.vendor,
        product_type=facts.product_type,
        status=facts.status,
        images=facts.images,
    )


def _values(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "product_id": letter.product_id,
        "external_id": letter.external_id,
        "import_source": letter.import_source,
        "title": letter.title,
        "company_id": letter.company_id,
        "job_id": letter.job_id,
        "step": letter.step.value,
        "reason": letter.reason or "",
        "message": letter.message,
        "attempts": letter.attempts,
        "retryable": letter.retryable,
        "recorded_at": letter.recorded_at,
        "died_at": letter.died_at,
    }


def _step(step: StepView) -> StepOfProduct:
    return StepOfProduct(
        step=step.step.value,
        state=step.state.value,
        attempts=step.attempts,
        reason=step.reason,
        message=step.message,
        changed_at=step.changed_at,
    )


def _moment(at: datetime) -> str:
    return str(min(max(0, (at - _EPOCH) // timedelta(microseconds=1)), _LATEST))


def _cursor(position: Position | None) -> str | None:
    """A place as one word: the time, what tells the sort of letter, and two texts."""
    if position is None:
        return None
    if isinstance(position, DeadPosition):
        return f"{_moment(position.died_at)}.{write_text(position.product_id)}.{write_text(position.step)}"
    item = "" if position.external_id is None else "." + write_text(position.external_id)
    return f"{_moment(position.created_at)}.{DeadStep.IMPORT.value}.{write_text(position.job_id)}{item}"


def _position(cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    microseconds, first, second, *item = cursor.split(".")
    at = _EPOCH + timedelta(microseconds=int(microseconds))
    if first == DeadStep.IMPORT.value:
        return ItemPosition(at, read_text(second), read_text(item[0]) if item else None)
    return DeadPosition(at, read_text(first), read_text(second))
