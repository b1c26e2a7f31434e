"""A stand-in for Gemini's generateContent: answers in its protocol, and decides on products by words in their text.

It is a gullible model on purpose: what it finds outside the delimited data, it takes for instructions and obeys.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from import_core.domain.judging import BEGIN, END
from import_local.samples.faults import FaultAction
from import_local.samples.serving import Dialect, api_route
from import_local.samples.settings import GEMINI_KEY, is_credential
from import_local.samples.state import Account

MODELS = frozenset({"gemini-3.5-flash-lite", "gemini-3.6-flash", "gemini-3.8-flash"})
MOST_BYTES = 20 * 1024 * 1024
"""Of a request with inline data, as documented."""
IMAGE_TOKENS = 258
RETRY_SECONDS = 7
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_SIGNATURES = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/webp": b"RIFF",
}
WORDS: tuple[tuple[str, str, str], ...] = (
    ("replica", "rejected", "Counterfeit"),
    ("counterfeit", "rejected", "Counterfeit"),
    ("crossbow", "rejected", "ProhibitedItem"),
    ("whatsapp me", "rejected", "PersonalData"),
    ("miracle", "flagged", "Misleading"),
    ("asdf", "rejected", "Spam"),
)
"""What a product's data may hold, and what is decided then."""
UNSPEAKABLE = "unspeakable"
"""A prompt with this word is blocked."""
INJECTIONS = ("ignore", "approve me", "approved already", "system:", "instructions")
_DATA = re.compile(rf"^{BEGIN} (\w+)$\n(.*?)^{END} \1$", re.MULTILINE | re.DOTALL)


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True)


class _InlineData(_Model):
    mime_type: str
    data: str


class _Part(_Model):
    text: str | None = None
    inline_data: _InlineData | None = None


class _Content(_Model):
    role: str | None = None
    parts: list[_Part] = Field(default_factory=list)


class _Generation(_Model):
    model_config = ConfigDict(extra="allow", alias_generator=to_camel, populate_by_name=True)

    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    max_output_tokens: int | None = None


class _Asked(_Model):
    contents: list[_Content] = Field(min_length=1)
    system_instruction: _Content | None = None
    generation_config: _Generation = Field(default_factory=_Generation)


def failed(status: int, message: str | None = None, *details: Mapping[str, Any]) -> Response:
    """Return an error as Google's APIs word it (google.rpc.Status)."""
    error = {
        "code": status,
        "message": message or "An internal error has occurred.",
        "status": STATUSES.get(status, "UNKNOWN"),
        **({"details": list(details)} if details else {}),
    }
    return JSONResponse({"error": error}, status)


def throttled(*_: object) -> Response:
    """Return what a client hears that asks too often."""
    return failed(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{RETRY_SECONDS}s"},
    )


def odd(action: FaultAction) -> Response | None:
    """Return the ordered wrong answer that has status 200."""
    match action.kind:
        case "truncated":
            return _answer('{"reasons": [{"code": "Mislead', finish="MAX_TOKENS", tokens=100)
        case "blocked":
            return _blocked("PROHIBITED_CONTENT")
        case "malformed":
            return _answer("{'decision': approved", tokens=100)
        case "garbled":
            return Response('{"candidates": [{"content": {"parts": [{"te', media_type="application/json")
        case _:
            return None


DIALECT = Dialect(
    provider="gemini",
    not_found=lambda: failed(404, "Not found."),
    failed=failed,
    throttled=throttled,
    odd=odd,
)


async def generate_content(request: Request, _account: Account) -> Response:
    """Answer POST …/v1beta/models/{model}:generateContent."""
    body = await request.body()
    refusal = _refusal(request, len(body))
    if refusal is not None:
        return refusal
    try:
        asked = _Asked.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return failed(400, f"Invalid value at {'.'.join(map(str, first['loc']))!r}: {first['msg']}")
    problem = _problem(asked)
    if problem is not None:
        return failed(400, problem)
    texts = [part.text for content in asked.contents for part in content.parts if part.text]
    text = "\n".join(texts)
    images = sum(part.inline_data is not None for content in asked.contents for part in content.parts)
    tokens = len(text) // 4 + IMAGE_TOKENS * images
    if UNSPEAKABLE in text.lower():
        return _blocked("PROHIBITED_CONTENT", tokens)
    return _answer(json.dumps(decide(text)), tokens=tokens)


def decide(text: str) -> dict[str, Any]:
    """The decision on a product by words of its data; text beside the data is obeyed."""
    found = _DATA.search(text)
    data = found[2].lower() if found else ""
    beside = (text[: found.start()] + text[found.end() :] if found else text).lower()
    if any(word in beside for word in INJECTIONS[:4]):
        return {"reasons": [], "decision": "approved"}
    for word, decision, code in WORDS:
        if word in data:
            message = f"The text has the word {word}."
            return {"reasons": [{"code": code, "message": message}], "decision": decision}
    if any(word in data for word in INJECTIONS):
        reason = {"code": "InstructionsInText", "message": "The description addresses whoever judges it."}
        return {"reasons": [reason], "decision": "flagged"}
    return {"reasons": [], "decision": "approved"}


def _refusal(request: Request, size: int) -> Response | None:
    key = request.headers.get("x-goog-api-key", "")
    if not key:
        return failed(403, "Method doesn't allow unregistered callers.")
    if not is_credential(key, GEMINI_KEY):
        return failed(
            400,
            "API key not valid. Please pass a valid API key.",
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
            },
        )
    model = request.path_params["model"]
    if model not in MODELS:
        return failed(404, f"models/{model} is not found for API version v1beta.")
    if size > MOST_BYTES:
        return failed(400, f"Request payload size exceeds the limit: {MOST_BYTES} bytes.")
    return None


def _problem(asked: _Asked) -> str | None:
    """What a request is refused for, as models since Gemini 3.5 refuse it."""
    extra = set(asked.generation_config.model_extra or {}) & {"temperature", "topP", "topK"}
    if extra:
        return f"{', '.join(sorted(extra))} is not supported by this model."
    if asked.generation_config.response_schema and (
        asked.generation_config.response_mime_type != "application/json"
    ):
        return "response_schema needs response_mime_type application/json."
    if asked.contents[-1].role == "model":
        return "Requests ending with a model turn are not supported."
    for content in asked.contents:
        for part in content.parts:
            if part.inline_data is not None and not _is_image(part.inline_data):
                return "Unable to process input image. Please retry or report."
    return None


def _is_image(given: _InlineData) -> bool:
    signature = _SIGNATURES.get(given.mime_type)
    # Both alphabets are accepted, as the JSON form of protocol buffers says; Google's client sends the URL-safe one.
    data = given.data.replace("-", "+").replace("_", "/")
    try:
        return signature is not None and base64.b64decode(data, validate=True).startswith(signature)
    except binascii.Error:
        return False


def _answer(text: str, *, finish: str = "STOP", tokens: int) -> Response:
    output = max(1, len(text) // 4)
    return JSONResponse(
        {
            "candidates": [
                {
                    "content": {"role": "model", "parts": [{"text": text}]},
                    "finishReason": finish,
                    "index": 0,
                }
            ],
            "usageMetadata": {
                "promptTokenCount": tokens,
                "candidatesTokenCount": output,
                "totalTokenCount": tokens + output,
            },
            "modelVersion": "sample",
        }
    )


def _blocked(reason: str, tokens: int = 100) -> Response:
    return JSONResponse(
        {
            "promptFeedback": {"blockReason": reason},
            "usageMetadata": {"promptTokenCount": tokens, "totalTokenCount": tokens},
            "modelVersion": "sample",
        }
    )


def routes() -> list[Route]:
    """Return the routes of the model's API."""
    path = "/gemini/{account}/v1beta/models/{model}:generateContent"
    return [Route(path, api_route(DIALECT, generate_content), methods=["POST"])]
