"""The command that serves the sample providers: `python -m import_local.samples`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from import_local.samples.app import serve_samples
from import_local.samples.settings import (
    GRAPH_CATALOGUE,
    ROASTIFY_KEY,
    SHOPIFY_TOKEN,
    WHATSAPP_NUMBER,
    SampleSettings,
    default_data_folder,
)

EXAMPLES = f"""
Examples:

  python -m import_local.samples --port 8090

  curl -s localhost:8090/roastify/vendure/v1/products?pageSize=2 -H 'x-api-key: {ROASTIFY_KEY}'

  curl -s localhost:8090/shopify/generated-1000-5/admin/api/2026-10/graphql.json
  -H 'X-Shopify-Access-Token: {SHOPIFY_TOKEN}' -H 'content-type: application/json'
  -d '{{"query":"{{ products(first: 2) {{ nodes {{ id title }} }} }}"}}'

  curl -s localhost:8090/control

Shops and accounts by name: vendure, liquid, hostile, empty, generated-PRODUCTS-IMAGES[-SEED],
tiny-PRODUCTS-IMAGES[-SEED].
"""


def serve(  # noqa: PLR0917 – typer names them all
    port: Annotated[int, typer.Option(min=0, max=65_535, help="TCP port; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    catalogue: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder with vendure-catalogue/ and liquid-shop/."),
    ] = None,
    roastify_requests: Annotated[
        int, typer.Option(min=1, help="Roastify's limit: requests per key in 60 s.")
    ] = 100,
    shopify_restore: Annotated[
        float, typer.Option(min=0.1, help="Shopify's limit: points restored per second.")
    ] = 100.0,
    bulk_seconds: Annotated[
        float, typer.Option(min=0.0, help="Least duration of a bulk operation, in seconds.")
    ] = 0.0,
) -> None:
    """Serve sample shops, accounts and catalogues of all providers, as the real ones are documented."""
    settings = SampleSettings(
        data_folder=catalogue or default_data_folder(),
        roastify_requests=roastify_requests,
        shopify_restore_points_per_second=shopify_restore,
        bulk_seconds=bulk_seconds,
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(settings, host, port))


async def _run(settings: SampleSettings, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with serve_samples(settings, host=host, port=port) as samples:
            print(f"Shopify samples: {samples.shopify_url}/<shop>", flush=True)
            print(f"Roastify samples: {samples.roastify_url}/<account>/v1", flush=True)
            print(f"Gemini stand-in: {samples.gemini_url}", flush=True)
            print(f"WhatsApp samples: {samples.whatsapp_url}/<seller>/c/{WHATSAPP_NUMBER}", flush=True)
            print(
                f"Graph API samples: {samples.graph_url}/<seller> (catalogue {GRAPH_CATALOGUE})", flush=True
            )
            await stop.wait()
    except OSError as error:
        raise typer.BadParameter(f"can't listen on {host}:{port}: {error.strerror}") from error


def main() -> None:
    """Run the command."""
    app = typer.Typer(add_completion=False)
    app.command(epilog=EXAMPLES)(serve)
    app()
