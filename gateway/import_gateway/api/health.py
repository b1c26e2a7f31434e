"""Signs of life for load balancers; the kubelet and Prometheus ask the pod's own health port."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from import_gateway.services import Services


def get_health_routes(services: Services) -> list[BaseRoute]:
    """`/healthz` and `/readyz`; metrics are on the health port only, which is not published."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        reason = services.not_ready()
        return JSONResponse({"ready": reason is None, "reason": reason}, 200 if reason is None else 503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]
