"""Answers the API server's reviews: one route, no identity asked, bounded in body, memory and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.step_availability import refuse_steps
from import_core.domain.steps import StepKind
from import_core.observability.logs import get_logger
from import_gateway.admission.review import (
    InvalidReviewError,
    Review,
    answer,
    parse_review,
    refusing_answer,
)
from import_gateway.admission.room import Room
from import_gateway.metrics import GatewayMetrics

log = get_logger(__name__)

PATH = "/admission/importjobs"
LONGEST_BODY = 2**20
"""Bytes. An ImportJob with all that its schema and Kubernetes allow in annotations has less than half of it."""
BODIES_AT_ONCE = 16 * 2**20
"""Bytes of all bodies in memory."""
REVIEW_SECONDS = 5.0
"""A caller that sends its body more slowly is hung up on."""

_RESOURCE = f"{IMPORT_JOB.plural}.{IMPORT_JOB.group}"


class _TooLargeError(Exception):
    """The body is too large, or there are too many."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(str(status))


class Webhook:
    """The application behind the webhook's port; `unavailable` are the steps that this installation can't do."""

    def __init__(
        self,
        room: Room,
        metrics: GatewayMetrics,
        *,
        namespace: str,
        unavailable: Collection[StepKind] = (),
    ) -> None:
        self._unavailable = unavailable
        self._room = room
        self._metrics = metrics
        self._namespace = namespace
        self._held_bytes = 0

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[Route(PATH, self._review, methods=["POST"])])

    async def _review(self, request: Request) -> Response:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(REVIEW_SECONDS), self._body(request) as body:
                review = parse_review(body)
            response = await self._answer(review)
        except InvalidReviewError as error:
            self._metrics.reviews.labels("invalid").inc()
            return PlainTextResponse(f"{error}\n", 400)
        except _TooLargeError as error:
            self._metrics.reviews.labels("invalid").inc()
            return PlainTextResponse("too much\n", error.status)
        except (TimeoutError, ClientDisconnect):
            self._metrics.reviews.labels("invalid").inc()
            return PlainTextResponse("too slow\n", 408, headers={"Connection": "close"})
        except Exception:
            # The API server gets a 500, and lets the import through.
            self._metrics.reviews.labels("failed").inc()
            raise
        self._metrics.review_seconds.observe(time.perf_counter() - began)
        return response

    async def _answer(self, review: Review) -> Response:
        is_asked_for = self._is_asked_for(review)
        step = refuse_steps(review.steps, self._unavailable) if is_asked_for else None
        if step is not None:
            self._metrics.reviews.labels("refused").inc()
            return JSONResponse(refusing_answer(review.uid, step))
        if not is_asked_for or review.company_id is None:
            self._metrics.reviews.labels("passed").inc()
            return JSONResponse(answer(review.uid, None))
        refused = await self._room.refusal(review.company_id)
        if refused is None and not review.dry_run:
            self._room.add()
        self._metrics.reviews.labels("allowed" if refused is None else "refused").inc()
        return JSONResponse(answer(review.uid, refused))

    def _is_asked_for(self, review: Review) -> bool:
        """Changes and deletions of what is there always pass, whatever the configuration has us asked."""
        return (
            review.operation == "CREATE"
            and review.resource == _RESOURCE
            and review.namespace == self._namespace
        )

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body; counted while it is held, so that many large ones can't fill the memory."""
        parts: list[bytes] = []
        held = 0
        try:
            async for part in request.stream():
                held += len(part)
                self._held_bytes += len(part)
                if held > LONGEST_BODY:
                    raise _TooLargeError(413)
                if self._held_bytes > BODIES_AT_ONCE:
                    raise _TooLargeError(503)
                parts.append(part)
            yield b"".join(parts)
        finally:
            self._held_bytes -= held
