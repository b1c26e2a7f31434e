"""A small gateway for tests of the page: the real page's routes, and an API whose answers a test decides.

It speaks as `import_gateway/api/models.py` has it, and every body goes through those models.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from dead_letter_stand_in import dead_letter_routes
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from import_gateway.api.figure_models import Figures
from import_gateway.api.models import (
    Import,
    ImportPage,
    ItemErrorPage,
    Overview,
    OverviewChange,
    Permissions,
    QueueHealth,
    QueueRequest,
    Session,
    SignIn,
    Worker,
)
from import_gateway.api.search_models import SearchPage
from import_gateway.page.routes import get_page_routes
from import_gateway.serving import AppServer

Json = dict[str, Any]
TOKEN = "a.good.token"
NAMESPACE = "imports"


@dataclass
class Calls:
    """What the page asked for."""

    writes: list[tuple[str, str, Any]] = field(default_factory=list)
    streams: list[str | None] = field(default_factory=list)
    """Last-Event-ID of each stream that was opened."""
    lists: list[dict[str, str]] = field(default_factory=list)
    """Parameters of each page of the list that was asked for."""
    figures: list[str] = field(default_factory=list)
    """Days of each time that figures were asked for."""
    letters: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and parameters of each time that dead letters or their reasons were asked for."""
    searches: list[dict[str, str]] = field(default_factory=list)


class StandIn:
    """A gateway on a loopback port that can go away and come back on the same port."""

    def __init__(self, *, heartbeat_seconds: float = 600.0) -> None:
        self._heartbeat_seconds = heartbeat_seconds
        self.calls = Calls()
        self.may = {"list": True, "submit": True, "retry": True, "cancel": True, "pause": True}
        self.jobs: dict[str, Json] = {}
        self.queues: dict[str, Json] = {}
        self.workers: dict[str, Json] = {}
        self.errors: dict[str, Json] = {}
        self.figures: Json = {
            "days": [],
            "durations": [],
            "failures": [],
            "measuredAt": "2026-01-02T03:04:05Z",
        }
        self.letters: list[Json] = []
        """Dead letters with all that is known of each, those that died last first."""
        self.letters_counted: int | None = None
        """So many of them are counted for the reasons; None: all."""
        self.found: list[Json] = []
        """Pages of what a search finds."""
        self.search_problem: tuple[int, str, str] | None = None
        self.history: list[list[Json]] = [[]]
        """Pages of the list of imports."""
        self.problem: Json | None = None
        self.problem_headers: dict[str, str] = {}
        self.port = 0
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._version = 0
        self._server: AppServer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> None:
        routes = [
            Route("/session", self._sign_in, methods=["POST"]),
            Route("/session", self._sign_out, methods=["DELETE"]),
            Route("/v1/me", self._me),
            Route("/v1/events", self._events),
            Route("/v1/figures", self._figures),
            *dead_letter_routes(self),
            Route("/v1/search", self._search),
            Route("/v1/queue/{action}", self._queue, methods=["POST"]),
            Route("/v1/imports", self._list),
            Route("/v1/imports/{namespace}/{name}", self._one),
            Route("/v1/imports/{namespace}/{name}/errors", self._errors),
            Route("/v1/imports/{namespace}/{name}/{action}", self._act, methods=["POST"]),
            *get_page_routes(
                namespace=NAMESPACE, audience="import-gateway", heartbeat_seconds=self._heartbeat_seconds
            ),
        ]
        self._server = AppServer(Starlette(routes=routes), "127.0.0.1", self.port, close_seconds=1)
        self.port = self._server.port
        self._task = asyncio.create_task(self._server.run())

    async def stop(self) -> None:
        assert self._server is not None
        assert self._task is not None
        for listener in self._listeners:
            listener.put_nowait(None)
        self._server.stop()
        await self._task

    # What a test changes; listeners hear of it at once.

    def put_jobs(self, *jobs: Json) -> None:
        for job in jobs:
            self.jobs[job["id"]] = job
        self._send("change", OverviewChange(jobs=[_import(job) for job in jobs]))

    def put_queue(self, queue: Json) -> None:
        self.queues[queue["queue"]] = queue
        self._send("change", OverviewChange(queues=[_queue(queue)]))

    def put_workers(self, *workers: Json) -> None:
        for worker in workers:
            self.workers[worker["id"]] = worker
        self._send("change", OverviewChange(workers=[_worker(worker) for worker in workers]))

    def remove_job(self, job_id: str) -> None:
        del self.jobs[job_id]
        self._send("change", OverviewChange(gone=[f"job/{job_id}"]))

    def _send(self, event: str, body: Overview | OverviewChange) -> None:
        self._version += 1
        text = self._text(event, body)
        for listener in self._listeners:
            listener.put_nowait(text)

    def _text(self, event: str, body: Overview | OverviewChange) -> str:
        return f"id: {self._version}\nevent: {event}\ndata: {body.model_dump_json(by_alias=True)}\n\n"

    # Routes.

    def refusal(self, request: Request) -> Response | None:
        if request.cookies.get("session") != TOKEN:
            return _problem(401, "Not signed in", "There is no valid token in the request")
        return None

    async def _sign_in(self, request: Request) -> Response:
        assert request.headers["origin"] == self.url.rstrip("/")
        token = SignIn.model_validate_json(await request.body()).token
        if token != TOKEN:
            return _problem(
                401, "Not signed in", "The API server does not know this token, or it has expired"
            )
        response = self._session()
        response.set_cookie("session", token, httponly=True, samesite="strict")
        return response

    async def _sign_out(self, _request: Request) -> Response:
        response = Response(status_code=204)
        response.delete_cookie("session", httponly=True, samesite="strict")
        return response

    def _session(self) -> Response:
        body = Session(
            username="system:serviceaccount:imports:on-call",
            namespace=NAMESPACE,
            may=Permissions(**self.may),
        )
        return JSONResponse(body.model_dump(mode="json", by_alias=True))

    async def _me(self, request: Request) -> Response:
        return self.refusal(request) or self._session()

    async def _events(self, request: Request) -> Response:
        if refusal := self.refusal(request):
            return refusal
        self.calls.streams.append(request.headers.get("last-event-id"))
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        listener: asyncio.Queue[str | None] = asyncio.Queue()
        self._listeners.add(listener)
        try:
            whole = Overview(
                jobs=[_import(job) for job in self.jobs.values()],
                queues=[_queue(queue) for queue in self.queues.values()],
                workers=[_worker(worker) for worker in self.workers.values()],
            )
            yield self._text("overview", whole)
            yield ": heartbeat\n\n"
            while (text := await listener.get()) is not None:
                yield text
        finally:
            self._listeners.discard(listener)

    async def _queue(self, request: Request) -> Response:
        text = await request.body()
        body = QueueRequest.model_validate_json(text)
        if answer := self.written(request, json.loads(text)):
            return answer
        assert body.queue is not None
        paused = request.path_params["action"] == "pause"
        who = {"pausedBy": "on-call" if paused else None, "pausedReason": body.reason}
        plain = self.queues[body.queue]
        self.put_queue({**plain, "paused": paused, **who})
        return JSONResponse({}, 200)

    async def _act(self, request: Request) -> Response:
        text = await request.body()
        return self.written(request, json.loads(text) if text else None) or JSONResponse({}, 202)

    def written(self, request: Request, body: Any) -> Response | None:
        """Note a write; the answer where it is refused."""
        if refusal := self.refusal(request):
            return refusal
        assert request.headers["origin"] == self.url.rstrip("/")
        self.calls.writes.append((request.method, request.url.path, body))
        if self.problem is None:
            return None
        return JSONResponse(
            self.problem,
            self.problem["status"],
            self.problem_headers,
            media_type="application/problem+json",
        )

    async def _errors(self, request: Request) -> Response:
        if refusal := self.refusal(request):
            return refusal
        page = self.errors.get(request.path_params["name"], {"total": 0, "reasons": [], "items": []})
        return JSONResponse(
            ItemErrorPage.model_validate_json(json.dumps(page)).model_dump(mode="json", by_alias=True)
        )

    async def _figures(self, request: Request) -> Response:
        if refusal := self.refusal(request):
            return refusal
        self.calls.figures.append(request.query_params["days"])
        body = Figures.model_validate_json(json.dumps(self.figures))
        return JSONResponse(body.model_dump(mode="json", by_alias=True))

    async def _search(self, request: Request) -> Response:
        if refusal := self.refusal(request):
            return refusal
        self.calls.searches.append(dict(request.query_params))
        if self.search_problem is not None:
            return _problem(*self.search_problem)
        number = int(request.query_params["offset"]) // 20
        body = SearchPage.model_validate_json(json.dumps(self.found[number]))
        return JSONResponse(body.model_dump(mode="json", by_alias=True))

    async def _list(self, request: Request) -> Response:
        """One page; `cursor` is the page's number."""
        if refusal := self.refusal(request):
            return refusal
        self.calls.lists.append(dict(request.query_params))
        number = int(request.query_params.get("cursor", "0"))
        following = str(number + 1) if number + 1 < len(self.history) else None
        page = ImportPage(items=[_import(job) for job in self.history[number]], next=following)
        return JSONResponse(page.model_dump(mode="json", by_alias=True))

    async def _one(self, request: Request) -> Response:
        """With an estimate, which the stream does not have."""
        if refusal := self.refusal(request):
            return refusal
        name = request.path_params["name"]
        job = next((job for job in self.jobs.values() if job["name"] == name), None)
        if job is None:
            return _problem(404, "Not found", f"There is no import {name}")
        view = Import.model_validate_json(json.dumps(job))
        return JSONResponse(view.model_dump(mode="json", by_alias=True))


def _import(job: Json) -> Import:
    """As the stream has it: without an estimate."""
    return Import.model_validate_json(json.dumps({**job, "estimate": None}))


def _queue(queue: Json) -> QueueHealth:
    return QueueHealth.model_validate_json(json.dumps(queue))


def _worker(worker: Json) -> Worker:
    return Worker.model_validate_json(json.dumps(worker))


def _problem(status: int, title: str, detail: str) -> Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")
