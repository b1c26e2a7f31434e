"""Has the installation's operators and workers run by `planted.py`, so that each test says how they run.

The pods' command changes once for a module of tests; from then on a change is a file and a restart of the
processes within their pods, which takes seconds.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2e.world import NAMESPACE

from faults.world import OPERATOR, FaultWorld, PodProcess
from import_local.demo.manifests import POOL

LAUNCHER = Path(__file__).with_name("planted.py")
RESTART_SECONDS = 60.0
COMMAND = "/spec/template/spec/containers/0/command"
NEW_WORKERS = "SELECT count(*) FROM imports.worker WHERE started_at > %s AND state = 'ready'"


class Planting:
    """Says how operators and workers run, inside `planting(...)`."""

    def __init__(self, world: FaultWorld, folder: Path, *, workers: int) -> None:
        self._world = world
        self._folder = folder
        self._workers = workers

    def plan(self, process: str) -> Path:
        """The file that `planted.py` reads when such a process starts."""
        return self._folder / f"{process}.json"

    async def workers(self, *, bug: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        """Start all workers anew, with this bug and these variables; they are ready then."""
        before = datetime.now(UTC)
        await self._restart("worker", self._world.workers(), signal.SIGKILL, bug, environment)

        async def ready() -> bool:
            return int((await self._world.rows(NEW_WORKERS, before))[0][0]) >= self._workers

        await self._world.eventually(ready, "new workers are ready", seconds=RESTART_SECONDS)

    async def operators(
        self, *, bug: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start all operators anew; one of them leads then."""
        leader = (await self._world.lease()).identity
        # Asked to end, so that the leader gives its Lease back and nobody waits for the end of it.
        await self._restart("operator", self._world.operators(), signal.SIGTERM, bug, environment)
        await self._world.successor_of(leader, seconds=RESTART_SECONDS)

    async def _restart(
        self,
        process: str,
        running: Sequence[PodProcess],
        number: signal.Signals,
        bug: str | None,
        environment: Mapping[str, str] | None,
    ) -> None:
        plan = {"bug": bug, "environment": dict(environment or {})}
        self.plan(process).write_text(json.dumps(plan), encoding="utf-8")
        for one in running:
            self._world.signal(one, number, "started anew")

        async def gone() -> bool:
            return not any(one.is_alive for one in running)

        await self._world.eventually(gone, f"the old {process} processes end", seconds=RESTART_SECONDS)

    async def install(self) -> None:
        """Change the pods' commands; waits until the new pods run."""
        await self._set_commands(
            lambda process: [sys.executable, str(LAUNCHER), process, str(self.plan(process))]
        )

    async def remove(self) -> None:
        """Run the images' own commands again."""
        await self._set_commands(lambda _process: None)

    async def _set_commands(self, command: Any) -> None:
        await self._patch("workerpool", POOL, command("worker"))
        await self._patch("deployment", OPERATOR, command("operator"))
        rolled_out = await self._world.kubectl(
            "rollout", "status", f"deployment/{OPERATOR}", "-n", NAMESPACE, "--timeout=90s"
        )
        assert rolled_out.code == 0, rolled_out.err
        await self._world.leading_operator()
        await self._rolled_out(command("worker"))

    async def _rolled_out(self, command: Sequence[str] | None) -> None:
        """Wait until every worker is of the new template: the operator makes another Deployment for it."""

        async def look() -> bool:
            deployments = await self._world.worker_deployments()
            if len(deployments) != 1:
                return False
            body = deployments[0]
            status = body.get("status") or {}
            (container,) = body["spec"]["template"]["spec"]["containers"]
            return bool(
                container.get("command") == command
                and status.get("observedGeneration") == body["metadata"]["generation"]
                and status.get("updatedReplicas") == status.get("readyReplicas") == self._workers
                and status.get("replicas") == self._workers
            )

        await self._world.eventually(look, "the workers' new template is rolled out", seconds=120)

    async def _patch(self, kind: str, name: str, command: Sequence[str] | None) -> None:
        change: dict[str, Any] = {"op": "remove", "path": COMMAND}
        if command is not None:
            change = {"op": "add", "path": COMMAND, "value": list(command)}
        outcome = await self._world.kubectl(
            "patch", kind, name, "-n", NAMESPACE, "--type=json", "-p", json.dumps([change])
        )
        assert outcome.code == 0, outcome.err


@asynccontextmanager
async def planting(world: FaultWorld, folder: Path, *, workers: int) -> AsyncIterator[Planting]:
    """Run operators and workers by the launcher inside the block, and as they are after it."""
    planted = Planting(world, folder, workers=workers)
    try:
        await planted.install()
        yield planted
    finally:
        await asyncio.shield(planted.remove())
