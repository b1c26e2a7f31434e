"""The reference of the HTTP API as Markdown, made of the same OpenAPI document that the gateway serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from import_gateway.api import problems
from import_gateway.api.openapi import get_openapi
from import_gateway.api.routes import OPERATIONS

_TEXT = Path(__file__).parent / "generated_pages" / "http-api.md"
_REFERENCE = "#/components/schemas/"
_MINUTE_MODELS = ("JobPhase", "ReimportMode", "RemovalAction")
_ELSEWHERE = {"ImportJobSpec", "NameReference", "Filter", "Images", "Enrich", "Reimport", "Removed"}
"""Described by the page of custom resources."""


def http_api_page() -> str:
    """The page."""
    document = get_openapi(OPERATIONS)
    text = _TEXT.read_text(encoding="utf-8")
    return (
        text.replace("@table@", "\n".join(_table(document)))
        .replace("@operations@", "\n\n".join(_operations(document)))
        .replace("@problems@", "\n".join(_problems()))
        .replace("@models@", "\n\n".join(_models(document["components"]["schemas"])))
    )


def _described(document: Mapping[str, Any]) -> Iterable[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _table(document: Mapping[str, Any]) -> Iterable[str]:
    rights = {operation.id: operation.action for operation in OPERATIONS}
    yield "| request | what | the caller's right |"
    yield "| --- | --- | --- |"
    for method, path, operation in _described(document):
        action = rights[operation["operationId"]]
        right = f"`{action.words}`" if action else "a valid token" if operation["security"] else "none"
        yield f"| [`{method} {path}`](#{operation['operationId'].lower()}) | {operation['summary']} | {right} |"


def _operations(document: Mapping[str, Any]) -> Iterable[str]:
    for method, path, operation in _described(document):
        parts = [f"### {operation['operationId']}", f"`{method} {path}`: {operation['summary']}."]
        if operation["description"]:
            parts.append(operation["description"])
        parameters = [_parameter(one) for one in operation["parameters"] if one["in"] != "path"]
        if parameters:
            parts.append("\n".join(parameters))
        body = operation.get("requestBody")
        if body:
            model = _name(body["content"]["application/json"]["schema"])
            parts.append(f"Body: [{model}](#{model.lower()}){'' if body['required'] else ', may be absent'}.")
        rows = ["| answer | meaning | body |", "| --- | --- | --- |"]
        rows += [_answer(status, answer) for status, answer in sorted(operation["responses"].items())]
        parts.append("\n".join(rows))
        yield "\n\n".join(parts)


def _parameter(one: Mapping[str, Any]) -> str:
    kind = "header" if one["in"] == "header" else "parameter"
    return f"- {kind} `{one['name']}` ({_type(one['schema'])}): {_cell(one['description'])}"


def _answer(status: str, answer: Mapping[str, Any]) -> str:
    bodies = []
    for media_type, content in answer.get("content", {}).items():
        model = _name(content["schema"])
        bodies.append(f"[{model}](#{model.lower()})" if model else f"`{media_type}`")
    headers = "".join(f"; header `{name}`" for name in answer.get("headers", {}))
    return f"| {status} | {_cell(answer['description'])} | {', '.join(bodies) or '–'}{headers} |"


def _problems() -> Iterable[str]:
    yield "| `type` ends in | status | when |"
    yield "| --- | --- | --- |"
    kinds = [value for value in vars(problems).values() if isinstance(value, problems.Kind)]
    for kind in sorted(kinds, key=lambda one: (one.status, one.slug)):
        yield f"| `{kind.slug}` | {kind.status} | {kind.title} |"


def _models(schemas: Mapping[str, Any]) -> Iterable[str]:
    for name in sorted(schemas):
        schema = schemas[name]
        if name in _ELSEWHERE or name in _MINUTE_MODELS or "properties" not in schema:
            continue
        rows = [f"### {name}", "", _cell(schema.get("description", "")), ""]
        rows += ["| field | type | meaning |", "| --- | --- | --- |"]
        for field, described in schema["properties"].items():
            required = ", required" if field in schema.get("required", []) else ""
            meaning = _cell(described.get("description", ""))
            rows.append(f"| `{field}` | {_type(described)}{required} | {meaning} |")
        yield "\n".join(rows)


def _type(schema: Mapping[str, Any]) -> str:
    choices = [choice for choice in schema.get("anyOf", []) if choice.get("type") != "null"]
    if choices:
        return _type(choices[0])
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema:
        name = _name(schema)
        if name in _ELSEWHERE:
            return f"[{name}](custom-resources.md)"
        return "a phase" if name in _MINUTE_MODELS else f"[{name}](#{name.lower()})"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or "any JSON")


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).removeprefix(_REFERENCE)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
