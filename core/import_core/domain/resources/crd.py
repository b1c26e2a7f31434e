"""Turns the models into CustomResourceDefinitions: structural schemas with CEL rules, columns, subresources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from import_core.domain.resources import import_job, import_provider, import_schedule, worker_pool
from import_core.domain.resources.common import (
    CATEGORY,
    GROUP,
    VERSION,
    PrinterColumn,
    ResourceDefinition,
)

DEFINITIONS: tuple[ResourceDefinition, ...] = (
    import_job.DEFINITION,
    import_provider.DEFINITION,
    worker_pool.DEFINITION,
    import_schedule.DEFINITION,
)

JsonObject = dict[str, Any]

_MAX_INT32 = 2**31 - 1
# The order in which a person reads a field; keys that are not named come between the first and the last ones.
_FIRST = ("description", "type", "format", "default", "enum", "required")
_LAST = ("properties", "items", "additionalProperties", "x-kubernetes-validations")


def custom_resource_definition(definition: ResourceDefinition) -> JsonObject:
    """The CustomResourceDefinition of one kind, as JSON values."""
    subresources: JsonObject = {"status": {}}
    if definition.scalable:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
        }
    version: JsonObject = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": subresources,
        "additionalPrinterColumns": [_column(column) for column in definition.columns],
    }
    if definition.selectable_fields:
        version["selectableFields"] = [{"jsonPath": path} for path in definition.selectable_fields]
    version["schema"] = {"openAPIV3Schema": open_api_schema(definition)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{definition.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "import-operator"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": definition.kind,
                "listKind": f"{definition.kind}List",
                "plural": definition.plural,
                "singular": definition.singular,
                "shortNames": [definition.short_name],
                "categories": [CATEGORY],
            },
            "versions": [version],
        },
    }


def open_api_schema(definition: ResourceDefinition) -> JsonObject:
    """The structural schema of one kind: no references, no nulls, every default where the API server fills it."""
    json_schema = definition.model.model_json_schema(by_alias=True, mode="validation")
    schema = _structural(json_schema, json_schema.get("$defs", {}))
    properties = schema["properties"]
    # The API server knows the metadata's schema and owns it; the status is never filled with defaults.
    properties = {"metadata": {"type": "object"}, **{k: properties[k] for k in ("spec", "status")}}
    properties["status"] = _without_defaults(properties["status"])
    for rule in schema.get("x-kubernetes-validations", []):
        # A fieldPath must lead into the schema, and metadata's is not ours.
        rule.pop("fieldPath")
    schema["required"] = ["spec"]
    schema["properties"] = {
        "apiVersion": {"description": "Group and version of this kind of object.", "type": "string"},
        "kind": {"description": "Kind of the object.", "type": "string"},
        **properties,
    }
    return schema


def _column(column: PrinterColumn) -> JsonObject:
    result: JsonObject = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        result["description"] = column.description
    if column.priority:
        result["priority"] = column.priority
    return result


def _structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> JsonObject:
    """One node of pydantic's JSON schema as a node of a structural schema."""
    flat = _resolve(node, definitions)
    for key in ("title", "$defs"):
        flat.pop(key, None)
    if flat.get("default", 0) is None:
        del flat["default"]
    if "description" in flat:
        flat["description"] = " ".join(flat["description"].split())
    if flat.get("additionalProperties") is True:
        del flat["additionalProperties"]
        if "properties" in flat:
            flat["x-kubernetes-preserve-unknown-fields"] = True
    elif "additionalProperties" in flat:
        flat["additionalProperties"] = _structural(flat["additionalProperties"], definitions)
    if "properties" in flat:
        flat["properties"] = {
            name: _structural(child, definitions) for name, child in flat["properties"].items()
        }
    if "items" in flat:
        flat["items"] = _structural(flat["items"], definitions)
    if flat.get("type") == "integer":
        flat["format"] = "int32" if flat.get("maximum", _MAX_INT32 + 1) <= _MAX_INT32 else "int64"
    return _ordered(flat)


def _resolve(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> JsonObject:
    """Follow references and drop the null of optional fields; what stands beside a reference wins."""
    flat = dict(node)
    reference = flat.pop("$ref", None)
    if reference is not None:
        return {**_resolve(definitions[reference.rpartition("/")[2]], definitions), **flat}
    choices = flat.get("anyOf")
    if choices is not None and {"type": "null"} in choices:
        (choice,) = [choice for choice in choices if choice != {"type": "null"}]
        del flat["anyOf"]
        return {**_resolve(choice, definitions), **flat}
    return flat


def _ordered(node: JsonObject) -> JsonObject:
    middle = [key for key in node if key not in _FIRST and key not in _LAST]
    return {key: node[key] for key in (*_FIRST, *middle, *_LAST) if key in node}


def _without_defaults(node: JsonObject) -> JsonObject:
    result = {key: value for key, value in node.items() if key != "default"}
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _without_defaults(result[key])
    if "properties" in result:
        result["properties"] = {
            name: _without_defaults(child) for name, child in result["properties"].items()
        }
    return result
