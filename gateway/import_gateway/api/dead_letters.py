"""Dead letters over HTTP: which there are and why, and what a person decides on them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from import_core.adapters.postgres.dead_letters import (
    COUNTED,
    NEWEST,
    DeadFilter,
    DeadLetter,
    DeadPosition,
    StepView,
)
from import_core.domain.dead_letters import advice_for, letter_id, parse_letter_id
from import_core.domain.errors import InvalidInputError, ObjectNotFoundError
from import_core.domain.steps import StepKind, StepState
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
_EVENTS = {StepState.DUE: "dead_letters.retried", StepState.DISCARDED: "dead_letters.discarded"}


async def list_dead_letters(call: Call) -> Response:
    """Answer a page of dead letters, those that died last first."""
    query = read_query(call.request, DeadLettersQuery)
    letters, following = await call.services.dead_letters.page(
        await _filter(call, query), after=_position(query.cursor), limit=query.limit
    )
    return get_json_response(
        DeadLetterPage(
            items=[DeadLetterView(**_values(letter)) for letter in letters],
            next=None if following is None else _cursor(following),
        )
    )


async def list_reasons(call: Call) -> Response:
    """Answer why they died, and what to do about it."""
    query = read_query(call.request, DeadLetterChoice)
    store = call.services.dead_letters
    now = await store.now()
    found = await store.reasons(await _filter(call, query, until=now))
    items = []
    for row in found.reasons:
        advice = advice_for(row.reason, retryable=row.retryable)
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
            is_at_least=found.total >= COUNTED,
            as_of=_moment(now),
        )
    )


async def get_dead_letter(call: Call) -> Response:
    """Answer one dead letter, with its product and how that one's other steps stand."""
    letter, state = await _find(call)
    if state is not StepState.DEAD:
        raise ObjectNotFoundError(f"It is no dead letter any more: its step is {state.value}")
    store = call.services.dead_letters
    advice = advice_for(letter.reason, retryable=letter.retryable)
    facts = await store.facts(letter.product_id)
    product = None
    if facts is not None:
        product = ProductOfLetter(
            title=facts.title,
            price=None if facts.price is None else format(facts.price, "f"),
            currency=facts.currency,
            vendor=facts.vendor,
            product_type=facts.product_type,
            status=facts.status,
            images=facts.images,
        )
    steps = await store.steps_of(letter.product_id)
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
    """Take one step again, with all its tries."""
    return await _act_on_one(call, StepState.DUE)


async def discard_dead_letter(call: Call) -> Response:
    """Give one step up."""
    return await _act_on_one(call, StepState.DISCARDED)


async def retry_dead_letters(call: Call) -> Response:
    """Take many steps again, with all their tries."""
    return await _act_on_many(call, StepState.DUE)


async def discard_dead_letters(call: Call) -> Response:
    """Give many steps up."""
    return await _act_on_many(call, StepState.DISCARDED)


async def _act_on_one(call: Call, state: StepState) -> Response:
    letter, present = await _find(call)
    store = call.services.dead_letters
    act = store.retry if state is StepState.DUE else store.discard
    changed = await act([letter], by=call.caller.username) if present is StepState.DEAD else 0
    if not changed:
        raise ProblemError(
            CONFLICT, "It is no dead letter any more: somebody else was faster, or it was imported anew"
        )
    chosen = {"productId": letter.product_id, "step": letter.step.value}
    _note(call, state, changed, chosen, company=letter.company_id)
    return get_json_response(DeadLettersChanged(changed=changed))


async def _act_on_many(call: Call, state: StepState) -> Response:
    wanted = await read_body(call.request, DeadLettersRequest)
    chosen = wanted.model_dump(by_alias=True, exclude_defaults=True, exclude={"limit", "until"})
    if not chosen:
        raise InvalidInputError("body", "say which: companyId, job, step, reason, product, or all")
    until = None if wanted.until is None else _EPOCH + timedelta(microseconds=int(wanted.until))
    acted = await call.services.dead_letters.act(
        await _filter(call, wanted, until=until), state, by=call.caller.username, most=wanted.limit
    )
    _note(call, state, acted.changed, chosen, company=wanted.company_id)
    return get_json_response(DeadLettersChanged(changed=acted.changed, more=acted.more))


def _note(call: Call, state: StepState, changed: int, chosen: dict[str, Any], *, company: str | None) -> None:
    """Who did what to which: the rows say so as well, for as long as they are there."""
    log.info(
        _EVENTS[state],
        caller=call.caller.username,
        namespace=call.namespace,
        companyId=company,
        chosen=chosen,
        changed=changed,
    )


async def _find(call: Call) -> tuple[DeadLetter, StepState]:
    parsed = parse_letter_id(str(call.request.path_params["letter"]))
    found = None
    if parsed is not None:
        found = await call.services.dead_letters.read(*parsed, namespace=call.namespace)
    if found is None:
        raise ObjectNotFoundError(f"There is no such dead letter in namespace {call.namespace}")
    return found


async def _filter(
    call: Call, wanted: DeadLetterChoice | DeadLettersRequest, *, until: datetime | None = None
) -> DeadFilter:
    namespace, job = call.namespace, wanted.job
    if job is not None:
        job = await call.services.jobs.views.newest_named(namespace, job) or job
    return DeadFilter(
        company=wanted.company_id,
        job=job,
        step=None if wanted.step is None else StepKind(wanted.step),
        product=wanted.product,
        reason=wanted.reason,
        namespace=namespace,
        until=until,
    )


def _values(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter_id(letter.product_id, letter.step),
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
    return str(max(0, (at - _EPOCH) // timedelta(microseconds=1)))


def _cursor(position: DeadPosition) -> str:
    return f"{_moment(position.died_at)}.{write_text(position.product_id)}.{write_text(position.step)}"


def _position(cursor: str | None) -> DeadPosition:
    if cursor is None:
        return NEWEST
    microseconds, product_id, step = cursor.split(".")
    at = _EPOCH + timedelta(microseconds=int(microseconds))
    return DeadPosition(at, read_text(product_id), read_text(step))
