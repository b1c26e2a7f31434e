"""Shopify's door: access tokens, scopes, the client-credentials grant, and its ways to say no."""

from __future__ import annotations

import hmac
import json
import secrets
import time
import uuid
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from import_local.samples.serving import Dialect
from import_local.samples.settings import (
    SHOPIFY_CLIENT_ID,
    SHOPIFY_CLIENT_SECRET,
    SHOPIFY_TOKEN,
    SHOPIFY_TOKEN_ACCESS_DENIED,
    SHOPIFY_TOKEN_WITHOUT_APPROVAL,
    is_credential,
)
from import_local.samples.shopify.cost import cost_extension
from import_local.samples.state import Account

SCOPE = "read_products"
TOKENS_KEPT = 10_000
VERSIONS = ("2026-01", "2026-04", "2026-07", "2026-10")
MESSAGES = {
    402: "Unavailable Shop",
    403: f"[API] This action requires merchant approval for {SCOPE} scope.",
    404: "Not Found",
    423: "Locked",
    429: "Exceeded 2 calls per second for api client. Reduce request rates to resume uninterrupted service.",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer with the headers that every answer of Shopify's has."""
    return JSONResponse(content, status, {"X-Request-Id": str(uuid.uuid4()), **(headers or {})})


def refused(status: int) -> Response:
    """Return Shopify's answer with an HTTP error status."""
    return answer({"errors": MESSAGES.get(status, f"Error {status}")}, status)


def throttled_body(account: Account, token: str, requested: int) -> dict[str, Any]:
    """Return the body of a throttled GraphQL answer."""
    bucket = account.points(token, time.monotonic())
    return {
        "errors": [
            {
                "message": "Throttled",
                "extensions": {
                    "code": "THROTTLED",
                    "documentation": "https://shopify.dev/api/usage/rate-limits",
                },
            }
        ],
        "extensions": {"cost": cost_extension(requested, None, bucket)},
    }


def ordered_throttle(account: Account, request: Request) -> Response:
    """Return the throttled answer that a test ordered, in the form of the API that was asked."""
    if request.url.path.endswith("graphql.json"):
        token = request.headers.get("X-Shopify-Access-Token", "")
        return answer(throttled_body(account, token, 0), account.behaviour.throttle_status)
    return answer({"errors": MESSAGES[429]}, 429, {"Retry-After": "2.0"})


DIALECT = Dialect(
    provider="shopify",
    not_found=lambda: refused(404),
    failed=refused,
    throttled=ordered_throttle,
)


def check_access(request: Request, account: Account) -> Response | None:
    """Return the refusal of a request without a valid token, or None if it may go on."""
    token = request.headers.get("X-Shopify-Access-Token", "")
    if token == SHOPIFY_TOKEN_WITHOUT_APPROVAL:
        return refused(403)
    expiry = account.issued_tokens.get(token, 0.0)
    if (
        is_credential(token, SHOPIFY_TOKEN)
        or token == SHOPIFY_TOKEN_ACCESS_DENIED
        or expiry > time.monotonic()
    ):
        return None
    message = "[API] Invalid API key or access token (unrecognized login or wrong password)"
    return answer({"errors": message}, 401)


def served_version(version: str) -> str | None:
    """Return the API version that answers: an old one falls forward to the oldest served; None is no version."""
    year, dash, month = version.partition("-")
    if version == "unstable" or version in VERSIONS:
        return version
    well_formed = dash and len(year) == 4 and year.isdigit() and month in {"01", "04", "07", "10"}
    return VERSIONS[0] if well_formed and version < VERSIONS[0] else None


async def grant_token(request: Request, account: Account) -> Response:
    """Answer the client-credentials grant: form or JSON with client_id, client_secret and grant_type."""
    body = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = None
        fields = parsed if isinstance(parsed, dict) else {}
    else:
        fields = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
    if fields.get("grant_type") != "client_credentials":
        return answer({"error": "unsupported_grant_type"}, 400)
    secret = str(fields.get("client_secret", ""))
    if not is_credential(str(fields.get("client_id", "")), SHOPIFY_CLIENT_ID) or not hmac.compare_digest(
        secret, SHOPIFY_CLIENT_SECRET
    ):
        return answer({"error": "invalid_client", "error_description": "Client authentication failed"}, 401)
    seconds = account.behaviour.token_seconds
    seconds = account.settings.shopify_token_seconds if seconds is None else seconds
    token = f"shpat_{secrets.token_hex(16)}"
    account.issued_tokens[token] = time.monotonic() + seconds
    if len(account.issued_tokens) > TOKENS_KEPT:
        account.issued_tokens.popitem(last=False)
    return answer({"access_token": token, "scope": SCOPE, "expires_in": int(seconds)})
