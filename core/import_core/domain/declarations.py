"""What a folder of files declares where there is no Kubernetes: connections and schedules, checked as a whole. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from import_core.domain.admission import admit
from import_core.domain.errors import ImportOperatorError, InvalidResourceError
from import_core.domain.resources import import_provider, import_schedule
from import_core.domain.resources.common import API_VERSION, NameReference, ResourceDefinition, parse
from import_core.domain.resources.crd import open_api_schema
from import_core.domain.steps import StepKind

PROVIDER, SCHEDULE = import_provider.DEFINITION, import_schedule.DEFINITION
DEFINITIONS = {definition.kind: definition for definition in (PROVIDER, SCHEDULE)}
MOST_OBJECTS = 20_000
REPORTED = 20
"""Problems that one error names at most."""
_OF_KUBERNETES = {
    "Secret": "credentials are files NAME.KEY in CREDENTIALS_PATH, never in the same file",
    "WorkerPool": "the number of workers is whatever you start; queues have their default thresholds",
    "ImportJob": "a job is a row: POST /v1/imports of the gateway makes one",
}


class DeclarationsError(ImportOperatorError):
    """The files of PROVIDERS_PATH can't be used."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        shown = [*self.problems[:REPORTED]]
        if len(self.problems) > REPORTED:
            shown.append(f"and {len(self.problems) - REPORTED} more")
        super().__init__("; ".join(shown))


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document of a file, as JSON values."""

    file: str
    body: Any


@dataclass(frozen=True, slots=True)
class Declared:
    """Valid objects by name, in the form in which the API server would give them."""

    providers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    schedules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """The file of each provider, for messages about it."""


def declare(
    documents: Iterable[Document], *, namespace: str, unavailable: Collection[StepKind] = ()
) -> Declared:
    """Check all documents and those that refer to each other; `unavailable` are steps that can't be done here.

    Raises DeclarationsError with a line for each problem that names file and field, and never repeats a value.
    """
    problems: list[str] = []
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in DEFINITIONS}
    files: dict[tuple[str, str], str] = {}
    for number, document in enumerate(documents):
        if number == MOST_OBJECTS:
            problems.append(f"{document.file}: more than {MOST_OBJECTS} objects are not read")
            break
        try:
            body = _object_of(document.body, namespace=namespace)
        except InvalidResourceError as error:
            problems.append(f"{document.file}: {error.message}")
            continue
        kind, name = body["kind"], body["metadata"]["name"]
        if name in found[kind]:
            problems.append(
                f"{document.file}: metadata.name: {files[kind, name]} has the {kind} {name} already"
            )
            continue
        found[kind][name], files[kind, name] = body, document.file
    problems += _schedule_problems(found[SCHEDULE.kind], found[PROVIDER.kind], files, unavailable)
    if problems:
        raise DeclarationsError(problems)
    own_files = {name: files[PROVIDER.kind, name] for name in found[PROVIDER.kind]}
    return Declared(found[PROVIDER.kind], found[SCHEDULE.kind], own_files)


def _object_of(body: Any, *, namespace: str) -> dict[str, Any]:
    """A document as the API server would give it. Raises InvalidResourceError."""
    if not isinstance(body, Mapping):
        raise InvalidResourceError("object", "is not a mapping of fields")
    kind = body.get("kind")
    definition = DEFINITIONS.get(kind) if isinstance(kind, str) else None
    if definition is None:
        hint = _OF_KUBERNETES.get(kind, "") if isinstance(kind, str) else ""
        accepted = " or ".join(DEFINITIONS)
        raise InvalidResourceError("kind", f"must be {accepted}{f': {hint}' if hint else ''}")
    if body.get("apiVersion") != API_VERSION:
        raise InvalidResourceError("apiVersion", f"must be {API_VERSION}")
    metadata, spec = body.get("metadata"), body.get("spec")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise InvalidResourceError("metadata.name", "must be a name")
    if metadata.get("namespace", namespace) != namespace:
        raise InvalidResourceError("metadata.namespace", f"must be {namespace}, as POD_NAMESPACE says")
    if not isinstance(spec, Mapping):
        raise InvalidResourceError("spec", "must be a mapping of fields")
    parse(NameReference, {"name": metadata["name"]}, at="metadata")
    for path in unknown_fields(spec, spec_schema(definition.kind), at="spec"):
        raise InvalidResourceError(path, "there is no such field")
    known = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": metadata["name"],
            "namespace": namespace,
            "uid": f"{definition.singular}-{metadata['name']}",
            "generation": _generation(spec),
            "annotations": {},
        },
        "spec": dict(spec),
    }
    parse(definition.model, known)
    return known


def _schedule_problems(
    schedules: Mapping[str, Mapping[str, Any]],
    providers: Mapping[str, Mapping[str, Any]],
    files: Mapping[tuple[str, str], str],
    unavailable: Collection[StepKind],
) -> Iterator[str]:
    """What is wrong with the jobs that schedules would make."""
    for name, schedule in schedules.items():
        spec = schedule["spec"]["jobTemplate"]["spec"]
        job = {"metadata": {**schedule["metadata"]}, "spec": spec}
        provider = providers.get(str((spec.get("providerRef") or {}).get("name")))
        refusal = admit(job, provider, unavailable=unavailable).verdict.refusal
        if refusal is not None:
            yield f"{files[SCHEDULE.kind, name]}: spec.jobTemplate.{refusal.message}"


def unknown_fields(value: Any, schema: Mapping[str, Any], *, at: str) -> Iterator[str]:
    """Paths of the fields that the schema has not; the API server drops them, and a person has mistyped them."""
    if isinstance(value, Mapping) and "properties" in schema:
        for name, inner in value.items():
            path = f"{at}.{name}"
            if name not in schema["properties"]:
                yield path
            else:
                yield from unknown_fields(inner, schema["properties"][name], at=path)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for number, inner in enumerate(value):
            yield from unknown_fields(inner, schema["items"], at=f"{at}[{number}]")


@cache
def spec_schema(kind: str) -> Mapping[str, Any]:
    """The schema of a kind's spec."""
    definition: ResourceDefinition = DEFINITIONS[kind]
    schema: Mapping[str, Any] = open_api_schema(definition)["properties"]["spec"]
    return schema


def _generation(spec: Mapping[str, Any]) -> int:
    """A number that changes with the spec, as the API server's does; it does not grow."""
    text = json.dumps(spec, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
