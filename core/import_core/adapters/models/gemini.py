"""Gemini by Google's own client: one question with images, one answer in a given form."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2

from import_core.adapters.packages import optional
from import_core.domain.errors import (
    CredentialsError,
    ModelNotUsableError,
    ProviderRejectedError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from import_core.domain.judging import Question, Reply
from import_core.domain.limits import LONGEST_RETRY_AFTER, retry_after_seconds
from import_core.observability.redaction import hide_values

if TYPE_CHECKING:
    from google.genai.errors import APIError
    from google.genai.types import GenerateContentResponse

API_VERSION = "v1beta"
CONNECT_SECONDS = 5.0
MOST_OUTPUT_TOKENS = 8_192
"""What the model thinks counts as well. An answer takes about a hundred."""
MESSAGE_LIMIT = 300
_DELAY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")


class GeminiModel:
    """One model behind one key. Safe for use by many tasks of one event loop.

    `base_url` is for an endpoint other than Google's; `timeout` (seconds) bounds one call. The client tries nothing
    again by itself. No sampling parameters are sent: models since Gemini 3.5 refuse them.

    Raises MissingPackageError where the package google-genai is not installed.
    """

    def __init__(
        self, *, api_key: str, model: str, base_url: str | None = None, timeout: float = 30.0
    ) -> None:
        genai, types, errors = (
            optional(package, extra="enrich", purpose="Gemini")
            for package in ("google.genai", "google.genai.types", "google.genai.errors")
        )
        hide_values([api_key])
        self.model = model
        self._timeout = timeout
        self._types = types
        self._error_class = errors.APIError
        # A client of our own: the package's other one waits seconds and repeats by itself when a connection fails.
        self._http = httpx2.AsyncClient(timeout=httpx2.Timeout(timeout, connect=CONNECT_SECONDS))
        self._client = genai.Client(
            api_key=api_key,
            vertexai=False,
            http_options=types.HttpOptions(
                base_url=base_url or None,
                api_version=API_VERSION,
                timeout=math.ceil(timeout * 1000),
                httpx_async_client=self._http,
            ),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, question: Question, schema: Mapping[str, Any]) -> Reply:
        """Ask once; the answer is asked for as JSON of the `schema` (Gemini's `responseSchema`).

        Raises ProviderThrottledError, ProviderUnavailableError (also for an answer that can't be read at all),
        CredentialsError, ModelNotUsableError, and ProviderRejectedError for this question alone.
        """
        types = self._types
        parts = [types.Part.from_text(text=question.text)]
        parts += [types.Part.from_bytes(data=image, mime_type="image/jpeg") for image in question.images]
        config = types.GenerateContentConfig(
            system_instruction=question.instructions,
            response_mime_type="application/json",
            response_schema=dict(schema),
            candidate_count=1,
            max_output_tokens=MOST_OUTPUT_TOKENS,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        with self._translated():
            response = await self._client.aio.models.generate_content(
                model=self.model,
                contents=[types.Content(role="user", parts=parts)],
                config=config,
            )
        return reply_of(response)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._error_class as error:
            raise self._meaning_of(error) from error
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise ProviderUnavailableError(f"Gemini did not answer within {self._timeout:g} s.") from error
        except httpx2.HTTPError as error:
            raise ProviderUnavailableError(f"Gemini can't be reached ({type(error).__name__}).") from error
        except ValueError as error:
            # JSON that ends early, or is of another shape: the client's own words quote it.
            raise ProviderUnavailableError("Gemini gave an answer that can't be read.") from error

    def _meaning_of(self, error: APIError) -> Exception:
        document = error_document(error.details)
        words = _quote(document.get("message"))
        if error.code == 429:
            return ProviderThrottledError(
                f"Gemini asks us to slow down.{words}",
                retry_after=retry_delay(document) or _retry_after(error.response),
            )
        if error.code >= 500 or error.code == 408:
            return ProviderUnavailableError(f"Gemini answers with a server error (HTTP {error.code}).{words}")
        if error.code in {401, 403} or "API_KEY_INVALID" in _reasons(document):
            return CredentialsError(
                f"Gemini refused the key (HTTP {error.code}): check GEMINI_API_KEY and what it may be used for.{words}"
            )
        if error.code == 404 or document.get("status") == "FAILED_PRECONDITION":
            return ModelNotUsableError(
                f"Gemini does not offer {self.model} here (HTTP {error.code}): check GEMINI_MODEL and GEMINI_BASE_URL."
                f"{words}"
            )
        if 300 <= error.code < 400:
            return ModelNotUsableError(
                f"Gemini's address redirects (HTTP {error.code}): check GEMINI_BASE_URL."
            )
        return ProviderRejectedError(f"Gemini refused the request (HTTP {error.code}).{words}")


def reply_of(response: GenerateContentResponse) -> Reply:
    """What a response says. Nothing in it raises: blocked and cut-off answers are told by their fields alone."""
    feedback, usage = response.prompt_feedback, response.usage_metadata
    candidate = response.candidates[0] if response.candidates else None
    content = candidate.content if candidate is not None else None
    texts = [
        part.text
        for part in (content.parts or [] if content is not None else [])
        if part.text and not part.thought
    ]
    thoughts = (usage.thoughts_token_count or 0) if usage is not None else 0
    return Reply(
        text="".join(texts) or None,
        finish_reason=_word(candidate.finish_reason) if candidate is not None else None,
        block_reason=_word(feedback.block_reason) if feedback is not None else None,
        input_tokens=(usage.prompt_token_count or 0) if usage is not None else 0,
        output_tokens=(usage.candidates_token_count or 0) + thoughts if usage is not None else 0,
    )


def error_document(details: object) -> Mapping[str, Any]:
    """The `google.rpc.Status` in an error's body; empty where there is none."""
    if isinstance(details, Mapping):
        inner = details.get("error", details)
        return inner if isinstance(inner, Mapping) else {}
    return {}


def retry_delay(document: Mapping[str, Any]) -> float | None:
    """Seconds that a `google.rpc.RetryInfo` asks for (a JSON duration such as "34.07s"), bounded; None without."""
    for detail in _details(document, "google.rpc.RetryInfo"):
        found = _DELAY.fullmatch(str(detail.get("retryDelay", "")))
        if found is not None:
            return min(float(found[1]), LONGEST_RETRY_AFTER)
    return None


def _reasons(document: Mapping[str, Any]) -> set[str]:
    return {str(detail.get("reason", "")) for detail in _details(document, "google.rpc.ErrorInfo")}


def _details(document: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    details = document.get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, Mapping) and str(detail.get("@type", "")).endswith(f"/{kind}"):
            yield detail


def _retry_after(response: object) -> float | None:
    headers = getattr(response, "headers", None)
    value = headers.get("Retry-After") if headers is not None else None
    return retry_after_seconds(value, now=datetime.now(UTC))


def _word(value: object) -> str | None:
    """An enumeration's word, also one that the package does not know yet; None for none and for "unspecified"."""
    if value is None:
        return None
    word = str(getattr(value, "value", value))
    return None if word.endswith("UNSPECIFIED") else word[:100]


def _quote(message: object) -> str:
    """The API's own words: one line, cut."""
    if not isinstance(message, str) or not message.strip():
        return ""
    text = "".join(char if char.isprintable() else "\ufffd" for char in " ".join(message.split()))
    return f" It says: {text[:MESSAGE_LIMIT]}"
