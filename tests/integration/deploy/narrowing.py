"""What a new definition no longer accepts of what an old one did: read off the two schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
_NO_MORE_THAN = ("maximum", "maxLength", "maxItems", "maxProperties")
_NO_LESS_THAN = ("minimum", "minLength", "minItems", "minProperties")
_SAME = ("type", "format", "x-kubernetes-list-type", "x-kubernetes-int-or-string")


def narrowings(old: Json, new: Json) -> Iterator[str]:
    """Sentences about two CustomResourceDefinitions of one kind."""
    was = {version["name"]: version for version in old["spec"]["versions"]}
    now = {version["name"]: version for version in new["spec"]["versions"]}
    for field in ("group", "scope"):
        if old["spec"][field] != new["spec"][field]:
            yield f"{field} has changed"
    for field in ("kind", "plural"):
        if old["spec"]["names"][field] != new["spec"]["names"][field]:
            yield f"names.{field} has changed"
    for name, version in was.items():
        if name not in now or not now[name]["served"]:
            yield f"version {name} is no longer served"
            continue
        schema = version["schema"]["openAPIV3Schema"]
        yield from _narrowed(schema, now[name]["schema"]["openAPIV3Schema"], "")


def _narrowed(old: Json, new: Json, path: str) -> Iterator[str]:
    here = path or "object"
    for word in _SAME:
        if old.get(word) != new.get(word):
            yield f"{here}: {word} has changed"
    for word in _NO_MORE_THAN:
        if word in new and new[word] < old.get(word, float("inf")):
            yield f"{here}: {word} is lower"
    for word in _NO_LESS_THAN:
        if word in new and new[word] > old.get(word, 0 if word != "minimum" else float("-inf")):
            yield f"{here}: {word} is higher"
    if "enum" in new and not set(old.get("enum") or ()) <= set(new["enum"]):
        yield f"{here}: a value is no longer allowed"
    if "enum" in new and "enum" not in old:
        yield f"{here}: has an enum now"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{here}: has another pattern"
    if "default" in old and not _contains(new.get("default"), old["default"]):
        yield f"{here}: has another default"
    for field in set(new.get("required") or ()) - set(old.get("required") or ()):
        yield f"{path}.{field}: is required now"
    yield from _new_rules(old, new, here)
    yield from _narrowed_parts(old, new, path)


def _new_rules(old: Json, new: Json, here: str) -> Iterator[str]:
    known = {rule["rule"] for rule in old.get("x-kubernetes-validations") or ()}
    for rule in new.get("x-kubernetes-validations") or ():
        if rule["rule"] not in known and not _is_about_a_new_field(rule["rule"], old, new):
            yield f"{here}: has the new rule {rule['rule']}"


def _is_about_a_new_field(rule: str, old: Json, new: Json) -> bool:
    """Whether no object of the old definition can break it: it holds wherever a field that is new is left out.

    That it holds for the new field's default, too, is shown by applying the old objects to the new definition.
    """
    added = set(new.get("properties") or ()) - set(old.get("properties") or ())
    needed = set(old.get("required") or ())
    before = {each["rule"] for each in old.get("x-kubernetes-validations") or ()}
    return (
        any(rule.startswith(f"!has(self.{field}) || ") for field in added)
        # What was needed may be left out now, unless…: every old object has it.
        or any(rule.startswith(f"has(self.{field}) || ") for field in needed)
        # And where it is there, the rule is the one before.
        or any(rule.removeprefix(f"!has(self.{field}) || (").removesuffix(")") in before for field in needed)
        or any(_goes_with_a_new_value(rule, field, old) for field in added)
    )


def _goes_with_a_new_value(rule: str, field: str, old: Json) -> bool:
    """Whether the rule asks for a new field with, and only with, a value that an old field could not have."""
    found = re.fullmatch(rf"\(self\.(\w+) == '([^']+)'\) == has\(self\.{field}\)", rule)
    values = (old.get("properties") or {}).get(found[1], {}).get("enum") if found else None
    return bool(found and values and found[2] not in values)


def _narrowed_parts(old: Json, new: Json, path: str) -> Iterator[str]:
    fields = new.get("properties") or {}
    for name, field in (old.get("properties") or {}).items():
        if name not in fields:
            yield f"{path}.{name}: is gone, and would be dropped from objects"
        else:
            yield from _narrowed(field, fields[name], f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(old.get(word), dict) and isinstance(new.get(word), dict):
            yield from _narrowed(old[word], new[word], f"{path}[]")
    keeps = "x-kubernetes-preserve-unknown-fields"
    if old.get(keeps) and not new.get(keeps):
        yield f"{path or 'object'}: unknown fields would be dropped"


def _contains(new: Any, old: Any) -> bool:
    """Whether a default says at least what it said: an object's may have further fields."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and _contains(new[key], value) for key, value in old.items())
    return bool(new == old)
