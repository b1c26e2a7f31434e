"""Records a run of a whole installation, by which a test judges the decisions and the simulator.

`python -m bench.recording FILE` takes about six minutes. Jobs are rows that are committed by a fixed plan of arrivals;
what they take is decided by the latency of their sample shops, so that the machine's own speed hardly counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from lightkube.config.kubeconfig import KubeConfig
from prometheus_client.parser import text_string_to_metric_families

from bench.places import state_folder
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import DEPLOYMENT, IMPORT_PROVIDER, POD, SECRET, WORKER_POOL
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.decisions import DecisionStore
from import_core.adapters.tasks import end_tasks
from import_core.domain.draining import BusyScaleIn
from import_core.domain.pool_scaling import PoolWishes
from import_core.domain.resources.worker_pool import parse_worker_pool
from import_core.domain.scaling import ScalingSpec
from import_core.domain.simulation.recording import (
    RECORDING_VERSION,
    Change,
    KeptDecision,
    RecordedJob,
    RecordedWorker,
    Recording,
    simulate_again,
)
from import_local.demo.manifests import NAMESPACE, POOL, WORKERS, get_connection, get_worker_pool
from import_local.installation import Installation
from import_local.samples.settings import SHOPIFY_TOKEN

MINIMUM, MAXIMUM = 1, 8
SCALING = {
    "scaleOutCooldownSeconds": 10,
    "scaleInCooldownSeconds": 6,
    "scaleInBusy": BusyScaleIn.DRAIN_LEAST_WORK.value,
}
LATENCIES = (0.5, 1.2, 3.0)
"""Seconds of a call, by shop."""
SHOPS_OF_EACH = 4
SAMPLE_SECONDS = 0.1
LONGEST_SECONDS = 400.0
QUIET_SECONDS = 5.0
ADD = """
INSERT INTO "ProductImportJob" (id, "companyId", provider) SELECT * FROM unnest(%s::text[], %s::text[], %s::text[])
"""
ROWS = """
SELECT id, "companyId", status, "createdAt", "startedAt", "completedAt"
FROM "ProductImportJob" WHERE id LIKE 'recorded-%' ORDER BY id
"""
CLAIMS = "SELECT job_id, worker_id FROM imports.claim"
ENTERED = "SELECT worker_id, pod_uid FROM imports.worker"
LEFT = """SELECT count(*) FROM "ProductImportJob" WHERE status IN ('PENDING', 'IN_PROGRESS')"""

Connection = psycopg.AsyncConnection[Any]


def arrivals(seed: int = 7) -> list[tuple[float, int]]:
    """(seconds, jobs): a trickle, bursts, a ramp, a burst while workers still drain, and one from rest."""
    source = random.Random(seed)
    plan, at = [], 0.0
    while at < 20.0:
        plan.append((at, 1))
        at += source.expovariate(0.7)
    plan += [(25.0, 44), (43.0, 38)]
    plan += [(90.0 + 0.4 * number, 1) for number in range(75)]
    plan += [(150.0, 64), (162.0, 30), (200.0, 70)]
    return plan


def shops() -> list[tuple[str, float]]:
    """Names of sample shops, which are companies and connections as well, and their latencies."""
    return [
        (f"tiny-1-0-recorded{number}{letter}", latency)
        for letter, latency in zip("abc", LATENCIES, strict=True)
        for number in range(SHOPS_OF_EACH)
    ]


@dataclass
class Seen:
    """What the samples of the run have found; seconds of the wall clock."""

    workers: dict[str, float] = field(default_factory=dict)
    """When each worker's process was first seen."""
    pod_of: dict[str, str] = field(default_factory=dict)
    worker_of: dict[str, str] = field(default_factory=dict)
    wanted: list[tuple[float, int]] = field(default_factory=list)
    asked: list[tuple[float, int]] = field(default_factory=list)


async def sample(seen: Seen, connection: Connection, metrics_url: str) -> None:
    """Look at claims, workers and the wanted number, ten times a second."""
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
        while True:
            now = time.time()
            for job, worker in await (await connection.execute(CLAIMS)).fetchall():
                seen.worker_of.setdefault(job, worker)
            for worker, pod in await (await connection.execute(ENTERED)).fetchall():
                seen.workers.setdefault(worker, now)
                seen.pod_of[worker] = pod
            note(seen.wanted, now, desired_in((await client.get(metrics_url)).text))
            await asyncio.sleep(max(0.0, SAMPLE_SECONDS - (time.time() - now)))


def desired_in(text: str) -> int:
    """The wanted number that the operator tells Prometheus."""
    return next(
        int(one.value)
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == "imports_workers_desired" and one.labels.get("pool") == POOL
    )


def note(changes: list[tuple[float, int]], now: float, number: int) -> None:
    """Keep a number that is another one than before."""
    if not changes or changes[-1][1] != number:
        changes.append((now, number))


async def watch(seen: Seen, kube: KubeClient) -> None:
    """Every number that the Deployment is told."""
    async for deployment in kube.watch_one(DEPLOYMENT, NAMESPACE, WORKERS):
        if deployment is not None:
            note(seen.asked, time.time(), int(deployment["spec"].get("replicas", 0)))


async def prepare(installation: Installation, kube: KubeClient) -> PoolWishes:
    """A pool at its minimum, connections, and shops that take their time."""
    pool = get_worker_pool(minimum=MINIMUM, maximum=MAXIMUM, image="import-worker:dev", cooldown_seconds=20)
    pool["spec"]["scaling"] |= SCALING
    pool["spec"]["template"]["spec"]["containers"][0].pop("resources")
    made = await kube.create(WORKER_POOL, NAMESPACE, pool)
    root = installation.shopify_url.rsplit("/shopify", 1)[0]
    async with httpx2.AsyncClient(base_url=root, trust_env=False, timeout=10) as client:
        for shop, latency in shops():
            secret, provider = get_connection(
                name=shop,
                company_id=shop,
                provider_type="shopify",
                base_url=f"{installation.shopify_url}/{shop}",
                credentials={"accessToken": SHOPIFY_TOKEN},
            )
            await kube.create(SECRET, NAMESPACE, secret)
            await kube.create(IMPORT_PROVIDER, NAMESPACE, provider)
            order = {"api": {"latencySeconds": latency}, "rateScale": 1000}
            (await client.put(f"/control/shopify/{shop}/faults", json=order)).raise_for_status()
    async with asyncio.timeout(120):
        async for body in kube.watch_one(WORKER_POOL, NAMESPACE, POOL):
            if body is not None and (body.get("status") or {}).get("readyReplicas") == MINIMUM:
                break
    parsed = parse_worker_pool(made)
    scaling = parsed.spec.scaling
    return PoolWishes(
        ScalingSpec(
            minimum=scaling.min_replicas,
            maximum=scaling.max_replicas,
            target_jobs_per_worker=scaling.target_jobs_per_worker,
            scale_out_cooldown=scaling.scale_out_cooldown_seconds,
            scale_in_cooldown=scaling.scale_in_cooldown_seconds,
        ),
        concurrency=parsed.spec.concurrency,
    )


async def submit(connection: Connection, started: float) -> None:
    """Commit the rows of the plan, each group when its time has come."""
    source, number = random.Random(11), 0
    names = [name for name, _ in shops()]
    for at, jobs in arrivals():
        await asyncio.sleep(max(0.0, started + at - time.time()))
        chosen = [source.choice(names) for _ in range(jobs)]
        ids = [f"recorded-{number + offset:04}" for offset in range(jobs)]
        await connection.execute(ADD, (ids, chosen, chosen))
        number += jobs


async def settle(connection: Connection, seen: Seen, started: float) -> None:
    """Wait until all jobs have ended and the pool has been at its minimum for a while."""
    async with asyncio.timeout(started + LONGEST_SECONDS - time.time()):
        while True:
            row = await (await connection.execute(LEFT)).fetchone()
            at, number = seen.asked[-1]
            if row is not None and not row[0] and number == MINIMUM and time.time() - at > QUIET_SECONDS:
                return
            await asyncio.sleep(0.5)


def made_of(
    seen: Seen, rows: Sequence[tuple[Any, ...]], kept: Sequence[KeptDecision], **words: Any
) -> Recording:
    """The recording, its times from the start on."""
    started = words.pop("started")
    unfinished = [row for row in rows if row[2] != "COMPLETED"]
    if unfinished:
        raise RuntimeError(f"{len(unfinished)} jobs did not succeed: {unfinished[:3]}")
    workers = sorted(seen.workers, key=seen.workers.__getitem__)
    outs = [(at, later - earlier) for (_, earlier), (at, later) in pairwise(seen.asked) if later > earlier]
    asked_at = [-1.0 + started] * MINIMUM + [at for at, added in outs for _ in range(added)]
    if len(asked_at) < len(workers):
        raise RuntimeError(f"{len(workers)} workers were seen, {len(asked_at)} were asked for")
    places = {worker: place for place, worker in enumerate(workers)}
    return Recording(
        version=RECORDING_VERSION,
        seconds=round(time.time() - started, 3),
        jobs=tuple(
            RecordedJob(
                at=round(created.timestamp() - started, 3),
                waited=round((claimed - created).total_seconds(), 3),
                ran=round((ended - claimed).total_seconds(), 3),
                company=company,
                worker=places[seen.worker_of[job]],
            )
            for job, company, _, created, claimed, ended in rows
        ),
        workers=tuple(
            RecordedWorker(round(asked - started, 3), round(seen.workers[worker] - started, 3))
            for worker, asked in zip(workers, asked_at, strict=False)
        ),
        decisions=tuple(kept),
        wanted=tuple(Change(round(at - started, 3), number) for at, number in seen.wanted),
        asked=tuple(Change(round(at - started, 3), number) for at, number in seen.asked),
        **words,
    )


async def record(installation: Installation) -> Recording:
    """The whole run."""
    seen = Seen()
    database = Database(installation.database_url, application="recording", maximum=2)
    await database.open(wait_seconds=10)
    async with (
        KubeClient(KubeConfig.from_file(installation.kubeconfig)) as kube,
        await psycopg.AsyncConnection.connect(installation.database_url, autocommit=True) as submitting,
        await psycopg.AsyncConnection.connect(installation.database_url, autocommit=True) as sampling,
    ):
        wishes = await prepare(installation, kube)
        tasks = [
            asyncio.create_task(sample(seen, sampling, await operator_metrics(kube))),
            asyncio.create_task(watch(seen, kube)),
        ]
        try:
            # Until the number that the new pool began with counts no more.
            await asyncio.sleep(SCALING["scaleInCooldownSeconds"] + 1.0)  # type: ignore[operator]
            started, load = time.time(), os.getloadavg()[0]
            await submit(submitting, started)
            await settle(submitting, seen, started)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            await end_tasks(tasks)
        seen.wanted = [change for change in seen.wanted if change[0] >= started] or seen.wanted[-1:]
        seen.wanted.insert(0, (started, MINIMUM))
        kept = await DecisionStore(database).read(
            NAMESPACE, POOL, since=datetime.fromtimestamp(started, UTC), limit=1_000
        )
        rows = await (await submitting.execute(ROWS)).fetchall()
    await database.close()
    return made_of(
        seen,
        rows,
        [
            KeptDecision(
                at=round(each.decided_at.timestamp() - started, 3),
                version=each.version,
                before=each.before,
                replicas=each.replicas,
                desired=each.desired,
                need=each.need,
                reason=each.reason,
                inputs=each.inputs,
            )
            for each in kept
        ],
        started=started,
        taken=f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load average at the start {load:.1f}",
        wishes=wishes,
        busy=BusyScaleIn.DRAIN_LEAST_WORK,
    )


async def operator_metrics(kube: KubeClient) -> str:
    """Where the operator tells Prometheus."""
    async for pod in kube.list(POD, NAMESPACE, labels={"app.kubernetes.io/name": "import-operator"}):
        container = pod["spec"]["containers"][0]
        port = next(port["containerPort"] for port in container["ports"] if port.get("name") == "http")
        return f"http://{pod['status']['podIP']}:{port}/metrics"
    raise RuntimeError("no operator runs")


async def main(path: Path) -> None:
    """Record and write; say how near the simulator comes."""
    with state_folder() as folder:
        async with Installation(folder) as installation:
            recording = await record(installation)
    text = json.dumps(recording.to_json(), separators=(",", ":"), ensure_ascii=False)
    await asyncio.to_thread(path.write_text, text + "\n", encoding="utf-8")
    print(
        f"{len(recording.jobs)} jobs, {len(recording.decisions)} decisions, {recording.seconds:.0f} s: {path}"
    )
    print("wanted   ", [change.workers for change in recording.wanted])
    print("simulated", [change.workers for change in simulate_again(recording).wanted])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
