"""A Prometheus server on this machine: asks what its configuration names, judges rules, answers queries."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from import_local.binaries import PROMETHEUS, ensure_monitoring
from import_local.errors import LocalError
from import_local.folders import ensure_folder
from import_local.parts.one_process import OneProcessPart
from import_local.ports import LOOPBACK, free_port
from import_local.processes import base_environment, start_child, wait_until_ready
from import_local.progress import Progress, silent

Json = dict[str, Any]
_QUERY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a query's result: its labels, and its values by time (seconds since the epoch)."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def value(self) -> float:
        """The newest value."""
        return self.points[-1][1]


class PrometheusServer(OneProcessPart):
    """One server; `configuration` is prometheus.yml as plain values.

    `resend_seconds`: how often Alertmanager is told again of what goes on firing. The first word may be lost: it
    takes a server that has just started some seconds to know its Alertmanagers.
    """

    name = "prometheus"

    def __init__(
        self,
        folder: Path,
        *,
        log_path: Path,
        configuration: Mapping[str, Any],
        port: int | None = None,
        resend_seconds: float = 60.0,
    ) -> None:
        self._folder = folder
        self._log_path = log_path
        self._configuration = configuration
        self._resend = f"{round(resend_seconds * 1000)}ms"
        self.port = port or 0

    @property
    def url(self) -> str:
        """Address of its HTTP API and page."""
        return f"http://{LOOPBACK}:{self.port}"

    async def start(self, progress: Progress = silent) -> None:
        """Start the server, built if there is none on this machine, and wait until it is ready."""
        binaries = await ensure_monitoring(PROMETHEUS, progress)
        ensure_folder(self._folder)
        self.port = free_port(self.port or None)
        configuration = self._folder / "prometheus.yml"
        configuration.write_text(yaml.safe_dump(dict(self._configuration), sort_keys=False))
        self.child = await start_child(
            self.name,
            [
                *(binaries / "prometheus", f"--config.file={configuration}"),
                *(
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={LOOPBACK}:{self.port}",
                ),
                *(f"--rules.alert.resend-delay={self._resend}", "--log.level=warn"),
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

    def reconfigure(self, configuration: Mapping[str, Any]) -> None:
        """Put another configuration in place of this one; a running server reads it and its rules anew."""
        self._configuration = configuration
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(dict(configuration), sort_keys=False))
        if self.child is not None:
            self.child.process.send_signal(signal.SIGHUP)

    async def query(self, expression: str) -> list[Series]:
        """Return what the expression gives now; LocalError tells what Prometheus finds wrong with it."""
        data = await self._ask("/api/v1/query", query=expression)
        if data["resultType"] == "scalar":
            return [Series({}, (_point(data["result"]),))]
        return [Series(each["metric"], (_point(each["value"]),)) for each in data["result"]]

    async def query_range(self, expression: str, *, start: float, end: float, step: float) -> list[Series]:
        """Return the expression's values between two times, `step` seconds apart."""
        data = await self._ask(
            "/api/v1/query_range", query=expression, start=str(start), end=str(end), step=str(step)
        )
        return [Series(each["metric"], tuple(map(_point, each["values"]))) for each in data["result"]]

    async def alerts(self) -> list[Json]:
        """Return the alerts that are pending or firing: `labels`, `annotations`, `state`."""
        found: list[Json] = (await self._ask("/api/v1/alerts"))["alerts"]
        return found

    async def targets(self) -> list[Json]:
        """Return what is asked for metrics: `labels`, `scrapeUrl`, `health` (up, down, unknown), `lastError`."""
        found: list[Json] = (await self._ask("/api/v1/targets", state="active"))["activeTargets"]
        return found

    async def _ask(self, path: str, **parameters: str) -> Any:
        async with httpx2.AsyncClient(trust_env=False, timeout=_QUERY_SECONDS) as client:
            answer = await client.get(self.url + path, params=parameters)
        document = answer.json()
        if document["status"] != "success":
            raise LocalError(f"Prometheus: {document['errorType']}: {document['error']}")
        return document["data"]

    async def _is_ready(self) -> bool:
        async with httpx2.AsyncClient(trust_env=False, timeout=2) as client:
            try:
                return (await client.get(f"{self.url}/-/ready")).status_code == 200
            except httpx2.TransportError:
                return False


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
