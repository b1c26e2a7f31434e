"""What a caller does with an import: run it again, or cancel it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from starlette.responses import Response

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.errors import ObjectConflictError, ObjectNotFoundError
from import_core.domain.projection import FINAL_PHASES
from import_core.domain.reopening import RETRY_ANNOTATION, RETRY_ITEMS_ANNOTATION, why_not_again
from import_core.domain.resources.import_job import JobPhase
from import_core.domain.submission import retry_token
from import_gateway.api.finding import FoundJob, find_job
from import_gateway.api.models import RetryRequest
from import_gateway.api.operation import Call, get_json_response
from import_gateway.api.problems import CONFLICT, ProblemError
from import_gateway.api.reading import read_body, read_idempotency_key


async def retry_import(call: Call) -> Response:
    """Ask for another run of a finished import; the same Idempotency-Key asks once."""
    key = read_idempotency_key(call.request)
    wanted = await read_body(call.request, RetryRequest, optional=True)
    found = await find_job(call, needs_object=True)
    annotation = RETRY_ITEMS_ANNOTATION if wanted.items_only else RETRY_ANNOTATION
    if key is not None:
        token = retry_token(call.caller.username, found.id, key)
        if _annotation(found, annotation) == token or await _row_has(call, found, wanted, token):
            return get_json_response(found.view(), 202, {"Idempotent-Replayed": "true"})
    else:
        token = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(4)}"
    phase = found.view().phase.value
    object_gone = found.body is None and found.row is not None and found.row.origin is not None
    why_not = why_not_again(found.name, phase=phase, object_gone=object_gone)
    if why_not is not None:
        raise ProblemError(CONFLICT, why_not)
    if found.body is not None:
        await _annotate(call, found, annotation, token)
    else:
        reopening = call.services.reopening
        reopen = reopening.retry_items if wanted.items_only else reopening.retry
        if not await reopen({found.id: token}):
            raise ProblemError(CONFLICT, f"{found.name} has no failed items, or has changed meanwhile")
    return get_json_response(found.view(), 202)


async def cancel_import(call: Call) -> Response:
    """Delete the import's object, upon which the operator stops its work; a job without one by its row."""
    found = await find_job(call, needs_object=True)
    view = found.view()
    if view.phase is JobPhase.CANCELLED:
        return get_json_response(view, 202)
    if view.phase.value in FINAL_PHASES:
        raise ProblemError(CONFLICT, f"{found.name} has finished: {view.phase.value}")
    if found.body is None:
        message = f"Cancelled over HTTP by {call.caller.username}"
        await call.services.jobs.jobs.cancel([found.id], message=message, tell=True)
        return get_json_response((await find_job(call)).view(), 202)
    try:
        await call.services.kube.delete(IMPORT_JOB, found.namespace, found.name, uid=found.id)
    except ObjectNotFoundError:
        pass  # somebody else was faster, and the same comes of it
    except ObjectConflictError as error:
        raise ProblemError(CONFLICT, f"{found.name} has been replaced meanwhile") from error
    return get_json_response(view, 202)


async def _annotate(call: Call, found: FoundJob, annotation: str, token: str) -> None:
    try:
        await call.services.kube.annotate(
            IMPORT_JOB, found.namespace, found.name, {annotation: token}, uid=found.id
        )
    except (ObjectNotFoundError, ObjectConflictError) as error:
        raise ProblemError(CONFLICT, f"The ImportJob {found.name} was deleted meanwhile") from error


async def _row_has(call: Call, found: FoundJob, wanted: RetryRequest, token: str) -> bool:
    """Whether a row without an object has been asked with this token already."""
    if found.body is not None:
        return False
    honoured = (await call.services.reopening.honoured([found.id])).get(found.id)
    if honoured is None:
        return False
    if wanted.items_only:
        # A finished row has it also where there was nothing to do, which is no success.
        return honoured.retry_items == token and found.view().phase.value not in FINAL_PHASES
    return honoured.retry == token


def _annotation(found: FoundJob, annotation: str) -> str | None:
    metadata = (found.body or {}).get("metadata") or {}
    value = (metadata.get("annotations") or {}).get(annotation)
    return str(value) if value is not None else None
