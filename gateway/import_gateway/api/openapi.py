"""The OpenAPI 3.1 document, made of the operations and their models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from import_core.domain.dead_letters import LONGEST_ID, DeadStep
from import_core.domain.mapping import TARGET_FIELDS
from import_core.domain.submission import LONGEST_KEY
from import_gateway.api.models import ApiModel, OverviewChange, Problem
from import_gateway.api.operation import Answer, Operation
from import_gateway.api.problems import (
    BUSY,
    FORBIDDEN,
    FOREIGN_ORIGIN,
    INTERNAL,
    LINK_INVALID,
    MEDIA_TYPE,
    TOO_MANY_CALLS,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Kind,
)

_REFERENCE = "#/components/schemas/{model}"
_NAME_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": 253,
    "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
}
_LETTER_SCHEMA = {
    "type": "string",
    "maxLength": LONGEST_ID,
    "pattern": rf"^({'|'.join(DeadStep)})\.[A-Za-z0-9_-]+$",
}
_HEADERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "description": "A value that the caller makes up for one request and sends again with each repetition.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_KEY,
            "pattern": "^[!-~]([ -~]*[!-~])?$",
        },
    },
    "Last-Event-ID": {
        "description": "The id of the last event that was received; browsers send it by themselves.",
        "schema": {"type": "string"},
    },
}
_UNREADABLE = "As text: it is no HTTP, or its address and headers are longer than 32 KiB."
_PATH_MEANINGS = {
    "namespace": "The namespace that the gateway serves.",
    "name": "Name of the ImportJob, or id of a job that has none.",
    "id": "Id of the link.",
    "letter": "Id of the dead letter.",
}


def get_openapi(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document."""
    requests = _models(operation.body for operation in operations)
    answers = _models(answer.body for operation in operations for answer in operation.answers.values())
    # What is sent here is described strictly, and apart from what is answered.
    _, read = models_json_schema([(model, "validation") for model in requests], ref_template=_REFERENCE)
    described: list[type[BaseModel]] = [*answers, OverviewChange, Problem]
    _, written = models_json_schema(
        [(model, "serialization") for model in described], ref_template=_REFERENCE
    )
    schemas = {**written["$defs"], **_strict(read["$defs"])}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Import operator",
            "version": "1",
            "description": "Starts imports of merchants' catalogues, and tells how they go.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A Kubernetes token made for the gateway's audience; RBAC says what it may do.",
                }
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": _description(operation),
        "parameters": list(_parameters(operation)),
        "responses": _responses(operation),
        "security": [] if operation.public else [{"token": []}],
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": not operation.body_optional,
            "content": {"application/json": {"schema": _reference(operation.body)}},
        }
    return described


def _description(operation: Operation) -> str:
    if operation.action is None:
        return operation.description
    right = f"Needs the right to {operation.action.words}."
    return f"{operation.description} {right}" if operation.description else right


def _parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    for name, meaning in _PATH_MEANINGS.items():
        if f"{{{name}}}" in operation.path:
            yield {
                "name": name,
                "in": "path",
                "required": True,
                "description": meaning,
                "schema": _LETTER_SCHEMA if name == "letter" else _NAME_SCHEMA,
            }
    for name in operation.request_headers:
        yield {"name": name, "in": "header", "required": False, **_HEADERS[name]}
    if operation.query is None:
        return
    schema = operation.query.model_json_schema(by_alias=True)
    for name, described in schema.get("properties", {}).items():
        plain = _not_null(described, schema.get("$defs", {}))
        meaning = plain.pop("description", "")
        if name == "cursor":
            # Nobody makes one: it is what an answer gave. Whoever tries its bound sends a longer head than is read.
            plain.pop("maxLength", None)
        required = name in schema.get("required", ())
        yield {"name": name, "in": "query", "required": required, "description": meaning, "schema": plain}


def _responses(operation: Operation) -> dict[str, Any]:
    found = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    kinds = [*operation.problems, INTERNAL, BUSY]
    if not operation.public:
        kinds += [UNAUTHENTICATED, FORBIDDEN, FOREIGN_ORIGIN, TOO_MANY_CALLS]
    if not operation.path.startswith(("/healthz", "/readyz", "/openapi")):
        kinds.append(UNAVAILABLE)
    if operation.id == "signIn":
        kinds += [UNAUTHENTICATED, TOO_MANY_CALLS]
    if LINK_INVALID in operation.problems:
        kinds.append(TOO_MANY_CALLS)
    for status in sorted({kind.status for kind in kinds}):
        of_status = list(dict.fromkeys(kind for kind in kinds if kind.status == status))
        problem = _problem(status, of_status)
        if str(status) in found:
            found[str(status)]["content"] |= problem["content"]
            found[str(status)]["headers"] = problem["headers"]
            found[str(status)]["description"] += f" {problem['description']}"
        else:
            found[str(status)] = problem
    # The server's own answer, before anything of ours has seen the request.
    unreadable = found.setdefault("400", {"description": "", "content": {}})
    unreadable["content"]["text/plain"] = {"schema": {"type": "string"}}
    unreadable["description"] = f"{unreadable['description']} {_UNREADABLE}".strip()
    return found


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        described["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}}
            for name, meaning in answer.headers.items()
        }
    if answer.media_type == "text/event-stream" and answer.body is not None:
        described["content"] = {
            answer.media_type: {
                "schema": {
                    "type": "string",
                    "description": f"Events whose data is JSON: {answer.body.__name__}.",
                }
            }
        }
    elif answer.body is not None:
        described["content"] = {answer.media_type: {"schema": _reference(answer.body)}}
    elif answer.media_type != "application/json":
        kind = "object" if answer.media_type.endswith("+json") else "string"
        described["content"] = {answer.media_type: {"schema": {"type": kind}}}
    return described


def _problem(status: int, kinds: Sequence[Kind]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": "; ".join(f"{kind.title} (`{kind.slug}`)" for kind in kinds) + ".",
        "content": {MEDIA_TYPE: {"schema": _reference(Problem)}},
    }
    if status in {429, 503}:
        described["headers"] = {
            "Retry-After": {
                "description": "Seconds after which it is worth asking again.",
                "schema": {"type": "integer"},
            }
        }
    if status == 401:
        described["headers"] = {"WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}}}
    return described


def _models(found: Iterable[type[ApiModel] | None]) -> list[type[BaseModel]]:
    return list(dict.fromkeys(model for model in found if model is not None))


def _reference(model: type[ApiModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _not_null(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A parameter is there or not; it is never null."""
    plain = dict(schema)
    for choice in plain.pop("anyOf", []):
        if choice != {"type": "null"}:
            plain |= choice
    if "$ref" in plain:
        plain |= definitions[plain.pop("$ref").rpartition("/")[2]]
    for leftover in ("title", "default") if plain.get("default", "") is None else ("title",):
        plain.pop(leftover, None)
    return plain


def _strict(definitions: dict[str, Any]) -> dict[str, Any]:
    """Say what the models' rules say, too: no other fields, null for what may be absent, and more."""
    for schema in definitions.values():
        if schema.get("type") != "object" or "properties" not in schema:
            continue
        schema["additionalProperties"] = False
        required = schema.get("required", [])
        for name, described in schema["properties"].items():
            if name not in required and {"type": "null"} not in described.get("anyOf", []):
                meaning = {key: described.pop(key) for key in ("description", "default") if key in described}
                schema["properties"][name] = {"anyOf": [described, {"type": "null"}], **meaning}
    if "ImportJobSpec" in definitions:
        _add_rules(definitions)
    return definitions


def _add_rules(definitions: dict[str, Any]) -> None:
    """The rules of an ImportJob that CEL holds in the API server, as far as JSON Schema can say them."""
    for schema in definitions.values():
        schema.pop("x-kubernetes-validations", None)
    spec = definitions["ImportJobSpec"]
    for choice in spec["properties"]["fieldMapping"]["anyOf"]:
        if choice.get("type") == "object":
            choice["additionalProperties"]["pattern"] = "^[^\\u0000]*$"
            choice["propertyNames"] = {"enum": sorted(TARGET_FIELDS)}
    definitions["Images"]["properties"]["thumbnails"]["anyOf"][0]["uniqueItems"] = True
    archive = {"properties": {"action": {"const": "Archive"}}, "required": ["action"], "type": "object"}
    partial = {
        "properties": {"updatedAfter": {"type": "string"}},
        "required": ["updatedAfter"],
        "type": "object",
    }
    both = {"properties": {"removed": archive, "filter": partial}, "required": ["removed", "filter"]}
    spec["not"] = both
