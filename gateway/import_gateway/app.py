"""The gateway's HTTP face: all routes, and what every answer gets: an id, safe headers, a line in the log, a count."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping

import structlog
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from import_core.observability.logs import get_logger
from import_gateway.api.problems import (
    INTERNAL,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    Kind,
    ProblemError,
    get_problem_response,
)
from import_gateway.api.routes import get_api_routes
from import_gateway.metrics import GatewayMetrics
from import_gateway.page.routes import get_routes as get_page_routes
from import_gateway.services import Services

log = get_logger(__name__)

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""For answers that set no stricter or other ones themselves."""
KINDS = {404: NOT_FOUND, 405: METHOD_NOT_ALLOWED}

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def get_app(services: Services) -> Starlette:
    """The application; the page's routes come last, as they may hold a path for everything else."""
    app = Starlette(
        routes=[*get_api_routes(services), *get_page_routes(services)],
        middleware=[Middleware(Envelope, metrics=services.metrics)],
        exception_handlers={HTTPException: _refuse},
    )
    app.router.redirect_slashes = False  # a path has one spelling
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: paths and methods that do not exist."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers: Mapping[str, str] = (error.headers if isinstance(error, HTTPException) else None) or {}
    known = KINDS.get(status, Kind("refused", status, "The request is refused"))
    details = {404: "There is nothing at this path", 405: f"{request.method} can't be done here"}
    detail = details.get(status, known.title)
    return get_problem_response(
        ProblemError(known, detail, headers=headers), instance=request.scope.get("request_id")
    )


class Envelope:
    """Around every request: its id, headers that every answer has, the log and the metrics."""

    def __init__(self, app: ASGIApp, *, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        asked = request.headers.get("x-request-id", "")
        scope["request_id"] = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        started_at, status = time.perf_counter(), 0
        self._metrics.requests_under_way.inc()

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = scope["request_id"]
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
                self._count(scope, status, time.perf_counter() - started_at)
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(requestId=scope["request_id"]):
                await self._app(scope, receive, send_on)
        except Exception:
            log.exception("request.failed", requestId=scope["request_id"], route=_route(scope))
            if not status:
                problem = ProblemError(
                    INTERNAL, "The gateway failed; its log says why, under the X-Request-Id"
                )
                await get_problem_response(problem, instance=scope["request_id"])(scope, receive, send_on)
        finally:
            self._metrics.requests_under_way.dec()
            self._log(scope, status, time.perf_counter() - started_at)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _route(scope), _method(scope)
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.request_seconds.labels(route, method).observe(seconds)

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        if route in {"/healthz", "/readyz"}:
            return
        log.info(
            "request.answered",
            requestId=scope["request_id"],
            method=_method(scope),
            route=route,
            name=(scope.get("path_params") or {}).get("name"),
            caller=scope.get("caller"),
            status=status,
            duration=round(seconds * 1000, 1),
        )


def _route(scope: Scope) -> str:
    """A route's pattern: paths are unbounded, and may hold anything."""
    return str(scope.get("route_pattern", "other"))


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
