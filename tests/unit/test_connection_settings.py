"""Which address of the database a process takes for what."""

from __future__ import annotations

import pytest

from import_core.adapters.settings import DatabaseSettings, describe_settings
from import_gateway.settings import GatewaySettings

POOLER = "postgresql://importer:one-secret@pooler:6432/imports"
SERVER = "postgresql://importer:two-secret@server:5432/imports"


@pytest.mark.parametrize(
    ("direct", "expected"), [(None, POOLER), ("", POOLER), (POOLER, POOLER), (SERVER, SERVER)]
)
def test_the_direct_address_is_the_only_one_where_no_other_is_given(
    monkeypatch: pytest.MonkeyPatch, direct: str | None, expected: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", POOLER)
    monkeypatch.delenv("DATABASE_DIRECT_URL", raising=False)
    if direct is not None:
        monkeypatch.setenv("DATABASE_DIRECT_URL", direct)
    settings = DatabaseSettings()
    assert settings.direct_url() == expected
    assert "secret@" not in repr(settings)


def test_the_list_of_settings_says_what_it_is_for() -> None:
    assert "DATABASE_DIRECT_URL" in describe_settings(DatabaseSettings)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ""),
        ({"REDIS_URL": "redis://one:6379/0", "REDIS_HOST": "two"}, "redis://one:6379/0"),
        ({"REDIS_HOST": "two", "REDIS_PASSWORD": "p@ss"}, "redis://:p%40ss@two:6379/0"),
    ],
)
def test_the_gateway_finds_redis_as_the_others_do_but_can_do_without(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", SERVER)
    for name in ("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert GatewaySettings().redis_url.get_secret_value() == expected
