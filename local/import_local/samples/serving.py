"""What all of the server's routes share: faults before the answer, counting after it, addresses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response

from import_local.samples.catalogue.expected import Provider
from import_local.samples.catalogue.registry import CatalogueNotFoundError
from import_local.samples.counters import Call
from import_local.samples.faults import FaultAction, delay, drop_connection
from import_local.samples.state import Account, Sample

Handler = Callable[[Request, Account], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a provider words what every provider can answer."""

    provider: Provider
    not_found: Callable[[], Response]
    failed: Callable[[int], Response]
    throttled: Callable[[Account, Request], Response]
    odd: Callable[[FaultAction], Response | None] = lambda _action: None
    """Answers with status 200 that only this provider has."""


def base_url(request: Request) -> str:
    """Return the server's root as the client addresses it, without a slash at the end."""
    return str(request.base_url).rstrip("/")


def arrival_of(request: Request) -> float:
    """Return when the request's head was read, in monotonic seconds."""
    arrived: float = request.scope["state"]["arrived"]
    return arrived


def sample_of(request: Request) -> Sample:
    """Return the server's state."""
    sample: Sample = request.app.state.sample
    return sample


def account_of(request: Request) -> Account | None:
    """Return the shop or account that the address's `provider` and `account` name, or None."""
    provider = request.path_params["provider"]
    if provider not in get_args(Provider):
        return None
    try:
        return sample_of(request).account(provider, request.path_params["account"])
    except CatalogueNotFoundError:
        return None


def api_route(
    dialect: Dialect, handler: Handler, *, counted: bool = True
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint that runs `handler` behind the account's faults.

    What a provider does not count as an API call (tokens, result files) goes into `otherRequests` instead.
    """

    async def endpoint(request: Request) -> Response:
        arrived = arrival_of(request)
        try:
            account = sample_of(request).account(dialect.provider, request.path_params["account"])
        except CatalogueNotFoundError:
            return dialect.not_found()
        counters = account.counters
        what = f"{request.method} {request.url.path.split('/', 3)[-1]}"

        def count(status: int, size: int) -> None:
            if counted:
                counters.record_call(Call(arrived, status, what), size)
            else:
                counters.other_requests += 1

        await delay(account.api_faults.settings.latency_seconds)
        action = account.api_faults.decide()
        response = await _faulty(action, dialect, account, request) if action else None
        if response is None and action is not None and action.kind == "drop":
            count(0, 0)
            await drop_connection(request)
            return Response(status_code=500)
        if response is None:
            response = await handler(request, account)
        count(response.status_code, len(getattr(response, "body", b"")))
        return response

    return endpoint


async def _faulty(
    action: FaultAction, dialect: Dialect, account: Account, request: Request
) -> Response | None:
    """Return the ordered wrong answer, or None if the usual one follows (or none at all)."""
    match action.kind:
        case "slow":
            await delay(action.seconds)
            return None
        case "drop":
            return None
        case "throttled":
            account.counters.throttled += 1
            return dialect.throttled(account, request)
        case "truncated" | "blocked" | "malformed" | "garbled":
            return dialect.odd(action)
        case _:
            response = dialect.failed(action.status)
            if action.retry_after is not None:
                response.headers["Retry-After"] = f"{action.retry_after:g}"
            return response
