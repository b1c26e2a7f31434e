"""Reads a request's body, parameters and headers, and says exactly what is wrong with them."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from import_core.domain.submission import is_idempotency_key
from import_gateway.api.models import ApiModel, FieldProblem
from import_gateway.api.problems import INVALID, MALFORMED, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, ProblemError

LONGEST_BODY = 65_536
"""Bytes; the largest ImportJob that the schema allows has less."""
DEEPEST_BODY = 20
REPORTED = 10

# JSON writes NUL as an escape, and half a pair as it is.
_UNSTORABLE = re.compile(r"(?<!\\)(?:\\\\)*\\u0000|[\ud800-\udfff]")

Body = TypeVar("Body", bound=ApiModel)


async def read_body(request: Request, model: type[Body], *, optional: bool = False) -> Body:
    """The body as `model`; an absent one is an empty object where it is `optional`.

    Raises ProblemError.
    """
    raw = await _read_bytes(request)
    if not raw and optional:
        return validate(model, {}, "body")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ProblemError(UNSUPPORTED_MEDIA_TYPE, "Send JSON, with Content-Type: application/json")
    try:
        value = json.loads(
            raw, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_number
        )
    except (ValueError, RecursionError) as error:
        detail = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ProblemError(MALFORMED, f"The body is not JSON: {detail[:200]}") from error
    if _depth_exceeds(value, DEEPEST_BODY):
        raise ProblemError(MALFORMED, f"The body is nested deeper than {DEEPEST_BODY} levels")
    if _UNSTORABLE.search(json.dumps(value, ensure_ascii=False)):
        raise ProblemError(MALFORMED, "The body holds a NUL or half a surrogate pair, which can't be stored")
    return validate(model, value, "body")


def read_query(request: Request, model: type[Body]) -> Body:
    """The query's parameters as `model`; raises ProblemError, also for unknown and repeated ones."""
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise ProblemError(INVALID, f"{_shown(name)} is there twice")
        values[name] = value
    return validate(model, values, "query")


def read_idempotency_key(request: Request) -> str | None:
    """The caller's key, if any; raises ProblemError for one that can't be used."""
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    if len(values) > 1 or not is_idempotency_key(values[0]):
        problem = FieldProblem(
            pointer="Idempotency-Key", detail="must be once, with 1 to 255 printable ASCII characters"
        )
        raise ProblemError(INVALID, f"Idempotency-Key {problem.detail}", errors=[problem])
    return values[0]


def write_text(text: str) -> str:
    """A text as a part of a cursor; every part of that form can be read."""
    return text.encode("utf-8", "replace").hex()


def read_text(part: str) -> str:
    """The text in a part of a cursor."""
    return bytes.fromhex(part).decode("utf-8", "replace").replace("\0", "")


def validate(model: type[Body], value: Any, where: str) -> Body:
    """`value` as `model`; raises ProblemError that names every wrong field and repeats no value."""
    try:
        return model.model_validate(value, extra="forbid")
    except ValidationError as error:
        problems = []
        for item in error.errors(include_url=False, include_input=False)[:REPORTED]:
            blamed = str(item.get("ctx", {}).get("field", "")) if item["type"] == "rule" else ""
            path = [*item["loc"], *(blamed.split(".") if blamed else [])]
            pointer = "".join(f"/{_escaped(part)}" for part in path) if where == "body" else str(path[0])
            problems.append(FieldProblem(pointer=pointer, detail=item["msg"].removeprefix("Value error, ")))
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        detail = f"{first.pointer or 'The body'}: {first.detail}{more}"
        raise ProblemError(INVALID, detail, errors=problems) from None


async def _read_bytes(request: Request) -> bytes:
    announced = request.headers.get("content-length", "0")
    too_large = ProblemError(TOO_LARGE, f"The body may have {LONGEST_BODY} bytes at most")
    if announced.isdigit() and int(announced[:20]) > LONGEST_BODY:
        raise too_large
    read = bytearray()
    try:
        async for chunk in request.stream():
            read += chunk
            if len(read) > LONGEST_BODY:
                raise too_large
    except ClientDisconnect as error:
        raise ProblemError(MALFORMED, "The body ended early") from error
    return bytes(read)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _number(text: str) -> int | float:
    """JSON knows one kind of number: 256.0 is as whole as 256."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _depth_exceeds(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _escaped(part: object) -> str:
    return _shown(str(part)).replace("~", "~0").replace("/", "~1")


def _shown(text: str) -> str:
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable[:100]
