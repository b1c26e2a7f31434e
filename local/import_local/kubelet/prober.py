"""Carries out probes and hooks: commands, HTTP requests and TCP connections to a pod's own address."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from import_local.kubelet.probe_state import ProbeSettings, ProbeState, record_outcome
from import_local.kubelet.processes import ProcessId, read_environment
from import_local.kubelet.runtime import run_command

Json = dict[str, Any]

USER_AGENT = "kube-probe/1.36"


def make_client() -> httpx2.AsyncClient:
    """Return the HTTP client of all probes; as in Kubernetes, they don't verify certificates."""
    return httpx2.AsyncClient(
        verify=False,
        trust_env=False,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
    )


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """Where a container's probes go."""

    address: str
    container: Json
    process: ProcessId
    working_directory: Path
    client: httpx2.AsyncClient

    def get_port(self, port: int | str) -> int:
        """Return a port by number or by its name; raises ValueError for an unknown name."""
        if isinstance(port, int):
            return port
        for entry in self.container.get("ports") or ():
            if entry.get("name") == port:
                return int(entry["containerPort"])
        raise ValueError(f"the container has no port named {port!r}")


async def probe(handler: Json, target: ProbeTarget, timeout: float) -> tuple[bool, str]:
    """Run a probe's or hook's action once; return whether it succeeded and, if not, why."""
    try:
        async with asyncio.timeout(timeout):
            return await _act(handler, target, timeout)
    except TimeoutError:
        return False, f"timed out after {timeout:g} s"
    except (OSError, ValueError, httpx2.HTTPError) as problem:
        return False, str(problem) or type(problem).__name__


async def _act(handler: Json, target: ProbeTarget, timeout: float) -> tuple[bool, str]:
    if "exec" in handler:
        return await _run_exec(handler["exec"].get("command") or [], target, timeout)
    if "httpGet" in handler:
        return await _get_http(handler["httpGet"], target, timeout)
    if "tcpSocket" in handler:
        return await _connect(handler["tcpSocket"], target)
    if "sleep" in handler:
        await asyncio.sleep(float(handler["sleep"]["seconds"]))
        return True, ""
    return False, f"{', '.join(handler)} is not implemented"


async def _run_exec(command: list[str], target: ProbeTarget, timeout: float) -> tuple[bool, str]:
    environment = read_environment(target.process.pid)
    if not command or not environment:
        return False, "there is no command, or no process to run it beside"
    code = await run_command(command, environment, target.working_directory, timeout)
    return code == 0, f"command exited with code {code}"


async def _get_http(action: Json, target: ProbeTarget, timeout: float) -> tuple[bool, str]:
    scheme = str(action.get("scheme") or "HTTP").lower()
    host = action.get("host") or target.address
    path = str(action.get("path") or "/")
    url = f"{scheme}://{host}:{target.get_port(action['port'])}{path if path.startswith('/') else '/' + path}"
    headers = [(item["name"], item["value"]) for item in action.get("httpHeaders") or ()]
    headers += [("User-Agent", USER_AGENT), ("Accept", "*/*"), ("Connection", "close")]
    response = await target.client.get(url, headers=headers, timeout=timeout)
    good = 200 <= response.status_code < 400
    return good, "" if good else f"HTTP probe failed with statuscode: {response.status_code}"


async def _connect(action: Json, target: ProbeTarget) -> tuple[bool, str]:
    port = target.get_port(action["port"])
    _, writer = await asyncio.open_connection(action.get("host") or target.address, port)
    writer.close()
    return True, ""


@dataclass(frozen=True, slots=True)
class ProbeFailure:
    """A startup or liveness probe that asks for the container's end; `grace` in seconds, if it says so."""

    kind: str
    message: str
    grace: float | None


async def _watch(
    definition: Json, target: ProbeTarget, on_verdict: Callable[[bool, str], bool], initial: ProbeState
) -> None:
    """Probe periodically and report each change of the verdict, until `on_verdict` returns True."""
    settings = ProbeSettings.from_probe(definition)
    state = initial
    await asyncio.sleep(settings.initial_delay)
    while True:
        succeeded, message = await probe(definition, target, settings.timeout)
        after = record_outcome(state, succeeded, settings)
        if (
            after.verdict is not None
            and after.verdict != state.verdict
            and on_verdict(after.verdict, message)
        ):
            return
        state = after
        await asyncio.sleep(settings.period)


async def watch_container(
    target: ProbeTarget, on_change: Callable[[bool, bool], None]
) -> ProbeFailure | None:
    """Run all probes of a running container until one asks for its end.

    `on_change(started, ready)` is called whenever either changes. Without a startup or liveness probe
    it returns only by being cancelled.
    """
    container = target.container
    if "startupProbe" in container:
        outcome: list[tuple[bool, str]] = []

        def end_startup(verdict: bool, message: str) -> bool:
            outcome.append((verdict, message))
            return True

        await _watch(container["startupProbe"], target, end_startup, ProbeState())
        if not outcome[0][0]:
            grace = container["startupProbe"].get("terminationGracePeriodSeconds")
            return ProbeFailure("Startup", outcome[0][1], grace)
    on_change(True, "readinessProbe" not in container)
    failures: list[ProbeFailure] = []

    def set_ready(verdict: bool, _message: str) -> bool:
        on_change(True, verdict)
        return False

    def end_life(verdict: bool, message: str) -> bool:
        if not verdict:
            grace = container["livenessProbe"].get("terminationGracePeriodSeconds")
            failures.append(ProbeFailure("Liveness", message, grace))
        return not verdict

    watches = []
    if "readinessProbe" in container:
        # Not ready until proven: the first verdict that changes anything is True.
        initial = ProbeState(verdict=False)
        watches.append(asyncio.create_task(_watch(container["readinessProbe"], target, set_ready, initial)))
    if "livenessProbe" in container:
        initial = ProbeState(verdict=True)
        watches.append(asyncio.create_task(_watch(container["livenessProbe"], target, end_life, initial)))
    try:
        if watches:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in watches:
            task.cancel()
    return failures[0] if failures else None
