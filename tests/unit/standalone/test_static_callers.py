"""Callers in a file: by the hash of their token, with rights of their own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from import_core.adapters.settings import describe_problems
from import_core.domain.callers import Action
from import_core.domain.errors import InvalidInputError
from import_core.domain.static_callers import ACTIONS, Right, StaticCallers
from import_gateway.settings import GatewaySettings
from import_gateway.standalone import tokens
from import_gateway.standalone.tokens import TokenFile


def entry(name: str, token: str, *may: str) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), "may": list(may)}


PLATFORM = entry("platform", "one", "read", "submit")


def test_a_token_stands_for_its_caller_and_no_other() -> None:
    callers = StaticCallers.read({"callers": [PLATFORM, entry("oncall", "two", "pause")]})
    assert getattr(callers.whose("one"), "username", None) == "platform"
    assert getattr(callers.whose("two"), "username", None) == "oncall"
    for nobody in ("", "On", PLATFORM["sha256"], "\udcff"):
        assert callers.whose(nobody) is None


def test_nobody_may_more_than_the_file_says() -> None:
    callers = StaticCallers.read({"callers": [PLATFORM]})
    platform = callers.whose("one")
    assert platform is not None
    allowed = {action for action in Action if callers.allows(platform, action)}
    assert allowed == {Action.LIST, Action.READ, Action.SUBMIT}
    left = StaticCallers.read({"callers": []})
    assert not any(left.allows(platform, action) for action in Action)


def test_every_right_that_a_caller_may_need_can_be_given() -> None:
    callers = StaticCallers.read({"callers": [entry("all", "one", *get_args(Right))]})
    everybody = callers.whose("one")
    assert everybody is not None
    assert {action for action in Action if not callers.allows(everybody, action)} == set()
    assert set(get_args(Right)) == set(ACTIONS)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, "object"),
        ({}, "callers"),
        ({"callers": [{"name": "x", "sha256": "one", "may": []}]}, "callers[0].sha256"),
        ({"callers": [{**PLATFORM, "token": "one"}]}, "callers[0].token"),
        ({"callers": [entry("x", "one", "all")]}, "callers[0].may[0]"),
        ({"callers": [PLATFORM, entry("platform", "two")]}, "callers.name"),
        ({"callers": [PLATFORM, entry("other", "one")]}, "callers.sha256"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(value: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        StaticCallers.read(value)
    assert caught.value.field == field
    assert "'one'" not in caught.value.message


async def test_a_changed_file_counts_and_a_wrong_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "LOOK_SECONDS", 0.0)
    path = tmp_path / "callers.yaml"
    with pytest.raises(InvalidInputError, match="TOKENS_FILE: can't be read"):
        TokenFile(str(path))
    path.write_text("callers: [{}]")
    with pytest.raises(InvalidInputError, match=r"TOKENS_FILE: callers\[0\].name"):
        TokenFile(str(path))
    path.write_text(yaml.safe_dump({"callers": [PLATFORM]}))
    file = TokenFile(str(path))
    platform = await file.whose("one")
    assert platform is not None
    assert await file.allows(platform, Action.SUBMIT, namespace="imports", name="")
    path.write_text("callers: [")
    os.utime(path, ns=(1, 1))
    assert await file.whose("one") == platform
    path.write_text("callers: []")
    os.utime(path, ns=(2, 2))
    assert await file.whose("one") is None
    assert not await file.allows(platform, Action.SUBMIT, namespace="imports", name="")


def test_without_kubernetes_somebody_must_know_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://")
    monkeypatch.setenv("PROVIDERS_PATH", str(tmp_path))
    with pytest.raises(ValidationError) as caught:
        GatewaySettings()
    assert describe_problems(caught.value) == [
        "setting TOKENS_FILE: is missing, and no API server knows any caller"
    ]
