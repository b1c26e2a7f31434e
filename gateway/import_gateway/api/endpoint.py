"""What every request of the API passes, in order: method, time limit, sign-in, room, call limit, right, handler."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from import_core.domain.callers import Caller
from import_core.domain.dead_letters import LONGEST_ID
from import_core.domain.errors import ImportOperatorError, ObjectNotFoundError
from import_core.observability.logs import get_logger
from import_gateway.access.credentials import SAFE_METHODS, comes_from_own_page, read_credentials
from import_gateway.access.gatekeeper import NotAuthenticatedError
from import_gateway.api.operation import Call, Operation
from import_gateway.api.problems import (
    BUSY,
    FOREIGN_ORIGIN,
    INTERNAL,
    METHOD_NOT_ALLOWED,
    ProblemError,
    get_problem_response,
    problem_of,
)
from import_gateway.services import Services

log = get_logger(__name__)

REQUESTS_AT_ONCE = 200
"""Requests of recognised callers under way in this replica; above, callers are asked to come back."""
STRANGERS_AT_ONCE = 64
"""Requests whose token nobody has recognised yet; they take no room from callers who are known."""
SIGN_INS_AT_ONCE = 32
"""Sign-ins and sign-outs: they send a body before they are known."""
PIECE = 65_536
"""Bytes of an answer that are handed to the server at once."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_LETTER = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_ID - 1}}}")


class PathEndpoint:
    """All operations of one path, as an ASGI application."""

    def __init__(self, services: Services, operations: Sequence[Operation], under_way: UnderWay) -> None:
        self._services = services
        self._path = operations[0].path
        self._operations = {operation.method: operation for operation in operations}
        self._under_way = under_way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every known error becomes a problem document."""
        request = Request(scope, receive)
        scope["route_pattern"] = self._path
        with ExitStack() as places:
            try:
                response = await self._answer(request, places)
            except ImportOperatorError as error:
                places.close()
                response = get_problem_response(self._problem(error), instance=scope.get("request_id"))
            if isinstance(response, StreamingResponse):
                places.close()
                await response(scope, receive, send)
                return
            try:
                async with asyncio.timeout(self._services.settings.request_seconds):
                    await _send(response, scope, receive, send)
            except TimeoutError:
                # The server closes the connection, as the answer is not complete.
                log.warning("answer.not_read", requestId=scope.get("request_id"))

    async def _answer(self, request: Request, places: ExitStack) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        operation = self._operations.get(method)
        if operation is None or (operation.stream and request.method == "HEAD"):
            allowed = ", ".join(sorted(self._operations))
            raise ProblemError(
                METHOD_NOT_ALLOWED, f"{request.method} can't be done here", headers={"Allow": allowed}
            )
        _check_path(request.path_params)
        if operation.weightless:
            return await operation.handler(Call(self._services, request, None, check=_nothing))
        seconds = self._services.settings.request_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._handle(request, operation, places)
        except TimeoutError as error:
            raise ProblemError(BUSY, f"There was no answer within {seconds:g} s", retry_after=5) from error

    async def _handle(self, request: Request, operation: Operation, places: ExitStack) -> Response:
        """Answer in a place that is free again when the answer has been sent, or begins to be streamed."""
        if operation.public:
            places.enter_context(self._under_way.sign_ins)
            return await operation.handler(Call(self._services, request, None, check=_nothing))
        token = self._read_token(request)
        if not self._services.access.knows(token):
            with self._under_way.strangers:
                await self._services.access.authenticate(token)
        places.enter_context(self._under_way.callers)
        return await operation.handler(await self._admit(request, operation, token))

    def _read_token(self, request: Request) -> str:
        credentials = read_credentials(request, self._services.settings)
        if credentials is None:
            raise NotAuthenticatedError
        if (
            credentials.from_cookie
            and request.method not in SAFE_METHODS
            and not comes_from_own_page(request, self._services.settings)
        ):
            raise ProblemError(FOREIGN_ORIGIN, "With a cookie, writes must come from the gateway's own page")
        return credentials.token

    async def _admit(self, request: Request, operation: Operation, token: str) -> Call:
        async def check() -> None:
            await self._authorise(request, operation, token)

        access = self._services.access
        caller = await access.authenticate(token)
        request.scope["caller"] = caller.username
        access.count_call(caller)
        await self._authorise(request, operation, token, caller)
        return Call(self._services, request, caller, check)

    async def _authorise(
        self, request: Request, operation: Operation, token: str, caller: Caller | None = None
    ) -> None:
        access = self._services.access
        caller = caller or await access.authenticate(token)
        if operation.action is not None:
            await access.authorise(
                caller,
                operation.action,
                namespace=request.path_params.get("namespace", self._services.settings.namespace),
                name=_object_name(request, operation),
            )

    def _problem(self, error: ImportOperatorError) -> ProblemError:
        problem = problem_of(error)
        if problem.kind is INTERNAL:
            log.error("request.failed", exc_info=error)
        return problem


class UnderWay:
    """The requests under way: who is not recognised yet has room of his own. Open streams don't count."""

    def __init__(self) -> None:
        self.callers = RequestRoom(REQUESTS_AT_ONCE)
        self.strangers = RequestRoom(STRANGERS_AT_ONCE)
        self.sign_ins = RequestRoom(SIGN_INS_AT_ONCE)


class RequestRoom:
    """Counts requests; raises ProblemError above `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0

    def __enter__(self) -> None:
        if self._count >= self._most:
            raise ProblemError(BUSY, "Too many requests are under way", retry_after=1)
        self._count += 1

    def __exit__(self, *_details: object) -> None:
        self._count -= 1


def _object_name(request: Request, operation: Operation) -> str:
    """The object of the action; what can be no name asks for the right to all, and is refused later."""
    if not operation.action_names:
        return str(request.path_params.get("name", ""))
    name = request.query_params.get(operation.action_names, "")
    return name if _NAME.fullmatch(name) else ""


def _check_path(parameters: Mapping[str, str]) -> None:
    for parameter, value in parameters.items():
        if (_LETTER if parameter == "letter" else _NAME).fullmatch(value) is None:
            raise ObjectNotFoundError("There is nothing of that name: no name can look like that")


async def _send(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a large body in pieces: the server takes the next one when the reader has taken most of those before."""
    body = bytes(response.body)
    if len(body) <= PIECE:
        await response(scope, receive, send)
        return
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    for start in range(0, len(body), PIECE):
        await send({"type": "http.response.body", "body": body[start : start + PIECE], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _nothing() -> None:
    """There is nothing to check."""
