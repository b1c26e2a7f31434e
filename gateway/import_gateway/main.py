"""The gateway's entry point: options, event loop, signals. Everything heavy is imported after --help."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from import_gateway.settings import GatewaySettings

DESCRIPTION = """\
Takes imports over HTTP, tells how they go by server-sent events, and answers the API server's admission reviews.
SIGTERM stops it: it calls itself unready, ends event streams, and lets requests under way finish."""


def main() -> None:
    """Run the gateway until it is stopped; exits 0, 1 when a part of it died, 2 for wrong settings."""
    parser = argparse.ArgumentParser(
        prog="python -m import_gateway",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--settings", action="store_true", help="show the environment variables it reads and end"
    )
    if parser.parse_args().settings:
        from import_core.adapters.settings import describe_settings
        from import_gateway.settings import GatewaySettings

        sys.stdout.write(describe_settings(GatewaySettings) + "\n")
        return
    sys.exit(_run())


def _run() -> int:
    import uvloop
    from pydantic import ValidationError

    from import_core.adapters.settings import describe_problems
    from import_core.domain.errors import ImportOperatorError
    from import_core.observability.logs import configure_logs, get_logger
    from import_gateway.settings import GatewaySettings

    try:
        settings = GatewaySettings()
    except ValidationError as error:
        sys.stderr.write("\n".join(describe_problems(error)) + "\n")
        return 2
    configure_logs(level=settings.log_level, process="import-gateway")
    try:
        return uvloop.run(_serve(settings))
    except (ImportOperatorError, OSError) as error:
        get_logger(__name__).error("gateway.not_started", error=type(error).__name__, detail=str(error))
        return 1


async def _serve(settings: GatewaySettings) -> int:
    import asyncio
    import signal

    from import_gateway.process import GatewayProcess

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await GatewayProcess(settings, stop).run()
