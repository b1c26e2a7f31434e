"""Event streams: one import, or all that the live page shows."""

from __future__ import annotations

from starlette.responses import Response

from import_core.domain.projection import FINAL_PHASES
from import_gateway.api.finding import find_job
from import_gateway.api.models import NoQuery
from import_gateway.api.operation import Call
from import_gateway.api.presenting import event_id
from import_gateway.api.reading import read_query
from import_gateway.live.stream import EventStream, Terms, job_events, overview_events

LONGEST_ID = 100


async def follow_import(call: Call) -> Response:
    """Stream an import's states; 204 where its last one is known, which ends an EventSource for good."""
    read_query(call.request, NoQuery)
    found = await find_job(call)
    view = found.view()
    if view.phase.value in FINAL_PHASES and _last_id(call) == event_id(view):
        return Response(status_code=204)
    hub = call.services.hub
    place = hub.take_place(call.caller.account)
    return EventStream(job_events(hub, view, _terms(call)), place)


async def follow_all(call: Call) -> Response:
    """Stream the overview."""
    read_query(call.request, NoQuery)
    hub = call.services.hub
    place = hub.take_place(call.caller.account)
    return EventStream(overview_events(hub, _terms(call)), place)


def _terms(call: Call) -> Terms:
    return Terms(_last_id(call), call.services.settings.heartbeat_seconds, call.check)


def _last_id(call: Call) -> str | None:
    value = call.request.headers.get("last-event-id")
    return value if value and len(value) <= LONGEST_ID else None
