"""The worker's entry point: options, event loop, signals. Everything heavy is imported after --help."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from import_worker.settings import WorkerSettings

DESCRIPTION = """\
Takes import jobs from the queue and copies catalogues into PostgreSQL and the object store.
SIGTERM stops it: running jobs may finish for a while, the rest is handed back where it stands."""


def main() -> None:
    """Run the worker until it is stopped; exits 0, 1 when a part of it died, 2 for wrong settings."""
    parser = argparse.ArgumentParser(
        prog="python -m import_worker",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--settings", action="store_true", help="show the environment variables it reads and end"
    )
    options = parser.parse_args()
    if options.settings:
        from import_core.adapters.settings import describe_settings
        from import_worker.settings import WorkerSettings

        sys.stdout.write(describe_settings(WorkerSettings) + "\n")
        return
    sys.exit(_run())


def _run() -> int:
    import os

    import uvloop
    from pydantic import ValidationError

    from import_core.adapters.settings import describe_problems
    from import_core.observability.logs import configure_logs, get_logger
    from import_worker.settings import WorkerSettings

    try:
        settings = WorkerSettings()
    except ValidationError as error:
        sys.stderr.write("\n".join(describe_problems(error)) + "\n")
        return 2
    configure_logs(level=settings.log_level, process="worker")
    from import_core.domain.errors import ImportOperatorError
    from import_core.fail_points import STEP_POINTS, WORKER_POINTS, arm_fail_point

    try:
        arm_fail_point({**WORKER_POINTS, **STEP_POINTS}, os.environ)
        return uvloop.run(_serve(settings))
    except ImportOperatorError as error:
        get_logger(__name__).error("worker.not_started", error=type(error).__name__, detail=error.message)
        return 1


async def _serve(settings: WorkerSettings) -> int:
    import asyncio
    import gc
    import signal

    from import_worker.runner import StopSignal, Worker

    # What was loaded stays: looking through it again and again took an eighth of the CPU of a large import.
    gc.freeze()
    stop = StopSignal()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.ask)
    if settings.providers_path:
        from import_core.adapters.folder.declarations import Declarations

        declarations = Declarations(
            settings.providers_path, settings.credentials_folder, namespace=settings.pod_namespace
        )
        declarations.load()
        return await Worker(settings, declarations, stop).run()
    from import_core.adapters.kube.client import KubeClient

    async with KubeClient() as directory:
        return await Worker(settings, directory, stop).run()
