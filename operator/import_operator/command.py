"""The operator's command line."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from import_core.adapters.settings import describe_problems
from import_core.domain.declarations import DeclarationsError
from import_core.domain.errors import ImportOperatorError
from import_core.observability.logs import configure_logs, get_logger

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    help="Makes ImportJobs, ImportProviders and WorkerPools true. Configured by its environment.",
)
log = get_logger(__name__)


@app.callback(invoke_without_command=True)
def run(context: typer.Context) -> None:
    """Run the operator: stand by, and lead when this replica holds the Lease."""
    if context.invoked_subcommand is None:
        asyncio.run(_run())


@app.command()
def migrate() -> None:
    """Bring the database to the newest version, and check the shape of the platform's tables."""
    asyncio.run(_migrate())


@app.command()
def standalone(
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only check the files of PROVIDERS_PATH and, where it is set, CREDENTIALS_PATH."
        ),
    ] = False,
) -> None:
    """Run the loops that need PostgreSQL and Redis alone: without Kubernetes, with connections from PROVIDERS_PATH."""
    if check:
        _check_folder()
    else:
        asyncio.run(_run_standalone())


def _check_folder() -> None:
    from import_core.adapters.folder.declarations import Declarations
    from import_core.adapters.models.settings import ModelSettings
    from import_core.adapters.settings import FolderSettings

    settings = FolderSettings()
    declared = Declarations(
        settings.needed_providers_path(),
        settings.credentials_path,
        namespace=settings.pod_namespace,
        unavailable=ModelSettings().unavailable_steps,
    ).load()
    typer.echo(f"{len(declared.providers)} connections and {len(declared.schedules)} schedules are valid")


async def _run_standalone() -> None:
    from import_core.fail_points import OPERATOR_POINTS, arm_fail_point
    from import_operator.settings import OperatorSettings
    from import_operator.standalone.process import StandaloneProcess

    settings = OperatorSettings()
    settings.needed_providers_path()
    configure_logs(level=settings.log_level, process="import-operator")
    arm_fail_point(OPERATOR_POINTS, os.environ)
    await StandaloneProcess(settings).run()


async def _run() -> None:
    from import_core.fail_points import OPERATOR_POINTS, arm_fail_point
    from import_operator.process import OperatorProcess
    from import_operator.settings import OperatorSettings

    settings = OperatorSettings()
    configure_logs(level=settings.log_level, process="import-operator")
    arm_fail_point(OPERATOR_POINTS, os.environ)
    await OperatorProcess(settings).run()


async def _migrate() -> None:
    from import_core.adapters.postgres import migrate as migrate_database
    from import_core.adapters.settings import DatabaseSettings

    configure_logs(process="import-operator-migrate")
    await migrate_database(DatabaseSettings().direct_url())
    log.info("database.migrated")


def main() -> None:
    """Run the command; errors that we know become one line and exit code 1."""
    try:
        app()
    except DeclarationsError as error:
        sys.stderr.write("\n".join(error.problems) + "\n")
        sys.exit(2)
    except ImportOperatorError as error:
        log.critical("operator.failed", error=type(error).__name__, message=error.message)
        sys.exit(1)
    except ValidationError as error:
        sys.stderr.write("\n".join(describe_problems(error)) + "\n")
        sys.exit(2)


__all__ = ["app", "main"]
