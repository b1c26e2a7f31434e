"""Shopify's GraphQL: each call tells what it costs and what its answer said, and errors are sorted by their code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from import_core.domain.errors import (
    CredentialsError,
    ProviderRejectedError,
    ProviderUnavailableError,
)
from import_core.domain.limits import CostBucket, call_limit_pause
from import_worker.providers.base import Connection, RateLimiter
from import_worker.providers.http import Answer, ApiClient, Call, CallPolicy, ProviderWord
from import_worker.providers.shopify.queries import GRAPHQL_PATH
from import_worker.providers.shopify.tokens import AccessToken

CREDENTIALS_HINT = (
    "check the access token in the provider's Secret and that the app has the scope read_products."
)
CALL_LIMIT_HEADER = "x-shopify-shop-api-call-limit"
"""Used and all calls of the REST API's bucket, in the answers that count against it."""


class QueryTooCostlyError(ProviderRejectedError):
    """Shopify refuses the query because it asks for too much at once."""

    def __init__(self, message: str, *, cost: float | None, ceiling: float | None) -> None:
        self.cost = cost
        self.ceiling = ceiling
        super().__init__(message)


class GraphQLClient:
    """Runs GraphQL queries on one shop.

    Raises QueryTooCostlyError, CredentialsError, ProviderRejectedError, ProviderUnavailableError,
    ProviderThrottledError and HandBackError.
    """

    def __init__(self, connection: Connection, limiter: RateLimiter, *, policy: CallPolicy) -> None:
        self.api = ApiClient(connection, limiter, word_of=self._word_of, policy=policy)
        self._token = AccessToken(connection, self.api)
        self._maximum = math.inf
        self._costs: dict[object, float] = {}

    async def execute(
        self, query: str, variables: Mapping[str, Any] | None = None, *, cost_key: object = None
    ) -> dict[str, Any]:
        """Return `data`. `cost_key` names queries of equal cost, so that the next one can wait for its room."""
        points = self._points_of(cost_key)
        answer = await self._send({"query": query, "variables": dict(variables or {})}, points)
        if answer.status != 200:
            raise self._refusal(answer)
        payload = answer.payload
        if not isinstance(payload, dict):
            raise ProviderUnavailableError(f"{self.api.host} gave an answer that is not JSON.")
        errors = payload.get("errors")
        if errors:
            raise self._sorted_error(errors)
        cost = _cost_of(payload).get("requestedQueryCost")
        if cost_key is not None and isinstance(cost, int | float):
            self._costs[cost_key] = float(cost)
        data = payload.get("data")
        if not isinstance(data, dict):
            raise ProviderUnavailableError(f"{self.api.host} gave an answer without data.")
        return data

    async def aclose(self) -> None:
        """Close connections."""
        await self.api.aclose()

    async def _send(self, body: Mapping[str, Any], points: float) -> Answer:
        token = await self._token.get()
        answer = await self._post(body, token, points)
        if answer.status == 401 and self._token.renewable:
            self._token.drop(token)
            answer = await self._post(body, await self._token.get(), points)
        return answer

    async def _post(self, body: Mapping[str, Any], token: str, points: float) -> Answer:
        headers = {"X-Shopify-Access-Token": token}
        return await self.api.send(Call("POST", GRAPHQL_PATH, headers=headers, json=body, points=points))

    def _points_of(self, cost_key: object) -> float:
        """What such a query costs, 0 while unknown: the limiter waits until the shop's bucket holds it."""
        cost = self._costs.get(cost_key, 0.0)
        if cost > self._maximum:
            raise QueryTooCostlyError(
                f"A query costs {cost:g} points, and the bucket holds {self._maximum:g}.",
                cost=cost,
                ceiling=self._maximum,
            )
        return cost

    def _word_of(self, answer: Answer) -> ProviderWord:
        """Read the bucket from every answer; a throttled one says HTTP 429, or THROTTLED with HTTP 200."""
        payload = answer.payload if isinstance(answer.payload, dict) else {}
        cost = _cost_of(payload)
        bucket = _bucket_of(cost)
        if bucket is not None:
            self._maximum = bucket.maximum
        if answer.status != 429 and "THROTTLED" not in _codes(payload.get("errors")):
            return ProviderWord(pause=call_limit_pause(answer.headers.get(CALL_LIMIT_HEADER)), bucket=bucket)
        wait = 0.0
        requested = cost.get("requestedQueryCost")
        if bucket is not None and isinstance(requested, int | float):
            room = bucket.wait_for(float(requested))
            wait = room if math.isfinite(room) else 0.0
        return ProviderWord(throttled=max(wait, answer.retry_after or 0.0), bucket=bucket)

    def _refusal(self, answer: Answer) -> Exception:
        errors = answer.payload.get("errors") if isinstance(answer.payload, dict) else None
        message = errors if isinstance(errors, str) else _message(errors)
        return self.api.refusal(answer, hint=CREDENTIALS_HINT, message=message)

    def _sorted_error(self, errors: Any) -> Exception:
        codes = _codes(errors)
        words = self.api.quote(_message(errors))
        if "MAX_COST_EXCEEDED" in codes:
            details = next(_extensions(error) for error in errors if _code(error) == "MAX_COST_EXCEEDED")
            return QueryTooCostlyError(
                f"{self.api.host} refused the query for its cost.{words}",
                cost=_number(details.get("cost")),
                ceiling=_number(details.get("maxCost")),
            )
        if "ACCESS_DENIED" in codes:
            return CredentialsError(f"{self.api.host} denied access: {CREDENTIALS_HINT}{words}")
        if codes & {"INTERNAL_SERVER_ERROR", "TIMEOUT", "SERVICE_UNAVAILABLE"}:
            return ProviderUnavailableError(f"{self.api.host} failed to answer the query.{words}")
        return ProviderRejectedError(f"{self.api.host} refused the query.{words}")


def _cost_of(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    extensions = payload.get("extensions")
    cost = extensions.get("cost") if isinstance(extensions, dict) else None
    return cost if isinstance(cost, dict) else {}


def _bucket_of(cost: Mapping[str, Any]) -> CostBucket | None:
    status = cost.get("throttleStatus")
    if not isinstance(status, dict):
        return None
    values = [_number(status.get(key)) for key in ("maximumAvailable", "currentlyAvailable", "restoreRate")]
    maximum, available, rate = values
    if maximum is None or available is None or rate is None:
        return None
    return CostBucket(maximum, available, rate)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _extensions(error: Any) -> Mapping[str, Any]:
    extensions = error.get("extensions") if isinstance(error, dict) else None
    return extensions if isinstance(extensions, dict) else {}


def _code(error: Any) -> str:
    return str(_extensions(error).get("code", ""))


def _codes(errors: Any) -> set[str]:
    return {_code(error) for error in errors} if isinstance(errors, list) else set()


def _message(errors: Any) -> str | None:
    if isinstance(errors, str):
        return errors
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        message = errors[0].get("message")
        return message if isinstance(message, str) else None
    return None
