"""The names that the platform's old workers had in their environment, and secrets in files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from redis.asyncio.connection import parse_url

from import_core.adapters.redis.address import redis_address, redis_address_in
from import_core.adapters.secret_files import read_credentials
from import_core.adapters.settings import ConnectionSettings, describe_problems, describe_settings
from import_core.domain.errors import InvalidInputError
from import_core.domain.jobs import seconds_left
from import_core.observability.redaction import redact_text
from import_worker.settings import WorkerSettings

NAMES = (
    "DATABASE_URL",
    "REDIS_URL",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_PASSWORD",
    "JOB_CONCURRENCY",
    "IMPORT_CONCURRENCY",
    "JOB_TIMEOUT",
    "SECRETS_PATH",
)
ELSEWHERE = "redis://elsewhere:1/0"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", "postgresql://")
    return monkeypatch


def problems_of(environment: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        WorkerSettings()
    return describe_problems(caught.value)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"REDIS_HOST": "cache"}, "redis://cache:6379/0"),
        ({"REDIS_HOST": "cache", "REDIS_PORT": "6390"}, "redis://cache:6390/0"),
        ({"REDIS_HOST": "fd00::1"}, "redis://[fd00::1]:6379/0"),
        ({"REDIS_URL": ELSEWHERE, "REDIS_HOST": "cache", "REDIS_PASSWORD": "p"}, ELSEWHERE),
        ({"REDIS_URL": ELSEWHERE, "REDIS_PORT": "tcp://10.0.0.1:6379"}, ELSEWHERE),
    ],
)
def test_redis_is_found_by_its_address_or_by_host_and_port(
    environment: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert ConnectionSettings().redis_url.get_secret_value() == expected
    assert redis_address_in(variables) == expected


@given(password=st.text(min_size=1, max_size=40, alphabet=st.characters(exclude_categories=("Cs",))))
def test_any_password_gets_through(password: str) -> None:
    address = redis_address(url="", host="cache", password=password)
    parsed = parse_url(address)
    assert (parsed["password"], parsed["host"], parsed["port"]) == (password, "cache", 6379)


def test_the_password_is_shown_nowhere(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_HOST", "cache")
    environment.setenv("REDIS_PASSWORD", "quite/secret")
    settings = WorkerSettings()
    assert "quite" not in f"{settings!r} {settings} {settings.model_dump()}"
    (problem,) = problems_of(environment, REDIS_PORT="none")
    assert "quite" not in problem


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "setting REDIS_URL: is missing, and so is REDIS_HOST"),
        ({"REDIS_HOST": "cache:1/0"}, "setting REDIS_HOST: must be the name or address of a host alone"),
        (
            {"REDIS_HOST": "cache", "REDIS_PORT": "0"},
            "setting REDIS_PORT: must be a whole number from 1 to 65535",
        ),
        (
            {"REDIS_HOST": "redis", "REDIS_PORT": "tcp://10.0.0.1:6379"},
            "setting REDIS_PORT: holds a Kubernetes service link: set enableServiceLinks: false, or REDIS_URL",
        ),
        ({"REDIS_HOST": "cache", "JOB_CONCURRENCY": "0"}, "setting JOB_CONCURRENCY: "),
        ({"REDIS_HOST": "cache", "JOB_TIMEOUT": "soon"}, "setting JOB_TIMEOUT: "),
        ({"REDIS_HOST": "cache", "SECRETS_PATH": "/no/such"}, "setting SECRETS_PATH: "),
    ],
)
def test_what_is_wrong_is_named_by_its_variable(
    environment: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    (problem,) = problems_of(environment, **variables)
    assert problem.startswith(expected)


def test_the_cli_asks_the_same_variables() -> None:
    assert redis_address_in({}) is None
    with pytest.raises(InvalidInputError, match="REDIS_PORT"):
        redis_address_in({"REDIS_HOST": "cache", "REDIS_PORT": "x"})


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 5),
        ({"JOB_CONCURRENCY": "9"}, 9),
        ({"IMPORT_CONCURRENCY": "3"}, 3),
        ({"JOB_CONCURRENCY": "9", "IMPORT_CONCURRENCY": "3"}, 3),
    ],
)
def test_the_old_name_of_concurrency_counts_where_ours_is_not_set(
    environment: pytest.MonkeyPatch, variables: dict[str, str], expected: int
) -> None:
    environment.setenv("REDIS_HOST", "cache")
    for name, value in variables.items():
        environment.setenv(name, value)
    assert WorkerSettings().concurrency == expected


@pytest.mark.parametrize(
    ("own", "usual", "expected"),
    [(None, None, None), (None, 100.0, 40.0), (70, 100.0, 10.0), (30, None, 0.0)],
)
def test_a_jobs_own_limit_comes_before_the_usual_one(
    own: int | None, usual: float | None, expected: float | None
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert seconds_left(own, usual, started_at=now - timedelta(seconds=60), now=now) == expected
    assert seconds_left(own, usual, started_at=None, now=now) is None


def test_secrets_may_come_from_files_and_the_environment_wins(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "REDIS_PASSWORD").write_text("from-a-file-1\n")
    (tmp_path / "redis_host").write_text("cache")
    (tmp_path / "DATABASE_URL").write_text("postgresql://importer:from-a-file-2@db/imports")
    environment.setenv("SECRETS_PATH", str(tmp_path))
    settings = ConnectionSettings()
    assert settings.redis_url.get_secret_value() == "redis://:from-a-file-1@cache:6379/0"
    assert settings.database_url.get_secret_value() == "postgresql://"
    assert "from-a-file" not in redact_text("got from-a-file-1")
    environment.delenv("DATABASE_URL")
    assert ConnectionSettings().database_url.get_secret_value().endswith("@db/imports")
    assert "from-a-file" not in redact_text("got from-a-file-2")
    assert "SECRETS_PATH" in describe_settings(ConnectionSettings)


def test_a_secret_that_cant_be_read_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "REDIS_PASSWORD").write_bytes(b"\xff\xfe")
    (problem,) = problems_of(environment, REDIS_HOST="cache", SECRETS_PATH=str(tmp_path))
    assert problem == f"setting REDIS_PASSWORD: {tmp_path / 'REDIS_PASSWORD'} can't be read, or is no text"


def test_credentials_are_files_beside_each_other_or_in_a_folder(tmp_path: Path) -> None:
    for name, text in {"acme.accessToken": "a\n", "acme.eu.accessToken": "b", "other.apiKey": "c"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder" / "..data").mkdir(parents=True)
    (tmp_path / "folder" / "apiKey").write_text("d")
    assert read_credentials(tmp_path, "acme") == {"accessToken": "a"}
    assert read_credentials(tmp_path, "acme.eu") == {"accessToken": "b"}
    assert read_credentials(tmp_path, "folder") == {"apiKey": "d"}
    assert read_credentials(tmp_path, "nobody") is None
    assert read_credentials(tmp_path / "nowhere", "acme") is None
