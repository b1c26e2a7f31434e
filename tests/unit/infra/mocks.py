"""Strict stand-ins for the Pulumi engine: check every input against the SDK's types, fabricate outputs as AWS does.

Pulumi's own mocks let wrong types, missing nested keys, unknown keys and duplicate URNs pass. Here each of them
fails the program. `run_program(…, preview=True)` leaves all outputs unknown, as the first `pulumi preview` does.
"""

from __future__ import annotations

import asyncio
import functools
import json
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import yaml
from fabricated import answer, fabricate
from infra.configuration import PROJECT
from input_types import input_class, problems_of
from pulumi.runtime import mocks as pulumi_mocks
from pulumi.runtime import rpc
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import SETTINGS, set_root_resource
from pulumi.runtime.stack import run_in_stack
from pulumi.runtime.sync_await import _sync_await

ROOT = Path(__file__).parents[3]


class StrictInputError(AssertionError):
    """An input that AWS or Kubernetes would refuse; the message names the resource and the path."""


@dataclass(frozen=True)
class Registered:
    """One resource as the program registered it."""

    urn: str
    type: str
    name: str
    parent: str
    inputs: dict[str, Any]
    """By the SDK's wire names; a value that is not known before an update is UNKNOWN."""
    outputs: dict[str, Any]
    protect: bool
    retain: bool
    provider: str
    dependencies: tuple[str, ...]
    secret_inputs: frozenset[str]
    ignored_changes: tuple[str, ...]
    custom: bool


@dataclass
class Program:
    """What a run of the program registered and exported."""

    resources: list[Registered] = field(default_factory=list)
    exports: dict[str, Any] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    """Ids by URN."""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def of(self, type_suffix: str) -> list[Registered]:
        """All resources whose type ends so, `Vpc`, `aws:ec2/vpc:Vpc`."""
        return [
            each
            for each in self.resources
            if each.type.endswith(f":{type_suffix}") or each.type == type_suffix
        ]

    def one(self, type_suffix: str, name: str | None = None) -> Registered:
        """The only resource of a type (and name)."""
        found = [each for each in self.of(type_suffix) if name is None or each.name == name]
        assert len(found) == 1, f"{type_suffix} {name or ''}: {[each.name for each in found]}"
        return found[0]


UNKNOWN = rpc.UNKNOWN
_SECRET = "1b47061264138c4ac30d75fd1eb44270"
_MARK = "4dabf18193072939515e22adb298388d"


def plain(value: Any) -> tuple[Any, bool]:
    """A value of the wire without marks of secrets, and whether there was one; unknown ones stay UNKNOWN."""
    if isinstance(value, Mapping):
        if value.get(_MARK) == _SECRET:
            return plain(value["value"])[0], True
        if _MARK in value:
            return value.get("urn") or value.get("id") or dict(value), False
        pairs = {key: plain(item) for key, item in value.items()}
        return {key: item for key, (item, _) in pairs.items()}, any(secret for _, secret in pairs.values())
    if isinstance(value, list):
        items = [plain(item) for item in value]
        return [item for item, _ in items], any(secret for _, secret in items)
    return value, False


def planned(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a preview knows of a resource: its inputs; what AWS adds within them is unknown."""
    known: dict[str, Any] = {}
    for key, value in inputs.items():
        made = outputs.get(key)
        if isinstance(value, Mapping) and isinstance(made, Mapping):
            known[key] = {**dict.fromkeys(made, UNKNOWN), **planned(value, made)}
        else:
            known[key] = value
    return known


class StrictMonitor(pulumi_mocks.MockMonitor):
    """The engine's side of the wire, which refuses what AWS would refuse."""

    def __init__(self, *, preview: bool) -> None:
        super().__init__(_NoMocks())
        self.program = Program()
        self.preview = preview

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802  the name is the protocol's
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == "pulumi:pulumi:Stack":
            return resource_pb2.RegisterResourceResponse(urn=urn)
        if urn in self.resources:
            raise StrictInputError(f"two resources have the URN {urn}; give one of them another name")
        raw = _wire_values(request.object)
        pairs = {key: plain(value) for key, value in raw.items()}
        inputs = {key: value for key, (value, _) in pairs.items()}
        if request.custom:
            self._check(request.type, request.name, inputs)
        identifier, state = "", dict(inputs)
        if request.custom and not self.preview:
            identifier, state = fabricate(request.type, request.name, inputs)
        elif request.custom:
            state = planned(inputs, fabricate(request.type, request.name, inputs)[1])
        registered = Registered(
            urn=urn,
            type=request.type,
            name=request.name,
            parent=request.parent,
            inputs=inputs,
            outputs=state,
            protect=request.protect,
            retain=request.retainOnDelete,
            provider=request.provider,
            dependencies=tuple(sorted(request.dependencies)),
            secret_inputs=frozenset(key for key, (_, secret) in pairs.items() if secret),
            ignored_changes=tuple(request.ignoreChanges),
            custom=request.custom,
        )
        self.program.resources.append(registered)
        self.program.ids[urn] = identifier
        self.resources[urn] = self.ResourceRegistration(urn, identifier, state)
        secrets = registered.secret_inputs | set(request.additionalSecretOutputs)
        marked = {
            key: {_MARK: _SECRET, "value": value} if key in secrets else value for key, value in state.items()
        }
        return resource_pb2.RegisterResourceResponse(
            urn=urn, id=identifier, object=_sync_await(rpc.serialize_properties(marked, {}))
        )

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        if request.urn.split("::")[2] == "pulumi:pulumi:Stack":
            self.program.exports = plain(_wire_values(request.outputs))[0]
        return super().RegisterResourceOutputs(request)

    def ReadResource(self, request: Any) -> Any:  # noqa: N802
        raise StrictInputError(f"{request.type} {request.name}: reading resources by id is not used here")

    def Invoke(self, request: Any) -> Any:  # noqa: N802
        arguments = plain(_wire_values(request.args))[0]
        self.program.calls.append((request.tok, arguments))
        result = answer(request.tok, arguments)
        return resource_pb2.ResourceInvokeResponse(
            **{"return": _sync_await(rpc.serialize_properties(result, {}))}
        )

    def _check(self, type_: str, name: str, inputs: Mapping[str, Any]) -> None:
        if type_.startswith("pulumi:providers:"):
            inputs = {key: _provider_value(value) for key, value in inputs.items()}
        problems = problems_of(input_class(type_), inputs)
        if problems:
            raise StrictInputError("\n".join(f"{type_} {name}: {problem}" for problem in problems))


def _provider_value(value: Any) -> Any:
    """Settings of providers go over the wire as text; a kubeconfig is JSON too, and stays text."""
    return json.loads(value) if value in {"true", "false"} or str(value).isdigit() else value


class _NoMocks(pulumi_mocks.Mocks):
    """The monitor above answers everything itself."""

    def call(self, args: Any) -> Any:
        raise StrictInputError(args.token)

    def new_resource(self, args: Any) -> Any:
        raise StrictInputError(args.typ)


def _wire_values(struct: Any) -> dict[str, Any]:
    """The fields of a protobuf struct; whole numbers come as floats on the wire."""
    from google.protobuf import json_format

    return {key: _numbers(value) for key, value in json_format.MessageToDict(struct).items()}


def _numbers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return value


def run(
    function: Callable[[], Any], *, config: Mapping[str, Any], stack: str = "test", preview: bool = False
) -> Program:
    """Run a function as a Pulumi program; raises what it, or a check of its inputs, raises."""
    # Each run has an event loop of its own: what a failed one left behind must not end in the next.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # The first error ends the program and is raised; what else failed with it would be told of at the very end.
    loop.set_exception_handler(lambda *_: None)
    monitor = StrictMonitor(preview=preview)
    try:
        pulumi_mocks.set_mocks(_NoMocks(), PROJECT, stack, preview=preview, monitor=monitor)
        # The stack that set_mocks makes has registered its outputs already.
        set_root_resource(None)
        pulumi.runtime.set_all_config({key: _config_text(value) for key, value in config.items()})
        SETTINGS.outputs.clear()

        def program() -> None:
            function()

        loop.run_until_complete(run_in_stack(program))
    finally:
        loop.close()
        asyncio.set_event_loop(asyncio.new_event_loop())
    return monitor.program


def run_program(stack: str, *, changes: Mapping[str, Any] | None = None, preview: bool = False) -> Program:
    """Run `__main__.py` with a stack's example file; `changes` replace or (None) remove keys of sections.

    The same run is done once: tests read a program, they don't change it.
    """
    return _run_program(stack, json.dumps(changes or {}, sort_keys=True), preview)


@functools.cache
def _run_program(stack: str, changes: str, preview: bool) -> Program:
    config = stack_config(stack)
    for key, value in json.loads(changes).items():
        name = f"{PROJECT}:{key}"
        if isinstance(value, dict):
            merged = {**config.get(name, {}), **value}
            config[name] = {inner: item for inner, item in merged.items() if item is not None}
        else:
            config[name] = value
    return run(
        functools.partial(runpy.run_path, str(ROOT / "__main__.py")),
        config=config,
        stack=stack,
        preview=preview,
    )


def stack_config(stack: str) -> dict[str, Any]:
    """The values of Pulumi.<stack>.yaml by their full keys."""
    return dict(yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"])


def _config_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
