"""The operator with as many live ImportJobs as overload admits, beside itself with few: memory, start-up and loops.

Two namespaces of one real control plane, each with a database of its own. The objects are created first; the first
start of an operator records them and writes each one's status, which has a rate of its own. Then it is started again
and again, in turns with the other one. Run with `python -m bench operator`; BENCH_OPERATOR_OBJECTS=1000 and
BENCH_OPERATOR_ROUNDS=1 make it short.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import yaml
from lightkube.config.kubeconfig import KubeConfig
from prometheus_client.parser import text_string_to_metric_families

from bench.places import state_folder
from bench.table import median_of, print_table
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, SECRET, WORKER_POOL
from import_core.adapters.postgres import migrate
from import_core.domain.errors import KubernetesUnavailableError, ObjectConflictError
from import_local.demo.manifests import get_connection, get_import_job, get_worker_pool
from import_local.kubectl import apply_definitions, run_kubectl
from import_local.parts.control_plane import ControlPlane
from import_local.parts.postgres import PostgresServer
from import_local.parts.valkey import ValkeyServer
from import_local.ports import free_port
from import_local.processes import base_environment

FEW = 100
MANY = int(os.environ.get("BENCH_OPERATOR_OBJECTS", "10000"))
ROUNDS = int(os.environ.get("BENCH_OPERATOR_ROUNDS", "5"))
CLIENTS = 16
CONNECTIONS = 20
QUIET_CORES, QUIET_SECONDS = 0.4, 4.0
QUIET_ROUNDS = 0.7
"""Steady: everything is listed, compared and shown, and from then on it takes less of a core than this and has as few
rounds of the record loop in a second, which makes one every five seconds where nothing is left to look at."""
WATCHED_SECONDS = 10.0
LONGEST_SECONDS = 600.0
SAMPLE_SECONDS = 0.25
TICKS = os.sysconf("SC_CLK_TCK")
PROJECT = Path(__file__).resolve().parents[1]
RIGHTS = {"ServiceAccount", "Role", "RoleBinding"}
# Critical admits nobody else: what is measured is a namespace that is as full as can be.
COMPANIES = (
    """INSERT INTO "Company" (id, tier) SELECT 'company-' || n, 'ENTERPRISE' FROM generate_series(0, %s) n"""
)
RECORDED = """SELECT count(*) FROM "ProductImportJob" WHERE "objectUid" IS NOT NULL"""


@dataclass
class World:
    """A namespace with its objects, and where its operator keeps its rows."""

    namespace: str
    objects: int
    kubeconfig: Path
    database_url: str
    redis_url: str
    log: Path
    starts: list[Start] = field(default_factory=list)


@dataclass
class Start:
    """One life of an operator: seconds from the start of its process, MiB, and what its loops took."""

    recorded: float = 0.0
    compared: float = 0.0
    steady: float = 0.0
    start_cpu: float = 0.0
    idle_cores: float = 0.0
    resident: float = 0.0
    peak: float = 0.0
    latest: float = 0.0
    """The longest time that the event loop was late by, as its histogram tells: the bucket's bound."""
    rounds: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Milliseconds of a loop's mean round: over its whole life, and while steady."""


@dataclass(frozen=True)
class Sample:
    """A moment, by seconds since the start: CPU seconds and rounds of the record loop until then."""

    at: float
    cpu: float
    rounds: float

    def is_quiet_until(self, later: Sample) -> bool:
        """Whether little was done between the two."""
        seconds = later.at - self.at
        return (later.cpu - self.cpu) / seconds < QUIET_CORES and (
            later.rounds - self.rounds
        ) / seconds < QUIET_ROUNDS


@dataclass(frozen=True)
class Seen:
    """What the process tells of itself."""

    sums: Mapping[str, float]
    counts: Mapping[str, float]
    objects: float
    waiting: float
    lag: Mapping[float, float]

    def mean(self, loop: str, since: Seen | None = None) -> float | None:
        """Milliseconds of a round of the loop; None where there was none."""
        rounds = self.counts.get(loop, 0.0) - (since.counts.get(loop, 0.0) if since else 0.0)
        took = self.sums.get(loop, 0.0) - (since.sums.get(loop, 0.0) if since else 0.0)
        return took / rounds * 1000 if rounds else None


async def look(client: httpx2.AsyncClient, url: str) -> Seen:
    """Read its metrics."""
    sums, counts, lag, objects, waiting = {}, {}, {}, 0.0, float("nan")
    for family in text_string_to_metric_families((await client.get(url)).text):
        for sample in family.samples:
            if sample.name == "imports_loop_duration_seconds_sum":
                sums[sample.labels["loop"]] = sample.value
            elif sample.name == "imports_loop_duration_seconds_count":
                counts[sample.labels["loop"]] = sample.value
            elif sample.name == "imports_event_loop_lag_seconds_bucket":
                lag[float(sample.labels["le"])] = sample.value
            elif sample.name == "imports_objects" and sample.labels["kind"] == "ImportJob":
                objects = sample.value
            elif sample.name == "imports_status_patches_waiting":
                waiting = sample.value
    return Seen(sums, counts, objects, waiting, lag)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid: int, name: str) -> float:
    """`VmRSS`, what is resident, or `VmHWM`, its peak."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


async def live(world: World) -> Start:
    """Start an operator, wait until it is steady, watch it for a while, and stop it."""
    port = free_port()
    environment = base_environment(
        DATABASE_URL=world.database_url,
        REDIS_URL=world.redis_url,
        KUBECONFIG=str(world.kubeconfig),
        POD_NAMESPACE=world.namespace,
        POD_NAME=f"operator-{len(world.starts)}",
        HEALTH_PORT=str(port),
        MEASURE_SECONDS="1",
        PATH=os.environ["PATH"],
    )
    with world.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "import_operator"), env=environment, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            return await _follow(world, process, f"http://127.0.0.1:{port}/metrics")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _follow(world: World, process: asyncio.subprocess.Process, url: str) -> Start:
    start, began = Start(), time.perf_counter()
    samples: list[Sample] = []
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=30) as client,
        await psycopg.AsyncConnection.connect(world.database_url, autocommit=True) as connection,
    ):
        seen: Seen | None = None
        done_at: float | None = None
        while done_at is None or not _quiet(samples, done_at):
            if process.returncode is not None:
                raise RuntimeError(f"The operator ended with {process.returncode} ({world.log})")
            await asyncio.sleep(SAMPLE_SECONDS)
            try:
                seen = await look(client, url)
            except httpx2.TransportError:
                continue  # it does not serve yet
            at = time.perf_counter() - began
            samples.append(Sample(at, cpu_seconds(process.pid), seen.counts.get("record", 0.0)))
            if not start.compared and seen.counts.get("reconcile"):
                start.compared = at
            if not start.recorded:
                row = await (await connection.execute(RECORDED)).fetchone()
                start.recorded = at if row is not None and row[0] == world.objects else 0.0
            whole = start.compared and start.recorded and seen.objects == world.objects and not seen.waiting
            done_at = (done_at or at) if whole else None
        steady = _first_quiet(samples, done_at)
        start.steady, start.start_cpu = steady.at, steady.cpu
        before, cpu = await look(client, url), cpu_seconds(process.pid)
        await asyncio.sleep(WATCHED_SECONDS)
        after = await look(client, url)
        start.idle_cores = (cpu_seconds(process.pid) - cpu) / WATCHED_SECONDS
    start.resident, start.peak = memory_mib(process.pid, "VmRSS"), memory_mib(process.pid, "VmHWM")
    most = max(after.lag.values())
    start.latest = min(bound for bound, number in after.lag.items() if number == most)
    start.rounds = {loop: (after.mean(loop), after.mean(loop, before)) for loop in after.counts}
    return start


def _quiet(samples: list[Sample], since: float) -> bool:
    """Whether little was done for QUIET_SECONDS, all of them after everything was shown."""
    last = samples[-1]
    earlier = next((each for each in reversed(samples) if each.at <= last.at - QUIET_SECONDS), None)
    return earlier is not None and earlier.at >= since and earlier.is_quiet_until(last)


def _first_quiet(samples: list[Sample], shown_at: float) -> Sample:
    """When the quiet time began, by windows of two seconds, not before everything was shown."""
    last = samples[-1]
    first = last
    for each in reversed(samples):
        if each.at < shown_at:
            break
        later = next((other for other in samples if other.at >= each.at + 2.0), last)
        if later is not each and not each.is_quiet_until(later):
            break
        first = each
    return first


async def create(kube: KubeClient, world: World) -> float:
    """Create its objects; returns how many a second."""
    for number in range(CONNECTIONS):
        secret, provider = get_connection(
            name=f"shop-{number}",
            company_id=f"company-{number}",
            provider_type="shopify",
            base_url="http://127.0.0.1:9",
            credentials={"accessToken": "shpat_example"},
        )
        for kind, body in ((SECRET, secret), (IMPORT_PROVIDER, provider)):
            await kube.create(kind, world.namespace, _in_namespace(body, world))
    pool = get_worker_pool(minimum=2, maximum=50, image="import-worker:dev", cooldown_seconds=60)
    await kube.create(WORKER_POOL, world.namespace, _in_namespace(pool, world))
    numbers, started = iter(range(world.objects)), time.perf_counter()

    async def client() -> None:
        for number in numbers:
            of = number % CONNECTIONS
            body = get_import_job(name=f"import-{number}", company_id=f"company-{of}", provider=f"shop-{of}")
            await _create(kube, _in_namespace(body, world))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return world.objects / (time.perf_counter() - started)


async def _create(kube: KubeClient, body: dict[str, Any]) -> None:
    """Create an ImportJob, also where a busy machine lets the first call run into its time limit."""
    with contextlib.suppress(ObjectConflictError):  # an earlier call got through
        for _ in range(5):
            try:
                await kube.create(IMPORT_JOB, body["metadata"]["namespace"], body)
            except KubernetesUnavailableError:
                continue
            return
        raise RuntimeError("The API server does not take objects")


def _in_namespace(body: dict[str, Any], world: World) -> dict[str, Any]:
    return {**body, "metadata": {**body["metadata"], "namespace": world.namespace}}


async def prepare(
    control_plane: ControlPlane, postgres: PostgresServer, valkey: ValkeyServer, name: str, objects: int
) -> World:
    """A namespace in which the operator has the rights that it is delivered with, and a database."""
    admin, namespace = control_plane.kubeconfig, f"operator-{name}"
    await run_kubectl(admin, "create", "namespace", namespace)
    manifests = [
        document
        for file in sorted((PROJECT / "deploy" / "base").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
        if document.get("kind") in RIGHTS
    ]
    text = yaml.safe_dump_all(manifests).encode()
    await run_kubectl(admin, "--namespace", namespace, "apply", "-f", "-", stdin=text)
    token = await run_kubectl(
        admin, "--namespace", namespace, "create", "token", "import-operator", "--duration=8h"
    )
    kubeconfig = control_plane.kubeconfig_with_token(namespace, token.strip(), namespace=namespace)
    url = await postgres.create_database(name)
    await migrate(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(COMPANIES, (CONNECTIONS,))
    return World(namespace, objects, kubeconfig, url, valkey.url, admin.parent / f"{name}.log")


async def main() -> None:
    """Run and print."""
    with state_folder() as folder:
        folder.mkdir(mode=0o711)
        postgres = PostgresServer(folder / "postgres", log_path=folder / "postgres.log", durable=False)
        valkeys = [ValkeyServer(folder / name, log_path=folder / f"{name}.log") for name in ("few", "many")]
        control_plane = ControlPlane(folder / "control-plane", log_folder=folder, durable=False)
        servers: list[PostgresServer | ValkeyServer | ControlPlane] = [postgres, *valkeys, control_plane]
        await asyncio.gather(*(server.start() for server in servers))
        try:
            await apply_definitions(control_plane.kubeconfig, PROJECT / "crds")
            few = await prepare(control_plane, postgres, valkeys[0], "few", FEW)
            many = await prepare(control_plane, postgres, valkeys[1], "many", MANY)
            async with KubeClient(KubeConfig.from_file(control_plane.kubeconfig)) as kube:
                rates = [await create(kube, world) for world in (few, many)]
            print(f"{MANY:,} objects created at {rates[1]:.0f}/s", file=sys.stderr)
            for turn in range(ROUNDS + 1):
                for world in (few, many):
                    world.starts.append(await live(world))
                    print(turn, world.namespace, world.starts[-1], file=sys.stderr, flush=True)
        finally:
            await asyncio.gather(*(server.stop() for server in reversed(servers)))
    _print(few, many)


def _print(few: World, many: World) -> None:
    first = [world.starts[0] for world in (few, many)]
    again = [world.starts[1:] for world in (few, many)]
    header = (f"{few.objects:,} live", f"{many.objects:,} live")
    print(f"{ROUNDS} interleaved starts with all rows there, after a first one that has none\n")
    print_table(
        ("first start", *header),
        [
            ("all recorded and due, s", *(f"{start.recorded:.1f}" for start in first)),
            ("every status written, s", *(f"{start.steady:.1f}" for start in first)),
            ("peak memory, MiB", *(f"{start.peak:.0f}" for start in first)),
        ],
    )
    print()
    names = {
        "compared with all rows, s": "compared",
        "steady, s": "steady",
        "CPU until then, s": "start_cpu",
        "steady: cores": "idle_cores",
        "resident memory, MiB": "resident",
        "peak memory, MiB": "peak",
        "event loop late by at most, s": "latest",
    }
    print_table(
        ("started again", *header),
        [
            (name, *(median_of([getattr(start, field) for start in starts]) for starts in again))
            for name, field in names.items()
        ],
    )
    grown = [
        statistics.median(getattr(start, field) for start in again[1])
        - statistics.median(getattr(start, field) for start in again[0])
        for field in ("resident", "peak")
    ]
    each = [mib * 1024 / (many.objects - few.objects) for mib in grown]
    print(f"\nKiB for each more object: {each[0]:.1f} resident, {each[1]:.1f} at the peak\n")
    print_table(
        (
            "mean round of a loop, ms",
            *(f"{words}, {kind}" for words in header for kind in ("whole life", "steady")),
        ),
        [
            (loop, *(_mean(starts, loop, place) for starts in again for place in (0, 1)))
            for loop in sorted(again[1][0].rounds)
        ],
    )


def _mean(starts: list[Start], loop: str, place: int) -> str:
    means = [start.rounds[loop][place] for start in starts if loop in start.rounds]
    known = [mean for mean in means if mean is not None]
    return f"{statistics.median(known):.2f}" if known else "–"
