"""Queues over HTTP: how they are, and pausing and resuming them."""

from __future__ import annotations

from starlette.responses import Response

from import_gateway.api.models import NoQuery, QueueRequest
from import_gateway.api.operation import Call, get_json_response
from import_gateway.api.problems import CONFLICT, NOT_FOUND, ProblemError
from import_gateway.api.reading import read_body, read_query


async def get_queue_health(call: Call) -> Response:
    """Answer how the queues are; the same for ten seconds."""
    read_query(call.request, NoQuery)
    return get_json_response(await call.services.queues.report())


async def pause_queue(call: Call) -> Response:
    """Hand out no more jobs of a queue, or take no new ones; those under way go on."""
    return await _set_paused(call, paused=True)


async def resume_queue(call: Call) -> Response:
    """Hand out a queue's jobs again, an emergency included, or take new ones."""
    return await _set_paused(call, paused=False)


async def _set_paused(call: Call, *, paused: bool) -> Response:
    wanted = await read_body(call.request, QueueRequest, optional=True)
    queues = call.services.queues
    served = await queues.served()
    if wanted.queue is None and len(served) > 1:
        raise ProblemError(CONFLICT, f"The namespace has the queues {', '.join(served)}: name one of them")
    if wanted.queue is not None and wanted.queue not in served:
        raise ProblemError(NOT_FOUND, f"No WorkerPool serves the queue; there is {', '.join(served)}")
    queue, by = wanted.queue or served[0], call.caller.username
    if wanted.scope == "intake":
        await queues.states.set_intake(queue, stopped=paused, reason=wanted.reason, changed_by=by)
    else:
        await queues.states.set_paused(queue, paused, reason=wanted.reason if paused else None, changed_by=by)
    return get_json_response(await queues.measure())
