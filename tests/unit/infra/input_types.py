"""Checks a resource's inputs, nested ones too, against the type hints of the provider's SDK."""

from __future__ import annotations

import collections.abc
import enum
import functools
import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Union

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi import _types as pulumi_types
from pulumi.runtime.rpc import UNKNOWN

_SDKS = {"aws": "pulumi_aws", "kubernetes": "pulumi_kubernetes", "random": "pulumi_random"}


def input_class(type_token: str) -> type:
    """The Args class of a resource type, `aws:ec2/vpc:Vpc` → pulumi_aws.ec2.VpcArgs."""
    package, _, class_name = type_token.split(":")
    if type_token == f"pulumi:providers:{class_name}":
        module = importlib.import_module(_SDKS[class_name])
        return typing.cast(type, module.ProviderArgs)
    if package == "kubernetes" and type_token not in _classes(package):
        return (
            kubernetes.apiextensions.CustomResourceArgs
        )  # a custom definition's; the cluster checks its spec
    module_name, python_name = _classes(package)[type_token]
    module = importlib.import_module(module_name)
    # Where the name is taken by a nested input, the resource's own class is called so.
    own = getattr(module, f"{python_name}InitArgs", None) or getattr(module, f"{python_name}Args")
    return typing.cast(type, own)


@functools.cache
def _classes(package: str) -> dict[str, tuple[str, str]]:
    """Module and class of each type token, out of the list that the SDK registers itself with."""
    source = (resources.files(_SDKS[package]) / "__init__.py").read_text(encoding="utf-8")
    block = re.search(r'resource_modules="""\n(.*?)\n"""', source, re.DOTALL)
    assert block, package
    return {
        token: (entry["fqn"], name)
        for entry in json.loads(block.group(1))
        for token, name in entry["classes"].items()
    }


def problems_of(cls: type, values: Mapping[str, Any], path: str = "") -> Iterator[str] | list[str]:
    """What is wrong with the values of an input class: one line for each path."""
    return list(_object_problems(cls, values, path))


def _object_problems(cls: type, values: Any, path: str) -> Iterator[str]:
    if values == UNKNOWN:
        return
    if not isinstance(values, Mapping):
        yield f"{path or 'inputs'} must be an object, not {values!r}"
        return
    hints, required = _shape(cls)
    for name in sorted(required - set(values)):
        yield f"{_join(path, name)} is required and missing"
    for name, value in values.items():
        if name == "__defaults":
            continue
        if name not in hints:
            yield f"{_join(path, name)} is unknown to {cls.__name__}"
        elif value is not None:
            yield from _value_problems(hints[name], value, _join(path, name))
        elif name in required:
            yield f"{_join(path, name)} is required and null"


@functools.cache
def _shape(cls: type) -> tuple[dict[str, Any], frozenset[str]]:
    """Types by wire name, and the names without which the class cannot be made."""
    hints = pulumi_types.input_type_types(cls)
    wire = pulumi_types.input_type_py_to_pulumi_names(cls)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    required = frozenset(
        wire.get(each.name, each.name) for each in parameters if each.default is inspect.Parameter.empty
    )
    return hints, required


def _value_problems(hint: Any, value: Any, path: str) -> Iterator[str]:
    if value == UNKNOWN:
        return
    members = [each for each in _members(hint) if each is not type(None)]
    if typing.Any in members:
        return
    found: list[list[str]] = []
    for member in members:
        problems = list(_member_problems(member, value, path))
        if not problems:
            return
        found.append(problems)
    # Of several allowed types, the one that came nearest explains best.
    yield from min(found, key=lambda problems: (any(" must be " in line for line in problems), len(problems)))


def _members(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    if origin in {Union, types.UnionType}:
        return [member for each in typing.get_args(hint) for member in _members(each)]
    if origin in {pulumi.Output, collections.abc.Awaitable}:
        return [member for each in typing.get_args(hint) for member in _members(each)]
    return [hint]


def _member_problems(member: Any, value: Any, path: str) -> Iterator[str]:
    origin = typing.get_origin(member)
    if origin in {list, collections.abc.Sequence}:
        if not isinstance(value, list):
            yield f"{path} must be a list, not {value!r}"
            return
        for index, item in enumerate(value):
            yield from _value_problems(typing.get_args(member)[0], item, f"{path}[{index}]")
    elif origin in {dict, collections.abc.Mapping}:
        if not isinstance(value, Mapping):
            yield f"{path} must be a map, not {value!r}"
            return
        for key, item in value.items():
            yield from _value_problems(typing.get_args(member)[1], item, f"{path}[{key!r}]")
    elif isinstance(member, type) and pulumi_types.is_input_type(member):
        yield from _object_problems(member, value, path)
    elif typing.is_typeddict(member):
        yield f"{path} must be a class"  # its Args class is a member of the same union
    else:
        yield from _scalar_problems(member, value, path)


def _scalar_problems(member: Any, value: Any, path: str) -> Iterator[str]:
    if isinstance(member, type) and issubclass(member, enum.Enum):
        allowed = [each.value for each in member]
        if value not in allowed:
            yield f"{path} must be one of {allowed}, not {value!r}"
        return
    accepted = {str: str, bool: bool, int: int, float: (int, float)}.get(member)
    if accepted is None:
        return  # assets and the like
    if not isinstance(value, accepted) or (isinstance(value, bool) and member is not bool):
        yield f"{path} must be {member.__name__}, not {value!r}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def accepts(type_token: str, name: str) -> bool:
    """Whether a resource type has an input of this wire name."""
    return name in _shape(input_class(type_token))[0]
