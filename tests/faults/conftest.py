"""One installation for all scenarios: two operators, four workers, and a record of all that is written."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from e2e.world import Json
from lightkube.config.kubeconfig import KubeConfig
from rich.console import Console

from faults.audit import install_audit
from faults.load import LIMITER_CLOCK_SCALE
from faults.points import Point
from faults.report import REPORT as REPORT_FILE
from faults.report import FaultReport
from faults.world import FaultWorld
from import_core.adapters.kube.client import KubeClient
from import_core.domain.steps import StepKind
from import_local.control import delete_data
from import_local.demo.manifests import get_step_pools, get_worker_pool
from import_local.folders import ensure_folder
from import_local.installation import Installation
from import_local.part_set import Options

WORKERS = 4
SEED = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
KEPT_LOGS = REPORT_FILE.with_name("fault-logs")
REPORT = pytest.StashKey[FaultReport]()


@pytest.fixture(scope="session")
def fault_report(pytestconfig: pytest.Config) -> Iterator[FaultReport]:
    """The session's times of recovery; written and shown at its end."""
    report = pytestconfig.stash[REPORT] = FaultReport(SEED)
    yield report
    report.write()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def installation(servers_folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Installation]:
    """An installation that can be broken; crashed containers start again at once.

    When a test has failed, all logs are kept in `.local/fault-logs`.
    """
    options = Options(durable=False, kubelet=("--crash-backoff", "0"), faults=True)
    holder = "the session of fault tests"
    async with Installation(servers_folder / "breakable", options=options, holder=holder) as running:
        yield running
        if request.session.testsfailed:
            await asyncio.to_thread(keep_logs, running)
    await asyncio.to_thread(delete_data, running.state)


def keep_logs(installation: Installation) -> None:
    """Copy the logs of servers, operators and workers; those of an earlier session are replaced."""
    shutil.rmtree(KEPT_LOGS, ignore_errors=True)
    ensure_folder(KEPT_LOGS.parent)
    shutil.copytree(installation.state.logs, KEPT_LOGS)
    for log in installation.state.kubelet.glob("pods/*/containers/*/*/log*"):
        pod = json.loads((log.parents[3] / "pod.json").read_text(encoding="utf-8"))["name"]
        shutil.copy(log, KEPT_LOGS / f"{pod}-{log.parents[1].name}-{log.parent.name}.{log.name}")


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def fault_world(installation: Installation) -> AsyncIterator[FaultWorld]:
    """The installation with its 2 operators, and 4 workers of 5 jobs each that are ready."""
    async with KubeClient(KubeConfig.from_file(installation.kubeconfig)) as kube:
        world = FaultWorld(installation, kube, seed=SEED)
        pool = get_worker_pool(
            minimum=WORKERS, maximum=WORKERS, image="import-worker:dev", cooldown_seconds=1
        )
        # The workers' command is changed by the pool's template: at once, whatever becomes of jobs.
        pool["spec"]["rollout"] = {
            "initialReplicas": WORKERS,
            "initialPauseSeconds": 0,
            "minJobs": 0,
            "minSuccessPercent": 0,
            "steps": [{"percent": 100}],
        }
        set_environment(pool, {"LIMITER_CLOCK_SCALE": str(LIMITER_CLOCK_SCALE)})
        await world.apply(pool)
        async with world.database() as connection:
            await install_audit(connection)
        await world.ready_workers(WORKERS)
        yield world


def set_environment(pool: Json, variables: Mapping[str, str]) -> None:
    """Add variables to those of a pool's workers."""
    (container,) = pool["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": name, "value": value} for name, value in variables.items()]


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def step_pools(
    fault_world: FaultWorld, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[StepKind, Point]:
    """A worker for each step after imports, from the first scenario on that needs them; none of them is to die."""
    folder = tmp_path_factory.mktemp("steps")
    points = {kind: Point("step.taken", folder / kind.value) for kind in StepKind}
    for pool in get_step_pools(image="import-worker:dev", maximum=1, cooldown_seconds=1):
        point = points[StepKind(pool["spec"]["queue"])]
        point.disarm()
        pool["spec"]["scaling"]["minReplicas"] = 1
        # Sample images are small on purpose.
        variables = {"LIMITER_CLOCK_SCALE": str(LIMITER_CLOCK_SCALE), "QUALITY_MIN_IMAGE": "16"}
        set_environment(pool, variables | point.environment)
        await fault_world.apply(pool)
    return points


@pytest_asyncio.fixture(loop_scope="session")
async def step_points(
    world: FaultWorld, step_pools: Mapping[StepKind, Point]
) -> AsyncIterator[Mapping[StepKind, Point]]:
    """The point at which each step's worker dies once it is armed; the workers are ready."""
    for kind in StepKind:
        await world.ready_workers(1, pool=kind.value)
    yield step_pools
    for point in step_pools.values():
        point.disarm()


@pytest.fixture
def step_workers(step_points: Mapping[StepKind, Point]) -> None:
    """Workers for the steps after imports."""


@pytest_asyncio.fixture(loop_scope="session")
async def world(fault_world: FaultWorld) -> FaultWorld:
    """The installation, whole again after whatever the scenario before broke."""
    await fault_world.faults.end_all()
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
