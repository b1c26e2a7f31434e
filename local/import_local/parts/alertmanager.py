"""An Alertmanager on this machine: groups alerts, holds back what follows from others, and tells receivers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import yaml

from import_local.binaries import ALERTMANAGER, ensure_monitoring
from import_local.folders import ensure_folder
from import_local.parts.one_process import OneProcessPart
from import_local.ports import LOOPBACK, free_port
from import_local.processes import base_environment, start_child, wait_until_ready
from import_local.progress import Progress, silent


class AlertmanagerServer(OneProcessPart):
    """One server without peers; `configuration` is alertmanager.yml as plain values."""

    name = "alertmanager"

    def __init__(
        self, folder: Path, *, log_path: Path, configuration: Mapping[str, Any], port: int | None = None
    ) -> None:
        self._folder = folder
        self._log_path = log_path
        self._configuration = configuration
        self.port = port or 0

    @property
    def url(self) -> str:
        """Address of its HTTP API and page."""
        return f"http://{LOOPBACK}:{self.port}"

    async def start(self, progress: Progress = silent) -> None:
        """Start the server, built if there is none on this machine, and wait until it is ready."""
        binaries = await ensure_monitoring(ALERTMANAGER, progress)
        ensure_folder(self._folder)
        self.port = free_port(self.port or None)
        configuration = self._folder / "alertmanager.yml"
        configuration.write_text(yaml.safe_dump(dict(self._configuration), sort_keys=False))
        self.child = await start_child(
            self.name,
            [
                *(binaries / "alertmanager", f"--config.file={configuration}"),
                *(f"--storage.path={self._folder / 'data'}", f"--web.listen-address={LOOPBACK}:{self.port}"),
                # Empty: it looks for no others, and listens for none.
                *("--cluster.listen-address=", "--log.level=warn"),
            ],
            log_path=self._log_path,
            environment=base_environment(),
            folder=self._folder,
        )
        try:
            await wait_until_ready(self.child, self._is_ready)
        except BaseException:
            await self.stop()
            raise

    async def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts it knows: `labels`, `annotations`, and `status` with `state` and `inhibitedBy`."""
        async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
            answer = await client.get(f"{self.url}/api/v2/alerts")
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    async def _is_ready(self) -> bool:
        async with httpx2.AsyncClient(trust_env=False, timeout=2) as client:
            try:
                return (await client.get(f"{self.url}/-/ready")).status_code == 200
            except httpx2.TransportError:
                return False
