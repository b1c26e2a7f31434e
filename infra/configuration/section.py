"""What all sections of the configuration share: strict types, no unknown keys, errors that name key and fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

PROJECT = "import-operator"
"""The namespace of all keys in Pulumi.<stack>.yaml; the same as `name` in Pulumi.yaml."""

Arn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]*:.+$")]
CidrBlock = Annotated[str, StringConstraints(pattern=r"^(\d{1,3}\.){3}\d{1,3}/\d{1,2}$")]
VpcId = Annotated[str, StringConstraints(pattern=r"^vpc-[0-9a-f]+$")]
SubnetId = Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-f]+$")]
SecurityGroupId = Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-f]+$")]
DailyWindow = Annotated[str, StringConstraints(pattern=r"^\d{2}:\d{2}-\d{2}:\d{2}$")]
WeeklyWindow = Annotated[str, StringConstraints(pattern=r"^[a-z]{3}:\d{2}:\d{2}-[a-z]{3}:\d{2}:\d{2}$")]

_FIXES = {
    "extra_forbidden": "remove the key or correct its spelling; known keys: {known}",
    "missing": "set it; docs/reference/infrastructure.md says what it means",
    "string_type": "write it in quotation marks",
    "int_type": "write a whole number without quotation marks",
    "int_from_float": "write a whole number",
    "bool_type": "write true or false without quotation marks",
    "tuple_type": "write a list: one `- value` a line",
    "model_type": "write nested keys, one a line",
    "dict_type": "write nested keys, one a line",
    "string_pattern_mismatch": "write it in the form that docs/reference/infrastructure.md shows for this key",
}


class Section(BaseModel):
    """One section: a mapping under one key of Pulumi.<stack>.yaml. Types are strict, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ConfigurationError(Exception):
    """The stack's configuration cannot be used; the message has a line for each key, with the fix."""


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for each wrong key: its full name, what is wrong, how to mend it. Never a secret's value."""
    lines = ["The stack's configuration cannot be used:"]
    for problem in error.errors(include_url=False, include_input=False):
        location = problem["loc"]
        fix = _fix(problem, model)
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(
            f"  {_key(location)}: {message}. Fix: {fix}" if fix else f"  {_key(location)}: {message}"
        )
    return "\n".join(lines)


def _key(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return f"{PROJECT}:{path.removeprefix('.')}" if path else PROJECT


def _fix(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    kind = problem["type"]
    if kind == "value_error":
        return ""  # our own rules say the fix themselves
    if kind == "extra_forbidden":
        return _FIXES[kind].format(known=", ".join(_known_keys(problem["loc"][:-1], model)))
    if kind in _FIXES:
        return _FIXES[kind]
    if "expected" in problem.get("ctx", {}):
        return f"use {problem['ctx']['expected']}"
    return "choose a value within these bounds"


def _known_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            return ["see docs/reference/infrastructure.md"]
        model = field.annotation
    return list(model.model_fields)
