"""The sample stores as a process: Shopify shops, Roastify accounts, WhatsApp catalogues that behave as documented."""

import sys
from collections.abc import Sequence
from pathlib import Path

import httpx2

from import_local.parts.one_process import OneProcessPart
from import_local.ports import LOOPBACK, free_port
from import_local.processes import base_environment, start_child, wait_until_ready


class SampleProviders(OneProcessPart):
    """One server for all sample shops and accounts; `options` are further arguments for it."""

    name = "samples"

    def __init__(self, *, log_path: Path, port: int | None = None, options: Sequence[str] = ()) -> None:
        self._log_path = log_path
        self._options = tuple(options)
        self.port = port or 0

    @property
    def shopify_url(self) -> str:
        """Address below which each shop has its own path."""
        return f"http://{LOOPBACK}:{self.port}/shopify"

    @property
    def roastify_url(self) -> str:
        """Address below which each account has its own path."""
        return f"http://{LOOPBACK}:{self.port}/roastify"

    @property
    def gemini_url(self) -> str:
        """Address of the stand-in for the Gemini API, as GEMINI_BASE_URL."""
        return f"http://{LOOPBACK}:{self.port}/gemini/empty"

    @property
    def whatsapp_url(self) -> str:
        """Address below which each seller's catalogue page has its own path."""
        return f"http://{LOOPBACK}:{self.port}/whatsapp"

    @property
    def graph_url(self) -> str:
        """Address below which each seller's Graph API has its own path."""
        return f"http://{LOOPBACK}:{self.port}/graph"

    async def start(self) -> None:
        """Start the server and wait until it answers."""
        self.port = free_port(self.port or None)
        self.child = await start_child(
            self.name,
            [sys.executable, "-m", "import_local.samples", "--port", str(self.port), *self._options],
            log_path=self._log_path,
            environment=base_environment(PYTHONUNBUFFERED="1"),
        )
        try:
            await wait_until_ready(self.child, self._answers)
        except BaseException:
            await self.stop()
            raise

    async def _answers(self) -> bool:
        async with httpx2.AsyncClient(trust_env=False, timeout=2) as client:
            try:
                return (await client.get(f"http://{LOOPBACK}:{self.port}/control")).status_code == 200
            except httpx2.TransportError:
                return False
