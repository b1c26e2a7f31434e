"""What every command says, and its exit code, when it can't do its work: one sentence, no secret, no trace."""

import asyncio
import sys
from pathlib import Path

import pytest
import yaml
from cli_world import CliWorld
from typer.testing import CliRunner

from import_cli.main import app
from import_local.parts.control_plane import ControlPlane
from import_local.parts.postgres import PostgresServer

SECRET = "s3cr3t"
COMMANDS = (
    *(("status",), ("watch", "any"), ("errors", "any"), ("retry", "any"), ("retry-items", "any")),
    *(("retry-failed",), ("drain",), ("resume",), ("requeue-orphans",)),
    *(("top",), ("scale", "any", "3")),
)
ACTING = (
    "retry-failed",
    "retry",
    "retry-items",
    "requeue-orphans",
    "drain",
    "resume",
    "confirm-cancellations",
)


def kubeconfig(folder: Path, original: Path, server: str) -> str:
    document = yaml.safe_load(original.read_text())
    document["clusters"][0]["cluster"]["server"] = server
    path = folder / "other.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.mark.parametrize("command", COMMANDS)
async def test_an_api_server_that_is_unreachable(
    cli: CliWorld, tmp_path: Path, command: tuple[str, ...]
) -> None:
    config = kubeconfig(tmp_path, cli.kubeconfig, "https://127.0.0.1:1")
    result = await cli.invoke(*command, KUBECONFIG=config)
    assert result.exit_code == 3
    assert "the API server does not answer" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_user_without_rights(
    cli: CliWorld, control_plane_server: ControlPlane, command: tuple[str, ...]
) -> None:
    config = control_plane_server.kubeconfig_for("somebody", namespace=cli.namespace)
    result = await cli.invoke(*command, KUBECONFIG=str(config))
    assert result.exit_code == 3
    said = result.stderr.replace("\n", " ")
    assert 'forbidden: User "somebody" cannot' in said
    assert cli.namespace in said


@pytest.mark.parametrize(
    "content",
    [
        f"users: [1\ntoken: {SECRET}",
        f"users: {SECRET}",
        f"- {SECRET}",
        "",
        f"current-context: {SECRET}x",
        None,
    ],
)
def test_a_kubeconfig_that_is_none(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    result = CliRunner().invoke(app, ["status"], env={"KUBECONFIG": str(path), "DATABASE_URL": None})
    assert result.exit_code == 3
    assert result.stderr.startswith("No usable Kubernetes configuration: ")
    assert SECRET not in result.stderr


def test_a_context_that_is_not_there(tmp_path: Path, control_plane: Path) -> None:
    document = {**yaml.safe_load(control_plane.read_text()), "current-context": "elsewhere"}
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(document))
    result = CliRunner().invoke(app, ["status"], env={"KUBECONFIG": str(path), "DATABASE_URL": None})
    assert result.exit_code == 3
    assert "Context 'elsewhere' not found" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cr3t@127.0.0.1/db",
        "host=127.0.0.1 password=s3cr3t",
        "postgresql://u:s3/s3cr3t@127.0.0.1/db",
        "postgresql://u:x@s3cr3t@127.0.0.1/db",
        "postgresql://u:s3cr3t%zz@127.0.0.1/db",
        "postgresql://u:s3cr3t?@127.0.0.1/db",
        "postgresql://u:s3cr3t@127.0.0.1:port/db",
    ],
)
def test_a_database_address_that_is_none(control_plane: Path, command: tuple[str, ...], url: str) -> None:
    environment = {"KUBECONFIG": str(control_plane), "DATABASE_URL": url}
    result = CliRunner().invoke(app, [*command], env=environment)
    assert result.exit_code == 2
    assert result.stderr.startswith("DATABASE_URL must be postgresql://user:password@host:port/database")
    assert SECRET not in result.stderr


def test_an_address_past_the_pooler_is_taken_first_and_named(control_plane: Path) -> None:
    environment = {
        "KUBECONFIG": str(control_plane),
        "DATABASE_URL": "postgresql://u:x@127.0.0.1:1/db",
        "DATABASE_DIRECT_URL": f"mysql://u:{SECRET}@127.0.0.1/db",
    }
    result = CliRunner().invoke(app, ["errors", "any"], env=environment)
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "DATABASE_DIRECT_URL must be postgresql://user:password@host:port/database"
    )
    assert SECRET not in result.stderr


@pytest.mark.parametrize("parameters", ["?nonsense=1", "?connect_timeout=soon", "?sslmode=never"])
async def test_parameters_that_the_driver_refuses(cli: CliWorld, parameters: str) -> None:
    url = f"postgresql://u:{SECRET}@127.0.0.1:1/db{parameters}"
    result = await cli.invoke("errors", "any", DATABASE_URL=url)
    assert result.exit_code == 3
    assert "PostgreSQL" in result.stderr
    assert SECRET not in result.output
    assert (await cli.invoke("status", DATABASE_URL=url)).exit_code == 0


async def test_a_wrong_password_and_a_closed_port(cli: CliWorld, database_url: str) -> None:
    user = database_url.split("://", 1)[1].split(":", 1)[0]
    address = database_url.split("@", 1)[1]
    for url in (f"postgresql://{user}:{SECRET}@{address}", f"postgresql://{user}:{SECRET}@127.0.0.1:1/db"):
        result = await cli.invoke("errors", "any", DATABASE_URL=url)
        assert result.exit_code == 3
        assert result.stderr.startswith("PostgreSQL is not available: connection failed: ")
        assert SECRET not in result.output
        shown = await cli.invoke("status", DATABASE_URL=url)
        assert shown.exit_code == 0
        assert shown.stdout.startswith("Note: PostgreSQL is not available")
        assert SECRET not in shown.output


async def test_a_database_user_without_rights(
    cli: CliWorld, postgres_server: PostgresServer, database_url: str
) -> None:
    role = f"reader_{cli.namespace.replace('-', '_')}"
    name = database_url.rsplit("/", 1)[1]
    async with await postgres_server.superuser_connection() as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'".encode())
    url = f"postgresql://{role}:{SECRET}@{database_url.split('@', 1)[1].rsplit('/', 1)[0]}/{name}"
    result = await cli.invoke("errors", "any", DATABASE_URL=url)
    assert result.exit_code == 3
    assert result.stderr.startswith("PostgreSQL refuses: permission denied for ")
    assert (await cli.invoke("status", DATABASE_URL=url)).stdout.startswith("Note: PostgreSQL refuses")
    async with await postgres_server.superuser_connection() as connection:
        await connection.execute(f"DROP ROLE {role}".encode())


async def test_a_database_that_is_another_ones(cli: CliWorld, empty_database_url: str) -> None:
    result = await cli.invoke("errors", "any", DATABASE_URL=empty_database_url)
    assert result.exit_code == 3
    assert "The database has not the tables of the import operator" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_namespace_that_can_not_be(control_plane: Path, command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(
        app, [*command, "-n", "[b]/../x"], env={"KUBECONFIG": str(control_plane), "DATABASE_URL": None}
    )
    assert result.exit_code == 2
    assert result.stderr == "'[b]/../x' can't be the name of a namespace\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["watch"],
        ["errors", "x", "--limit", "0"],
        ["watch", "x", "--timeout", "-1"],
        ["status", "-o", "xml"],
        ["no"],
    ],
)
def test_wrong_words(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_help_names_commands_and_exit_codes() -> None:
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for word in ("status", "watch", "errors", *ACTING, "DATABASE_URL", "Exit codes"):
        assert word in result.stdout


@pytest.mark.parametrize("command", ACTING)
def test_what_changes_something_has_a_dry_run_and_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for word in ("--dry-run", "--output", "Example", f"kubectl imports {command}"):
        assert word in result.stdout


async def test_the_program_itself(cli: CliWorld, database_url: str) -> None:
    await cli.job("done", {"phase": "Failed", "message": "The shop – [b] refuses the token"})

    async def run(*arguments: str, **environment: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("kubectl-imports")), *arguments, "-n", cli.namespace),
            env={"KUBECONFIG": str(cli.kubeconfig), "DATABASE_URL": database_url, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    code, out, err = await run("watch", "done")
    assert (code, err) == (1, "")
    assert out.endswith("done: Failed. The shop – [b] refuses the token\n")
    # A terminal that knows no dash, and a database that is away: nothing of the driver's own noise.
    closed = f"postgresql://u:{SECRET}@127.0.0.1:1/db"
    code, out, err = await run("status", PYTHONIOENCODING="ascii", DATABASE_URL=closed)
    assert (code, err) == (0, "")
    assert out.startswith("Note: PostgreSQL is not available")
    code, out, err = await run("errors", "done", DATABASE_URL=closed)
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1
