"""The GraphQL endpoint: access, parsing, cost, throttling, execution, in the order that Shopify has them."""

from __future__ import annotations

import json
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from import_local.samples.serving import base_url
from import_local.samples.settings import SHOPIFY_TOKEN_ACCESS_DENIED
from import_local.samples.shopify.access import (
    SCOPE,
    answer,
    check_access,
    refused,
    served_version,
    throttled_body,
)
from import_local.samples.shopify.cost import MAX_QUERY_COST, cost_extension, requested_cost
from import_local.samples.shopify.execute import Result, execute
from import_local.samples.shopify.parser import parse
from import_local.samples.shopify.plan import Error, Plan, error_at, plan_request
from import_local.samples.shopify.resolvers import Shop
from import_local.samples.shopify.syntax import GraphQLSyntaxError
from import_local.samples.state import Account

MAX_BODY = 1_000_000
OPEN_FIELDS = frozenset({"shop", "currentBulkOperation", "bulkOperation", "__typename"})


async def graphql(request: Request, account: Account) -> Response:
    """Answer one GraphQL request."""
    refusal = check_access(request, account)
    if refusal is not None:
        return refusal
    version = served_version(request.path_params["version"])
    if version is None:
        return refused(404)
    headers = {"X-Shopify-API-Version": version}
    body = _body(await request.body())
    if body is None:
        return answer({"errors": {"query": "Required parameter missing or invalid"}}, 400, headers)
    token = request.headers["X-Shopify-Access-Token"]
    try:
        document = parse(body["query"])
    except GraphQLSyntaxError as error:
        location = {"line": error.line, "column": error.column}
        return answer(
            {"errors": [{"message": f"syntax error, {error}", "locations": [location]}]}, 200, headers
        )
    plan = plan_request(document, body.get("operationName"), body.get("variables") or {})
    if plan.errors:
        return answer({"errors": plan.errors}, 200, headers)
    return _metered(request, account, plan, token, headers)


def _metered(request: Request, account: Account, plan: Plan, token: str, headers: dict[str, str]) -> Response:
    requested = requested_cost(plan)
    if requested > MAX_QUERY_COST:
        return answer({"errors": [_too_dear(requested)]}, 200, headers)
    bucket = account.points(token, time.monotonic())
    if not bucket.take(requested, time.monotonic()):
        account.counters.throttled += 1
        status = account.behaviour.throttle_status
        extra = {"Retry-After": "1.0"} if status == 429 else {}
        return answer(throttled_body(account, token, requested), status, {**headers, **extra})
    result = _denied(plan) if token == SHOPIFY_TOKEN_ACCESS_DENIED else None
    result = result or _execute(request, account, plan)
    bucket.give_back(requested - result.cost)
    content: dict[str, Any] = {"data": result.data}
    if result.errors:
        content["errors"] = result.errors
    content["extensions"] = {"cost": cost_extension(requested, result.cost, bucket)}
    if result.search:
        content["extensions"]["search"] = result.search
    return answer(content, 200, headers)


def _execute(request: Request, account: Account, plan: Plan) -> Result:
    bulk, behaviour = account.bulk, account.behaviour
    bulk.base_url = base_url(request)
    bulk.mode = behaviour.bulk
    bulk.distance = account.settings.bulk_child_distance
    seconds = behaviour.bulk_seconds
    bulk.seconds = account.settings.bulk_seconds if seconds is None else seconds
    return execute(plan, Shop(account.name, account.catalogue, base_url(request)), bulk)


def _denied(plan: Plan) -> Result | None:
    errors: list[Error] = [
        error_at(
            f"Access denied for {one.name} field. Required access: `{SCOPE}` access scope.",
            one.location,
            [one.key],
            "ACCESS_DENIED",
            documentation="https://shopify.dev/api/usage/access-scopes",
            requiredAccess=f"`{SCOPE}` access scope.",
        )
        for one in plan.fields
        if one.name not in OPEN_FIELDS
    ]
    return Result(None, errors, 1) if errors else None


def _too_dear(cost: int) -> Error:
    return {
        "message": f"Query cost is {cost}, which exceeds the single query max cost limit ({MAX_QUERY_COST}).\n\n"
        "See https://shopify.dev/concepts/about-apis/rate-limits for more information on how the\n"
        "cost of a query is calculated.\n\n"
        "To query larger amounts of data with fewer limits, bulk operations should be used instead.",
        "extensions": {
            "code": "MAX_COST_EXCEEDED",
            "cost": cost,
            "maxCost": MAX_QUERY_COST,
            "documentation": "https://shopify.dev/api/usage/rate-limits",
        },
    }


def _body(raw: bytes) -> dict[str, Any] | None:
    if len(raw) > MAX_BODY:
        return None
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        return None
    return body if isinstance(body.get("variables") or {}, dict) else None


async def bulk_result(request: Request, account: Account) -> Response:
    """Serve the JSONL file of a bulk operation; its address needs no token."""
    file = account.bulk.file(request.path_params["file"])
    if file is None:
        return refused(404)
    return FileResponse(file, media_type="application/jsonl")
