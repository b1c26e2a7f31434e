"""The resource graph of a stack as text that a reviewer can read and a diff can show."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from mocks import Program, Registered

_ELSEWHERE = {
    ("ConfigMap", "data"),
    ("CustomResourceDefinition", "spec"),
    ("PrometheusRule", "spec"),
    ("QueryDefinition", "queryString"),
}
"""Inputs that are files of the project, where their changes are read."""
_HIDDEN = {"tags", "tagsAll", "__defaults"}


def graph(program: Program, prefix: str) -> str:
    """All resources below their components, with their inputs; other resources' ids are shown by their names."""
    names = _names(program, prefix)
    by_parent: dict[str, list[Registered]] = {}
    for each in program.resources:
        by_parent.setdefault(each.parent, []).append(each)
    known = {each.urn for each in program.resources}
    lines: list[str] = []
    roots = [each for each in program.resources if each.parent not in known]
    for root in sorted(roots, key=lambda each: each.name):
        lines.extend(_lines(root, by_parent, names, prefix, depth=0))
    lines.append("exports")
    lines.extend(_text({key: program.exports[key] for key in sorted(program.exports)}, names, indent=2))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _lines(
    resource: Registered,
    by_parent: Mapping[str, list[Registered]],
    names: Mapping[str, str],
    prefix: str,
    *,
    depth: int,
) -> Iterator[str]:
    indent = "  " * depth
    kind = resource.type.rsplit(":", 1)[-1]
    flags = [
        flag for flag, is_set in (("protected", resource.protect), ("retained", resource.retain)) if is_set
    ]
    shown = f"{resource.name.removeprefix(f'{prefix}-')} ({resource.type})"
    yield f"{indent}{shown}{' ' + ', '.join(flags) if flags else ''}"
    inputs = {
        key: "(in a file of its own)" if (kind, key) in _ELSEWHERE else _visible(resource, key)
        for key in sorted(set(resource.inputs) - _HIDDEN)
    }
    if resource.custom and inputs:
        yield from _text(inputs, names, indent=2 * depth + 4)
    children = sorted(by_parent.get(resource.urn, ()), key=lambda each: (each.type, each.name))
    for child in children:
        yield from _lines(child, by_parent, names, prefix, depth=depth + 1)


def _visible(resource: Registered, key: str) -> Any:
    return "(secret)" if key in resource.secret_inputs else resource.inputs[key]


def _text(value: Any, names: Mapping[str, str], *, indent: int) -> Iterator[str]:
    named = _named(value, names)
    for line in yaml.safe_dump(named, width=110, allow_unicode=True, sort_keys=True).splitlines():
        yield " " * indent + line


def _named(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _named(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return _named_text(value, names) if isinstance(value, str) else value


def _named_text(value: str, names: Mapping[str, str]) -> Any:
    if value in names:
        return names[value]
    if value[:1] in "{[" and value[-1:] in "}]":
        with contextlib.suppress(ValueError):
            return _named(json.loads(value), names)
    for identifier, name in names.items():
        if len(identifier) > 20:
            value = value.replace(identifier, name)
    return value


def _names(program: Program, prefix: str) -> dict[str, str]:
    """What AWS made up, by the resource that it was made up for; longest first, as ARNs contain names."""
    made: dict[str, str] = {}
    for each in program.resources:
        short = each.name.removeprefix(f"{prefix}-")
        identifier = str(program.ids.get(each.urn, ""))
        given = [value for value in each.inputs.values() if isinstance(value, str)]
        for key, value in {"id": identifier, **each.outputs}.items():
            if isinstance(value, str) and value not in given and len(value) > 8:
                made.setdefault(value, f"<{short} {key}>")
    return dict(sorted(made.items(), key=lambda pair: -len(pair[0])))
