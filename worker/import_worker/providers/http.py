"""One provider's HTTP API: limiter, timeouts, bounded answers, retries, and errors sorted by what helps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from import_core.adapters.tasks import cancellations_of_this_task
from import_core.domain.addresses import ForbiddenAddressError
from import_core.domain.errors import (
    BreakerOpenError,
    CredentialsError,
    HandBackError,
    ProviderRejectedError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from import_core.domain.jobs import WaitingReason
from import_core.domain.limits import (
    LONGEST_RETRY_AFTER,
    CostBucket,
    growing_delay,
    retry_after_seconds,
)
from import_worker.network import CheckedTransport
from import_worker.providers.attempts import Failure, OversizedAnswerError, Turn
from import_worker.providers.base import Connection, Permit, RateLimiter
from import_worker.providers.json_text import read_json
from import_worker.providers.outcomes import CallOutcome, outcome_of

USER_AGENT = "import-operator (+https://imports.avnz.io)"
LONGEST_MESSAGE = 300
"""Characters of a provider's own words that are kept in an error."""
SHORTEST_HAND_BACK = 15.0
"""Seconds after which a job that kept being throttled comes back at the earliest."""
MOST_RENEWALS = 5
"""Grants of one call that may get too old before it is sent."""
PARSE_IN_THREAD_ABOVE = 256 * 1024
"""Bytes above which JSON is parsed in a thread, so that the event loop is not blocked."""


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How often and how long one call is tried before its job hears of it; delays in seconds."""

    throttle_retries: int = 4
    first_throttle_delay: float = 1.0
    outage_retries: int = 2
    """One dropped connection in a thousand calls must not cost a job one of its three retries."""
    first_outage_delay: float = 0.5
    longest_delay: float = 30.0
    longest_answer: int = 32 * 1024 * 1024
    """Bytes, after decompression."""
    connections: int = 8


@dataclass(frozen=True, slots=True)
class Call:
    """One request, relative to the connection's base address."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] | None = None
    json: Any = None
    form: Mapping[str, str] | None = field(default=None, repr=False)
    points: float = 0.0
    """What it costs of a bucket that the provider keeps, as far as known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `payload` is None when the body is not JSON, and then `body` is what came."""

    status: int
    headers: Mapping[str, str]
    payload: Any
    body: bytes = field(default=b"", repr=False)

    @property
    def retry_after(self) -> float | None:
        """Seconds the provider asks us to wait, if it says."""
        return retry_after_seconds(self.headers.get("retry-after"), now=datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class ProviderWord:
    """What an answer says of the provider's own limits.

    `throttled`: seconds for which a refused call asks us to wait (0: no time given; None: it was not refused).
    `pause`: seconds for which an answered one does. `bucket`: what is left of the provider's own points.
    """

    throttled: float | None = None
    pause: float = 0.0
    bucket: CostBucket | None = None


WordReader = Callable[[Answer], ProviderWord]


def read_status(answer: Answer) -> ProviderWord:
    """Read a plain HTTP 429."""
    return ProviderWord(throttled=(answer.retry_after or 0.0) if answer.status == 429 else None)


class ApiClient:
    """Calls one provider account. Every request sent has been granted by the limiter exactly once.

    Each is told to the connection's breaker. Raises ProviderUnavailableError (network, timeout, 5xx),
    ProviderThrottledError, ProviderRejectedError (answer too large, redirect, forbidden address) and
    HandBackError (limiter; BreakerOpenError). Answers below 500 are the
    caller's to judge, with `refusal` for those that are not a success.
    """

    def __init__(
        self,
        connection: Connection,
        limiter: RateLimiter,
        *,
        word_of: WordReader = read_status,
        policy: CallPolicy | None = None,
    ) -> None:
        self.host = _host_of(connection.base_url)
        self._base_url = connection.base_url.rstrip("/")
        self._timeout = connection.timeout_seconds
        self._secrets = tuple(value for value in connection.credentials.values() if len(value) >= 4)
        self._limiter = limiter
        self._guard = connection.guard
        self._meter = connection.meter
        self._word_of = word_of
        self._policy = policy or CallPolicy()
        self._client = checked_client(connection, connections=self._policy.connections)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(self, call: Call) -> Answer:
        """Send until there is an answer that waiting would not better."""
        throttles = outages = 0
        while True:
            result = await self._once(call)
            if isinstance(result, Failure):
                if result.final or outages >= self._policy.outage_retries:
                    before = max(0, result.in_a_row - outages - 1)
                    raise ProviderUnavailableError(result.problem, failures_before=before) from result.cause
                await asyncio.sleep(
                    growing_delay(
                        outages,
                        first=self._policy.first_outage_delay,
                        factor=4,
                        longest=self._policy.longest_delay,
                    )
                )
                outages += 1
                continue
            answer, word = result
            if word.throttled is not None:
                await self._obey(word.throttled, throttles)
                throttles += 1
                continue
            if word.pause > 0:
                await self._limiter.block(min(word.pause, LONGEST_RETRY_AFTER))
            return answer

    def refusal(self, answer: Answer, *, hint: str, message: str | None = None) -> Exception:
        """The error for an unsuccessful answer; `hint` says what to check, `message` is the provider's."""
        words = self.quote(message)
        if answer.status in {401, 403}:
            return CredentialsError(
                f"{self.host} refused the credentials (HTTP {answer.status}): {hint}{words}"
            )
        if 300 <= answer.status < 400:
            return ProviderRejectedError(
                f"{self.host} redirects elsewhere (HTTP {answer.status}); check spec.baseUrl."
            )
        if answer.status < 300:
            return ProviderUnavailableError(f"{self.host} gave an answer that can't be read.")
        return ProviderRejectedError(f"{self.host} refused the request (HTTP {answer.status}).{words}")

    def quote(self, message: object) -> str:
        """The provider's own words for an error: one line, cut, without any of our secrets; may be empty."""
        if not isinstance(message, str) or not message.strip():
            return ""
        text = "".join(char if char.isprintable() else "\ufffd" for char in " ".join(message.split()))
        for secret in self._secrets:
            text = text.replace(secret, "***")
        if len(text) > LONGEST_MESSAGE:
            text = text[: LONGEST_MESSAGE - 1] + "…"
        return f" It says: {text}"

    async def _obey(self, delay: float, throttles: int) -> None:
        """Block the connection for all workers; the next acquire waits, so no sleep is needed here."""
        self._guard.throttled()
        seconds = delay or growing_delay(
            throttles, first=self._policy.first_throttle_delay, longest=self._policy.longest_delay
        )
        seconds = min(seconds, LONGEST_RETRY_AFTER)
        await self._limiter.block(seconds)
        if throttles >= self._policy.throttle_retries:
            raise ProviderThrottledError(
                f"{self.host} asks us to slow down.", retry_after=max(seconds, SHORTEST_HAND_BACK)
            )

    async def _once(self, call: Call) -> tuple[Answer, ProviderWord] | Failure:
        """Send one request, and tell the breaker how it ended. Raises BreakerOpenError."""
        await self._guard.check()
        turn = Turn(await self._limiter.acquire(call.points))
        bucket: CostBucket | None = None
        try:
            permit = await self._guard.enter()
            result = await self._guarded(call, turn, permit)
            if not isinstance(result, Failure):
                bucket = result[1].bucket
        finally:
            await self._settle(call, turn, bucket)
        return result

    async def _settle(self, call: Call, turn: Turn, bucket: CostBucket | None) -> None:
        if not turn.sent:
            await self._limiter.release(turn.grant, call.points)
            return
        await self._limiter.arrived(turn.grant, turn.arrived_by(asyncio.get_running_loop().time()))
        if call.points or bucket is not None:
            await self._limiter.observe(turn.grant, call.points, bucket)

    async def _guarded(self, call: Call, turn: Turn, permit: Permit) -> tuple[Answer, ProviderWord] | Failure:
        try:
            result = await self._metered(call, turn)
        except OversizedAnswerError:
            await self._guard.succeeded(permit)
            raise
        except BaseException:
            # Refused by us, or cancelled: that says nothing of the provider.
            await self._guard.abandoned(permit)
            raise
        if isinstance(result, Failure):
            told = await self._guard.failed(permit)
            if isinstance(told, BreakerOpenError):
                raise told from ProviderUnavailableError(result.problem)
            return replace(result, in_a_row=told)
        await self._guard.succeeded(permit)
        return result

    async def _metered(self, call: Call, turn: Turn) -> tuple[Answer, ProviderWord] | Failure:
        with self._meter.call() as metered:
            try:
                result = await self._attempt(call, turn)
            except BaseException as error:
                if turn.sent:
                    read = not isinstance(error, OversizedAnswerError)
                    metered.outcome = CallOutcome.CANCELLED if read else CallOutcome.UNREADABLE
                raise
            if isinstance(result, Failure):
                metered.outcome = result.outcome
                return result
            word = self._word_of(result)
            metered.outcome = outcome_of(result.status, throttled=word.throttled is not None)
            return result, word

    async def _attempt(self, call: Call, turn: Turn) -> Answer | Failure:
        try:
            async with self._request(call, turn) as response:
                if response.status_code >= 500:
                    problem = f"{self.host} answers with a server error (HTTP {response.status_code})."
                    return Failure(problem, CallOutcome.SERVER_ERROR)
                body = await self._read(response)
                status, headers = response.status_code, dict(response.headers)
        except (TimeoutError, httpx2.TimeoutException) as error:
            # Not tried again here: it has already taken the whole time that one call may take.
            problem = f"{self.host} did not answer within {self._timeout:g} s."
            return Failure(problem, CallOutcome.TIMEOUT, error, final=True)
        except ForbiddenAddressError as error:
            raise ProviderRejectedError(
                f"spec.baseUrl: {error.message}; the worker's setting PROVIDER_ALLOW opens addresses that are"
                " not public."
            ) from error
        except httpx2.RequestError as error:
            problem = f"{self.host} can't be reached ({type(error).__name__})."
            return Failure(problem, CallOutcome.UNREACHABLE, error)
        payload = await parse_json(body)
        return Answer(status, headers, payload, body if payload is None else b"")

    async def _leave_in_time(self, call: Call, turn: Turn, limit: asyncio.Timeout) -> None:
        """To be called when a request is about to be sent: takes another grant where the first got too old."""
        clock = asyncio.get_running_loop().time
        # Connecting can take seconds; a grant used that late would count in the wrong window.
        while clock() - turn.grant.asked_at > turn.grant.lifetime:
            turn.renewals += 1
            if turn.renewals > MOST_RENEWALS:
                raise HandBackError(
                    "The limiter answers too late, time and again.",
                    retry_after=SHORTEST_HAND_BACK,
                    waiting_reason=WaitingReason.PROVIDER_LIMIT,
                )
            # Waiting for the limiter is not the provider's silence.
            limit.reschedule(None)
            turn.grant = await self._limiter.acquire(call.points, instead_of=turn.grant)
            limit.reschedule(clock() + self._timeout)
        turn.sent = True

    @asynccontextmanager
    async def _request(self, call: Call, turn: Turn) -> AsyncIterator[httpx2.Response]:
        clock = asyncio.get_running_loop().time
        cancellations = cancellations_of_this_task()

        async def trace(event: str, _: Mapping[str, Any]) -> None:
            match event.partition(".")[2]:
                case "send_request_headers.started":
                    # The client writes without looking whether its task was cancelled or the time is over.
                    if cancellations_of_this_task() > cancellations:
                        await asyncio.sleep(0)
                        raise asyncio.CancelledError
                    await self._leave_in_time(call, turn, limit)
                case "send_request_body.complete":
                    turn.written_at = clock()

        async with (
            asyncio.timeout(self._timeout) as limit,
            self._client.stream(
                call.method,
                self._base_url + call.path,
                headers=dict(call.headers),
                params=call.params,
                json=call.json,
                data=call.form,
                extensions={"trace": trace},
            ) as response,
        ):
            turn.answered_at = clock()
            yield response

    async def _read(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self._policy.longest_answer:
                raise OversizedAnswerError(
                    f"{self.host} gave an answer of more than {self._policy.longest_answer} bytes."
                )
        return bytes(body)


def checked_client(connection: Connection, *, connections: int) -> httpx2.AsyncClient:
    """A client that reaches public addresses and those that the connection allows, and no other."""
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx2.AsyncClient(
        transport=CheckedTransport(connection.allow, limits),
        timeout=httpx2.Timeout(connection.timeout_seconds),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        follow_redirects=False,
        trust_env=False,
    )


def _host_of(base_url: str) -> str:
    """Host and port for messages; raises ProviderRejectedError where it is no address that can be called."""
    try:
        parts = urlsplit(base_url)
        # Both readers must accept it: the client has rules of its own.
        port, host = parts.port, httpx2.URL(base_url).host
    except (ValueError, httpx2.InvalidURL) as error:
        raise ProviderRejectedError(f"spec.baseUrl: is not a valid address: {error}.") from error
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        raise ProviderRejectedError("spec.baseUrl: is not an http(s) address.")
    return parts.netloc.rpartition("@")[2]


async def parse_json(body: bytes) -> Any:
    """Parse JSON without blocking the event loop long; None if it is not JSON."""
    if len(body) > PARSE_IN_THREAD_ABOVE:
        return await asyncio.to_thread(_parse, body)
    return _parse(body)


def _parse(body: bytes) -> Any:
    try:
        return read_json(body)
    except (ValueError, RecursionError):
        return None
