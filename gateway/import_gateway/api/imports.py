"""Imports over HTTP: the list, one of them, its failed items, and starting one."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.views import ItemPosition, Position
from import_core.domain.correlation import CORRELATION_ANNOTATION, asked_correlation
from import_core.domain.errors import ObjectConflictError
from import_core.domain.jobs import JobState
from import_core.domain.projection import PHASES
from import_core.domain.resources.import_job import JobPhase
from import_core.domain.submission import (
    FINGERPRINT_ANNOTATION,
    NAME_PREFIX,
    SUBMITTED_BY_ANNOTATION,
    fingerprint,
    object_name,
)
from import_core.observability.logs import get_logger
from import_gateway.api.finding import find_job
from import_gateway.api.models import (
    ErrorReason,
    ErrorsQuery,
    Import,
    ImportPage,
    ItemError,
    ItemErrorPage,
    ListQuery,
    Submission,
)
from import_gateway.api.operation import Call, get_json_response
from import_gateway.api.presenting import present_object, present_row
from import_gateway.api.problems import CONFLICT, KEY_REUSED, ProblemError
from import_gateway.api.reading import (
    read_body,
    read_idempotency_key,
    read_query,
    read_text,
    write_text,
)

if TYPE_CHECKING:
    from import_gateway.standalone.submitting import RowSubmitter

log = get_logger(__name__)

PENDING_SHOWN = 500
DOCUMENTS_SHOWN = 10
"""Documents of up to 64 KiB on one page: many callers who ask at once must fit into memory."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_STATES = {phase: state for state, phase in PHASES.items()}


async def list_imports(call: Call) -> Response:
    """Answer a page of imports, newest first."""
    query = read_query(call.request, ListQuery)
    if query.phase is JobPhase.PENDING:
        return get_json_response(ImportPage(items=await _pending(call, query)))
    page = await call.services.jobs.views.page(
        namespace=call.namespace,
        states=[_STATES[query.phase]] if query.phase else list(JobState),
        company=query.company,
        limit=query.limit,
        after=_position(query.cursor),
    )
    views = await call.services.jobs.present({job.id: job for job in page.jobs}, estimates=False)
    following = None
    if page.next is not None:
        following = _cursor(page.next)
    return get_json_response(ImportPage(items=[views[job.id] for job in page.jobs], next=following))


async def get_import(call: Call) -> Response:
    """Answer one import with its estimates."""
    found = await find_job(call)
    if found.row is None:
        return get_json_response(found.view())
    views = await call.services.jobs.present({found.id: found.row})
    return get_json_response(views[found.id])


async def list_errors(call: Call) -> Response:
    """Answer a page of an import's failed items."""
    query = read_query(call.request, ErrorsQuery)
    place = ItemPosition(*map(read_text, query.cursor.split("."))) if query.cursor else ItemPosition()
    found = await find_job(call)
    total, reasons = await call.services.jobs.reports.item_failure_reasons(found.id)
    limit = min(query.limit, DOCUMENTS_SHOWN) if query.documents else query.limit
    items = await call.services.jobs.views.item_errors(
        found.id,
        limit=limit + 1,
        after=place,
        documents=query.documents,
    )
    shown = items[:limit]
    more = len(items) > limit
    return get_json_response(
        ItemErrorPage(
            total=total,
            reasons=[ErrorReason(stage=r.stage, reason=r.reason, count=r.count) for r in reasons],
            items=[
                ItemError(
                    external_id=item.external_id,
                    stage=item.stage,
                    url=item.url,
                    reason=item.reason,
                    message=item.message,
                    at=item.at,
                    document=item.document,
                )
                for item in shown
            ],
            next=".".join(map(write_text, (shown[-1].external_id, shown[-1].stage, shown[-1].url)))
            if more
            else None,
        )
    )


async def submit_import(call: Call) -> Response:
    """Create an ImportJob, once for each Idempotency-Key of the caller."""
    key = read_idempotency_key(call.request)
    wanted = await read_body(call.request, Submission)
    namespace, caller = call.namespace, call.caller
    spec = wanted.spec.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    if wanted.name is not None:
        name = wanted.name
    else:
        name = object_name(caller.username, namespace, key) if key else NAME_PREFIX + secrets.token_hex(8)
    mark = fingerprint(wanted.name, spec) if key is None else fingerprint(f"{key} {wanted.name}", spec)
    annotations = {FINGERPRINT_ANNOTATION: mark, SUBMITTED_BY_ANNOTATION: caller.username}
    metadata = {"name": name, "annotations": annotations}
    if call.services.rows is not None:
        return await _submit_row(call.services.rows, call, name, spec, key=key, derived=wanted.name is None)
    request_id = str(call.request.scope["request_id"])
    # Not among what tells a repetition from another request: each request has an id of its own.
    created = {**metadata, "annotations": {**annotations, CORRELATION_ANNOTATION: request_id}}
    try:
        body = await call.services.kube.create(IMPORT_JOB, namespace, {"metadata": created, "spec": spec})
    except ObjectConflictError as error:
        found = await call.services.kube.get(IMPORT_JOB, namespace, name) if key is not None else None
        return _created(_repeated(found, metadata, derived=wanted.name is None, error=error), repeated=True)
    return _created(body, repeated=False)


async def _submit_row(
    rows: RowSubmitter, call: Call, name: str, spec: dict[str, Any], *, key: str | None, derived: bool
) -> Response:
    """Make a row, where there is no Kubernetes; what it asks for tells a repetition from another request."""
    request_id = str(call.request.scope["request_id"])
    try:
        row, new = await rows.submit(name, spec, correlation_id=request_id)
    except ObjectConflictError as error:
        if key is not None and derived:
            detail = f"The key stands for the import {name}, which was asked for otherwise"
            raise ProblemError(KEY_REUSED, detail) from error
        raise
    if not new and key is None:
        raise ProblemError(CONFLICT, f"There is an import {name} already")
    view = present_row(row, namespace=call.namespace, now=datetime.now(UTC))
    return _answer(view, row.correlation_id, repeated=not new)


def _repeated(
    found: dict[str, Any] | None, wanted: dict[str, Any], *, derived: bool, error: ObjectConflictError
) -> dict[str, Any]:
    """The object that an earlier request with the same key made; `derived`: its name follows from the key.

    Raises ProblemError where it is another one.
    """
    name = wanted["name"]
    known = (found or {}).get("metadata", {}).get("annotations") or {}
    if found is not None and known.items() >= wanted["annotations"].items():
        return found
    if found is not None and derived:
        raise ProblemError(KEY_REUSED, f"The key stands for the import {name}, which was asked for otherwise")
    raise ProblemError(CONFLICT, f"There is an import {name} already") from error


def _created(body: dict[str, Any], *, repeated: bool) -> Response:
    view = present_object(body)
    return _answer(view, asked_correlation(body) or view.id, repeated=repeated)


def _answer(view: Import, correlation_id: str, *, repeated: bool) -> Response:
    log.info(
        "import.submitted",
        jobId=view.id,
        correlationId=correlation_id,
        companyId=view.company_id,
        namespace=view.namespace,
        name=view.name,
        repeated=repeated,
    )
    headers = {"Location": f"/v1/imports/{view.namespace}/{view.name}"}
    if repeated:
        headers["Idempotent-Replayed"] = "true"
    return get_json_response(view, 200 if repeated else 201, headers)


async def _pending(call: Call, query: ListQuery) -> list[Import]:
    """Imports that the operator has not recorded: new ones, and refused ones with the reason."""
    found = []
    async for body in call.services.kube.list(
        IMPORT_JOB, call.namespace, fields={"status.phase": JobPhase.PENDING.value}, most=PENDING_SHOWN
    ):
        view = present_object(body)
        if query.company is None or view.company_id == query.company:
            found.append(view)
    return found


def _cursor(position: Position) -> str:
    microseconds = (position.created_at - _EPOCH) // timedelta(microseconds=1)
    return f"{max(0, microseconds)}.{write_text(position.job_id)}"


def _position(cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    microseconds, _, job_id = cursor.partition(".")
    return Position(_EPOCH + timedelta(microseconds=int(microseconds)), read_text(job_id))
