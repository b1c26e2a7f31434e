"""Runs the load test: connects shops, submits all imports at once, watches until they have ended."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import psycopg
from lightkube.config.kubeconfig import KubeConfig

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, SECRET, WORKER_POOL, Kind
from import_core.adapters.tasks import end_tasks
from import_core.domain.errors import IntakeRefusedError, KubernetesUnavailableError, ObjectConflictError
from import_local.demo.manifests import NAMESPACE, get_connection, get_import_job, get_worker_pool
from import_local.errors import LocalError
from import_local.installation import Installation
from import_local.load.judging import EndedImport
from import_local.load.mix import PlannedImport
from import_local.load.sampling import Sampler
from import_local.load.timeline import Sample
from import_local.samples.settings import ROASTIFY_KEY, SHOPIFY_TOKEN

CREATIONS_AT_ONCE = 16
MINIMUM_WORKERS = 2
COOLDOWN_SECONDS = 5
CONNECTED_SECONDS = 150.0
AGAIN_SECONDS = 1.0
SHRINK_SECONDS = 120.0
COMPANIES = """
INSERT INTO "Company" (id, name, tier) SELECT id, id, tier FROM unnest(%s::text[], %s::text[]) AS given (id, tier)
ON CONFLICT (id) DO NOTHING
"""
CHECKED = "SELECT count(*) FROM imports.connection WHERE checked_at IS NOT NULL"
ENDED = """
SELECT j."objectName", j.status, j."startedAt", j."completedAt", coalesce(j.attempt, 0), j."errorMessage",
       (SELECT count(*) FROM imports.item_error e WHERE e.job_id = j.id)
FROM "ProductImportJob" j WHERE j."parentId" IS NULL
"""
STORED = 'SELECT (SELECT count(*) FROM "Product"), (SELECT count(*) FROM "ProductImage")'


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What `make load-test` can be told. `error_share`: of a provider's calls, and of those for images, what fails."""

    jobs: int = 1_000
    workers: int = 4
    """The most that the fleet may grow to."""
    minutes: float = 35.0
    """The longest time until every import has ended."""
    error_share: float = 0.01
    every_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class ProviderAnswers:
    """What the sample providers counted: answers by HTTP status."""

    calls: Mapping[int, int]
    images: Mapping[int, int]


@dataclass
class LoadRun:
    """Everything that one load test found out. Moments are seconds from the first submission."""

    options: LoadOptions
    planned: Sequence[PlannedImport]
    taken: str
    """The day, the machine, and what else it did."""
    samples: list[Sample] = field(default_factory=list)
    accepted: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    """Times that an import was refused at intake and submitted again."""
    ended: tuple[EndedImport, ...] = ()
    seconds: float = 0.0
    products: int = 0
    image_rows: int = 0
    answers: ProviderAnswers = field(default_factory=lambda: ProviderAnswers({}, {}))

    @property
    def accepting_seconds(self) -> float:
        """From the first submission to the last acceptance."""
        return max(self.accepted.values(), default=0.0)


class LoadTest:
    """One load test over a started installation. `say` shows a line to a person."""

    def __init__(self, installation: Installation, kube: KubeClient, run: LoadRun, timeline: Path) -> None:
        self._installation = installation
        self._kube = kube
        self._run = run
        self._timeline = timeline
        self._began = time.monotonic()
        self._started_at = datetime.now(UTC)

    async def carry_out(self) -> None:
        """All of it; `run` holds what was found. Raises LocalError when the imports do not end in time."""
        await self._connect()
        self._began, self._started_at = time.monotonic(), datetime.now(UTC)
        sampler = Sampler(
            self._installation,
            self._kube,
            self._run.options.every_seconds,
            file=self._timeline,
            seen=self._show,
            samples=self._run.samples,
            started=self._began,
        )
        sampling = asyncio.create_task(sampler.run())
        try:
            await self._submit()
            await self._until_ended(sampling)
            self._run.seconds = time.monotonic() - self._began
            await self._until_shrunk(sampling)
        finally:
            await end_tasks([sampling])
            await self._collect()

    async def _connect(self) -> None:
        planned, options = self._run.planned, self._run.options
        await self._kube.create(
            WORKER_POOL,
            NAMESPACE,
            get_worker_pool(
                minimum=MINIMUM_WORKERS,
                maximum=options.workers,
                image="import-worker:dev",
                cooldown_seconds=COOLDOWN_SECONDS,
            ),
        )
        say(
            f"connecting {len(planned)} companies to shops of which {options.error_share:.1%} of all calls fail"
        )
        async with await self._database() as connection:
            await connection.execute(
                COMPANIES, ([each.name for each in planned], [each.tier.name for each in planned])
            )
        await self._order_faults()
        bodies = [get_connection_of(self._installation, each) for each in planned]
        await self._create_all(SECRET, [secret for secret, _ in bodies])
        await self._create_all(IMPORT_PROVIDER, [provider for _, provider in bodies])
        await self._until_checked(len(planned))

    async def _order_faults(self) -> None:
        gate = asyncio.Semaphore(CREATIONS_AT_ONCE)
        share = self._run.options.error_share
        async with httpx2.AsyncClient(base_url=self._sample_root, trust_env=False, timeout=30) as client:

            async def order(number: int, plan: PlannedImport) -> None:
                fault = {"errorRate": share, "errorStatus": 503, "seed": number}
                async with gate:
                    answer = await client.put(
                        f"/control/{plan.provider}/{plan.shop}/faults", json={"api": fault, "images": fault}
                    )
                answer.raise_for_status()

            async with asyncio.TaskGroup() as group:
                for number, plan in enumerate(self._run.planned):
                    group.create_task(order(number, plan))

    @property
    def _sample_root(self) -> str:
        return self._installation.shopify_url.rsplit("/shopify", 1)[0]

    async def _until_checked(self, wanted: int) -> None:
        """Workers check new credentials; that must not be mistaken for the load."""
        deadline = time.monotonic() + CONNECTED_SECONDS
        checked = 0
        while checked < wanted and time.monotonic() < deadline:
            async with await self._database() as connection:
                row = await (await connection.execute(CHECKED)).fetchone()
            checked = int(row[0]) if row is not None else 0
            say(f"credentials checked: {checked} of {wanted}")
            await asyncio.sleep(AGAIN_SECONDS * 3)

    async def _submit(self) -> None:
        say(f"submitting {len(self._run.planned)} imports at once")
        gate = asyncio.Semaphore(CREATIONS_AT_ONCE)

        async def submit(plan: PlannedImport) -> None:
            body = get_import_job(name=plan.name, company_id=plan.name, provider=plan.name)
            while True:
                try:
                    async with gate:
                        await self._create(IMPORT_JOB, body)
                except IntakeRefusedError:
                    self._run.refused += 1
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                self._run.accepted[plan.name] = time.monotonic() - self._began
                return

        async with asyncio.TaskGroup() as group:
            for plan in self._run.planned:
                group.create_task(submit(plan))
        say(f"all accepted after {self._run.accepting_seconds:.1f} s")

    async def _create_all(self, kind: Kind, bodies: Sequence[dict[str, Any]]) -> None:
        gate = asyncio.Semaphore(CREATIONS_AT_ONCE)

        async def create(body: dict[str, Any]) -> None:
            async with gate:
                await self._create(kind, body)

        async with asyncio.TaskGroup() as group:
            for body in bodies:
                group.create_task(create(body))

    async def _create(self, kind: Kind, body: dict[str, Any]) -> None:
        asked_before = False
        while True:
            try:
                await self._kube.create(kind, NAMESPACE, body)
            except ObjectConflictError:
                if not asked_before:
                    raise
            except KubernetesUnavailableError:
                asked_before = True
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            return

    async def _until_ended(self, sampling: asyncio.Task[None]) -> None:
        deadline = time.monotonic() + self._run.options.minutes * 60
        wanted = len(self._run.planned)
        while time.monotonic() < deadline:
            if sampling.done():
                sampling.result()
            latest = self._run.samples[-1] if self._run.samples else None
            if latest is not None and (latest.completed or 0) + (latest.failed or 0) >= wanted:
                return
            await asyncio.sleep(AGAIN_SECONDS)
        say(f"not all imports have ended within {self._run.options.minutes:g} minutes")

    async def _until_shrunk(self, sampling: asyncio.Task[None]) -> None:
        say("waiting for the fleet to go back")
        deadline = time.monotonic() + SHRINK_SECONDS
        while time.monotonic() < deadline and not sampling.done():
            latest = self._run.samples[-1]
            if latest.ready == latest.desired == MINIMUM_WORKERS:
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _collect(self) -> None:
        say("reading what became of them")
        async with await self._database() as connection:
            rows = {str(row[0]): row for row in await (await connection.execute(ENDED)).fetchall()}
            stored = await (await connection.execute(STORED)).fetchone()
        self._run.products, self._run.image_rows = (int(stored[0]), int(stored[1])) if stored else (0, 0)
        self._run.ended = tuple(self._end_of(plan, rows.get(plan.name)) for plan in self._run.planned)
        self._run.answers = await self._read_answers()

    def _end_of(self, plan: PlannedImport, row: Sequence[Any] | None) -> EndedImport:
        accepted = self._run.accepted.get(plan.name)
        if row is None or accepted is None:
            return EndedImport(plan, None, None, None)

        def after(moment: datetime | None) -> float | None:
            return None if moment is None else (moment - self._started_at).total_seconds() - accepted

        _, state, started, ended, attempts, message, errors = row
        return EndedImport(plan, state, after(started), after(ended), int(errors), int(attempts), message)

    async def _read_answers(self) -> ProviderAnswers:
        async with httpx2.AsyncClient(base_url=self._sample_root, trust_env=False, timeout=120) as client:
            accounts = (await client.get("/control")).raise_for_status().json()["accounts"]
        calls: dict[int, int] = {}
        images: dict[int, int] = {}
        for account in accounts:
            for found, name in ((calls, "statuses"), (images, "imageStatuses")):
                for status, count in account["counters"][name].items():
                    found[int(status)] = found.get(int(status), 0) + count
        return ProviderAnswers(calls, images)

    def _show(self, sample: Sample) -> None:
        if len(self._run.samples) % max(1, round(10 / self._run.options.every_seconds)) != 1:
            return
        say(
            f"{sample.at:6.0f} s   depth {_shown(sample.depth)}   running {_shown(sample.claimed)}"
            f"   later {_shown(sample.later)}   done {_shown(sample.completed)}   failed {_shown(sample.failed)}"
            f"   workers {_shown(sample.ready)} of {_shown(sample.desired)}"
        )

    async def _database(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        return await psycopg.AsyncConnection.connect(
            self._installation.database_url,
            autocommit=True,
            connect_timeout=10,
            application_name="load test",
            options="-c statement_timeout=30s",
        )


def get_connection_of(
    installation: Installation, plan: PlannedImport
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Secret and the ImportProvider of a planned import's company."""
    secret, provider = get_connection(
        name=plan.name,
        company_id=plan.name,
        provider_type=plan.provider,
        base_url=(
            f"{installation.shopify_url}/{plan.shop}"
            if plan.provider == "shopify"
            else f"{installation.roastify_url}/{plan.shop}/v1"
        ),
        credentials={"accessToken": SHOPIFY_TOKEN}
        if plan.provider == "shopify"
        else {"apiKey": ROASTIFY_KEY},
    )
    return secret, provider


async def run_load_test(state_folder: Path, timeline: Path, run: LoadRun) -> None:
    """Start an installation, carry the test out, and stop it again, whatever happens."""
    say("starting an installation")
    async with (
        Installation(state_folder, holder="the load test") as installation,
        KubeClient(KubeConfig.from_file(installation.kubeconfig)) as kube,
    ):
        await LoadTest(installation, kube, run, timeline).carry_out()
        say("stopping the installation")
    if not run.ended:
        raise LocalError("the load test found nothing out")


def describe_machine() -> str:
    """The machine, the day, and what else it does at the moment."""
    memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory} GiB,"
        f" load average before the start {os.getloadavg()[0]:.1f}"
    )


def say(line: str) -> None:
    """Show a person who waits where the test stands."""
    print(f"{datetime.now(UTC):%H:%M:%S}  {line}", flush=True)


def _shown(number: int | None) -> str:
    return "?" if number is None else str(number)
