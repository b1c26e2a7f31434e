"""Signs of life for load balancers; the kubelet and Prometheus ask the pod's own health port."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from import_gateway.api.models import Health
from import_gateway.api.operation import Call, get_json_response


async def healthz(_call: Call) -> Response:
    """The process answers."""
    return PlainTextResponse("ok\n")


async def readyz(call: Call) -> Response:
    """Whether requests may be sent here."""
    reason = call.services.not_ready()
    return get_json_response(Health(ready=reason is None, reason=reason), 200 if reason is None else 503)
