"""One installation for all scenarios: two operators, four workers, and a record of all that is written."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from e2e.world import NAMESPACE
from lightkube.config.kubeconfig import KubeConfig
from rich.console import Console

from faults.audit import install_audit
from faults.report import FaultReport
from faults.world import OPERATOR, FaultWorld
from import_core.adapters.kube.client import KubeClient
from import_local.demo.manifests import get_worker_pool
from import_local.installation import Installation

WORKERS = 4
SEED = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
LIMITER_CLOCK_SCALE = "20"
"""A provider's window of a minute passes in 3 s: after a loss of Redis all connections wait for one."""
REPORT = pytest.StashKey[FaultReport]()


@pytest.fixture(scope="session")
def fault_report(pytestconfig: pytest.Config) -> Iterator[FaultReport]:
    """The session's times of recovery; written and shown at its end."""
    report = pytestconfig.stash[REPORT] = FaultReport(SEED)
    yield report
    report.write()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fault_world(installation: Installation) -> AsyncIterator[FaultWorld]:
    """The installation with 2 operators and 4 workers of 5 jobs each, all ready."""
    async with KubeClient(KubeConfig.from_file(installation.kubeconfig)) as kube:
        world = FaultWorld(installation, kube, seed=SEED)
        scaled = await world.kubectl("scale", "deployment", OPERATOR, "-n", NAMESPACE, "--replicas=2")
        assert scaled.code == 0, scaled.err
        pool = get_worker_pool(
            minimum=WORKERS, maximum=WORKERS, image="import-worker:dev", cooldown_seconds=1
        )
        pool["spec"]["template"]["spec"]["containers"][0]["env"] = [
            {"name": "LIMITER_CLOCK_SCALE", "value": LIMITER_CLOCK_SCALE}
        ]
        await world.apply(pool)
        async with world.database() as connection:
            await install_audit(connection)
        await world.ready_workers(WORKERS)
        rolled_out = await world.kubectl(
            "rollout", "status", f"deployment/{OPERATOR}", "-n", NAMESPACE, "--timeout=60s"
        )
        assert rolled_out.code == 0, rolled_out.err
        yield world


@pytest_asyncio.fixture(loop_scope="session")
async def world(fault_world: FaultWorld) -> FaultWorld:
    """The installation, whole again after whatever the scenario before broke."""
    await fault_world.ready_workers(WORKERS)
    await fault_world.leading_operator()
    return fault_world


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Beside a failure, tell how to repeat it."""
    if report.failed and "faults" in report.nodeid:
        report.sections.append(("Repeat with", f"FAULT_SEED={SEED}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the times of recovery."""
    report = config.stash.get(REPORT, None)
    if report is not None and report.lines:
        terminalreporter.write_line("")
        report.show(Console(width=120))
