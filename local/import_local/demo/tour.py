"""The tour itself, step by step; every step says what it shows and fails loudly when it does not."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.domain.jobs import DEFAULT_QUEUE
from import_local.demo import measures
from import_local.demo.cluster import Cluster, DemoError, ImportJob, ImportProvider, WorkerPool
from import_local.demo.fates import LIVE, expected_fates, fate_of, find_each
from import_local.demo.manifests import (
    POOL,
    TARGET_JOBS_PER_WORKER,
    WORKERS,
    get_connection,
    get_import_job,
    get_step_pools,
    get_worker_pool,
)
from import_local.demo.report import DemoReport
from import_local.demo.searching import find_products
from import_local.installation import Installation
from import_local.samples.catalogue.registry import open_catalogue
from import_local.samples.settings import ROASTIFY_KEY, SHOPIFY_TOKEN, default_data_folder

MINIMUM_WORKERS = 2
MAXIMUM_WORKERS = 6
COOLDOWN_SECONDS = 5
SMALL_JOBS = 300
SMALL_COMPANIES = 10
PRODUCTS_PER_SMALL_SHOP = 3
SHOP = "vendure"
"""54 real products where the data is beside the project, generated ones otherwise."""
SHOP_PRODUCTS = 54
WORKER_IMAGE = "import-worker:dev"
EVERY_STEP = {"embedding": True, "qualityControl": True, "index": True}
FINAL_PHASES = frozenset({"Succeeded", "Failed", "Cancelled"})
STEP_SECONDS = 240.0
BURST_SECONDS = 420.0


class Tour:
    """One tour over a started installation."""

    def __init__(self, installation: Installation, console: Console) -> None:
        self._installation = installation
        self._console = console
        self._cluster = Cluster(installation.kubeconfig)
        self._database_url = installation.database_url
        self._last_steps = ""
        small_products = SMALL_COMPANIES * PRODUCTS_PER_SMALL_SHOP
        self.report = DemoReport(
            expected_jobs={"Succeeded": 4 + SMALL_JOBS, "Failed": 1},
            expected_products=2 * SHOP_PRODUCTS + small_products,
            expected_fates=expected_fates(open_catalogue(SHOP, default_data_folder())),
            machine=f"{os.cpu_count()} cores, {_memory_gib()} GiB",
        )

    async def run(self) -> DemoReport:
        """All steps in order. Raises DemoError when a step does not come about."""
        started = time.monotonic()
        try:
            await self._start_workers()
            await self._connect_stores()
            await self._import_catalogue("acme", "shopify", "acme-shopify", "acme-first")
            await self._import_catalogue("bean", "roastify", "bean-roastify", "bean-first")
            await self._burst()
            await self._import_again()
            await self._go_live()
            await self._wrong_token()
            await self._collect()
        finally:
            await self._cluster.close()
        self.report.tour_seconds = time.monotonic() - started
        return self.report

    def _say(self, title: str, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{title}", align="left")
        self._console.print(text)

    async def _start_workers(self) -> None:
        self._say(
            "A pool of workers", f"A WorkerPool asks for {MINIMUM_WORKERS} to {MAXIMUM_WORKERS} workers."
        )
        pool = get_worker_pool(
            minimum=MINIMUM_WORKERS,
            maximum=MAXIMUM_WORKERS,
            image=WORKER_IMAGE,
            cooldown_seconds=COOLDOWN_SECONDS,
        )
        await self._cluster.apply([pool])
        await self._until_fleet(MINIMUM_WORKERS)
        self.report.workers_minimum = MINIMUM_WORKERS
        self.report.workers_maximum = MINIMUM_WORKERS

    async def _until_fleet(self, ready: int) -> None:
        await self._cluster.until(
            WorkerPool,
            POOL,
            lambda pool: _pool_numbers(pool)[1:] == (ready, ready),
            timeout_seconds=STEP_SECONDS,
            seen=self._note_fleet,
        )

    def _note_fleet(self, pool: dict[str, Any]) -> None:
        depth, desired, ready = _pool_numbers(pool)
        self.report.workers_maximum = max(self.report.workers_maximum, ready)
        line = f"  depth {depth:>4}   desired {desired:>2}   ready {ready:>2}"
        if line != getattr(self, "_last_line", ""):
            self._last_line = line
            self._console.print(line, highlight=False)

    async def _connect_stores(self) -> None:
        source = "54 real products" if default_data_folder() else "54 generated products"
        self._say(
            "Two stores",
            f"A Shopify and a Roastify store with {source} each; a worker checks the credentials.",
        )
        shopify, roastify = self._installation.shopify_url, self._installation.roastify_url
        objects = [
            *get_connection(
                name="acme-shopify",
                company_id="acme",
                provider_type="shopify",
                base_url=f"{shopify}/{SHOP}",
                credentials={"accessToken": SHOPIFY_TOKEN},
            ),
            *get_connection(
                name="bean-roastify",
                company_id="bean",
                provider_type="roastify",
                base_url=f"{roastify}/{SHOP}/v1",
                credentials={"apiKey": ROASTIFY_KEY},
            ),
        ]
        for index in range(SMALL_COMPANIES):
            objects += get_connection(
                name=f"small-{index}",
                company_id=f"small-{index}",
                provider_type="shopify",
                base_url=f"{shopify}/tiny-{PRODUCTS_PER_SMALL_SHOP}-1-{index}",
                credentials={"accessToken": SHOPIFY_TOKEN},
            )
        await self._cluster.apply(objects)
        for name in ("acme-shopify", "bean-roastify"):
            await self._cluster.until(
                ImportProvider,
                name,
                lambda p: _condition(p, "CredentialsValid") == "True",
                timeout_seconds=60,
            )
            self._console.print(f"  {name}: reachable, credentials valid")

    async def _import_catalogue(self, company_id: str, kind: str, provider: str, job: str) -> None:
        self._say(f"Import a {kind} catalogue", f"kubectl apply of ImportJob {job}; the bar is its status.")
        await self._cluster.apply([get_import_job(name=job, company_id=company_id, provider=provider)])
        await self._follow(job, expected="Succeeded")

    async def _follow(self, job: str, *, expected: str) -> dict[str, Any]:
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(job, total=100, detail="")

            def show(version: dict[str, Any]) -> None:
                status = version.get("status") or {}
                progress = status.get("progress") or {}
                detail = (
                    f"{status.get('phase', 'Pending')}  {progress.get('productsImported', 0)} products, "
                    f"{progress.get('imagesImported', 0)} images"
                )
                bar.update(task, completed=progress.get("percent") or 0, detail=detail)

            final = await self._cluster.until(
                ImportJob,
                job,
                lambda version: (version.get("status") or {}).get("phase") in FINAL_PHASES,
                timeout_seconds=STEP_SECONDS,
                seen=show,
            )
        status = final["status"]
        if status["phase"] != expected:
            raise DemoError(f"{job} ended {status['phase']}: {status.get('message', '')}")
        return final

    async def _burst(self) -> None:
        self._say(
            f"{SMALL_JOBS} jobs at once",
            f"{SMALL_COMPANIES} companies apply {SMALL_JOBS} jobs to a paused queue, which then goes on; the fleet"
            " follows the backlog and goes back.",
        )
        jobs = [
            get_import_job(
                name=f"burst-{n}",
                company_id=f"small-{n % SMALL_COMPANIES}",
                provider=f"small-{n % SMALL_COMPANIES}",
            )
            for n in range(SMALL_JOBS)
        ]
        scaled_at: list[datetime] = []
        before = await self._cluster.deployment_replicas(WORKERS)

        def note(pool: dict[str, Any]) -> None:
            self._note_fleet(pool)
            if not scaled_at and _pool_numbers(pool)[1] > before:
                scaled_at.append(_time((pool["status"]).get("lastScaleTime")))

        applying = asyncio.create_task(self._apply_together(jobs))
        try:
            await self._cluster.until(
                WorkerPool, POOL, lambda pool: _pool_numbers(pool)[1] > before, timeout_seconds=60, seen=note
            )
        finally:
            await applying
        await self._cluster.until(
            WorkerPool,
            POOL,
            lambda pool: _pool_numbers(pool)[0] == 0,
            timeout_seconds=BURST_SECONDS,
            seen=note,
        )
        # The row with which the depth went above what the smallest fleet takes.
        enough = MINIMUM_WORKERS * TARGET_JOBS_PER_WORKER
        needed_since = (
            await measures.read_all(self._database_url, measures.RECORDED_AT, ("burst-%", enough))
        )[0][0]
        self.report.scale_decision_seconds = max(0.0, (scaled_at[0] - needed_since).total_seconds())
        rows = await measures.read_all(
            self._database_url, measures.FIRST_JOB_OF_NEW_WORKERS, {"since": needed_since}
        )
        self.report.first_job_by_new_worker_seconds = rows[0][0]
        await self._until_objects_done()
        await self._until_fleet(MINIMUM_WORKERS)

    async def _apply_together(self, jobs: list[dict[str, Any]]) -> None:
        """Let jobs start only once all are there: the backlog must not depend on how fast they are applied."""
        database = Database(self._database_url, application="import-local demo", maximum=1)
        await database.open(wait_seconds=10)
        try:
            queues = QueueStateStore(database)
            await queues.set_paused(
                DEFAULT_QUEUE, True, reason="the tour applies its jobs", changed_by="make demo"
            )
            try:
                await self._cluster.apply(jobs)
            finally:
                await queues.set_paused(DEFAULT_QUEUE, False, reason=None, changed_by="make demo")
        finally:
            await database.close()

    async def _until_objects_done(self) -> None:
        # "Nothing due, nothing claimed" comes before the last status patch, so the objects are asked too.
        async with asyncio.timeout(60):
            async for _, _ in self._cluster.client.watch(ImportJob):
                if set(await self._cluster.phases()) <= FINAL_PHASES:
                    return

    async def _import_again(self) -> None:
        self._say(
            "The same catalogue again", "An unchanged catalogue writes no row version and puts no object."
        )
        store = measures.open_store(self._installation.environment)
        rows = await measures.row_versions(self._database_url, "acme")
        objects = await measures.stored_objects(store)
        again = get_import_job(name="acme-again", company_id="acme", provider="acme-shopify")
        await self._cluster.apply([again])
        await self._follow("acme-again", expected="Succeeded")
        changed = await measures.row_versions(self._database_url, "acme") ^ rows
        put = (await measures.stored_objects(store)).versions ^ objects.versions
        self.report.changed_by_second_import = [f"row {row[:2]}" for row in sorted(changed)[:5]]
        self.report.changed_by_second_import += [f"object {key}" for key, _ in sorted(put)[:5]]
        self._console.print(f"  rows written: {len(changed)}   objects put: {len(put)}")

    async def _go_live(self) -> None:
        self._say(
            "From imported to live",
            "Each product takes three steps more: an embedding, quality control, the search index. Their workers start"
            " when there is work, and go. Model and Gemini are stand-ins here.",
        )
        started = time.monotonic()
        await self._cluster.apply(
            [
                *get_step_pools(image=WORKER_IMAGE, maximum=2, cooldown_seconds=COOLDOWN_SECONDS),
                get_import_job(
                    name="acme-live", company_id="acme", provider="acme-shopify", enrich=EVERY_STEP
                ),
            ]
        )
        await self._cluster.until(
            ImportJob,
            "acme-live",
            lambda job: _condition(job, "Enriched") == "True",
            timeout_seconds=STEP_SECONDS,
            seen=self._note_steps,
        )
        self.report.live_seconds = time.monotonic() - started
        await self._find_one()

    async def _find_one(self) -> None:
        company = {"company": "acme"}
        report = self.report
        for external_id, title, archived, indexed, decision, reasons in await measures.read_all(
            self._database_url, measures.PRODUCTS, company
        ):
            report.titles[external_id] = title
            report.fates[external_id] = fate_of(
                archived=archived, indexed=indexed, decision=decision, reasons=reasons
            )
        report.findable = await find_each(self._database_url, "acme", report.titles)
        live = [title for external_id, title in report.titles.items() if report.fates[external_id] == LIVE]
        if not live:
            raise DemoError("no product of acme went live")
        title = report.asked_for = live[0]
        report.found = await asyncio.to_thread(
            find_products, self._installation.environment, company="acme", query=title
        )
        self._console.print(f"  {report.live_and_kept_out()}", highlight=False)
        self._console.print(f"  search for {title!r}: {', '.join(report.found[:3])}")

    def _note_steps(self, job: dict[str, Any]) -> None:
        steps = (job.get("status") or {}).get("steps") or {}
        line = "   ".join(f"{name} {counts.get('done', 0):>3}" for name, counts in steps.items())
        if line and line != self._last_steps:
            self._last_steps = line
            self._console.print(f"  done: {line}", highlight=False)

    async def _wrong_token(self) -> None:
        self._say("A wrong token", "A permanent error fails at once and says what to do.")
        await self._cluster.apply(
            [
                *get_connection(
                    name="typo-shopify",
                    company_id="typo",
                    provider_type="shopify",
                    base_url=f"{self._installation.shopify_url}/{SHOP}",
                    credentials={"accessToken": "shpat_mistyped"},
                ),
                get_import_job(name="typo-first", company_id="typo", provider="typo-shopify"),
            ]
        )
        final = await self._follow("typo-first", expected="Failed")
        self.report.wrong_token_message = final["status"].get("message", "")
        self._console.print(f"  {self.report.wrong_token_message}")

    async def _collect(self) -> None:
        report = self.report
        report.objects_by_phase = await self._cluster.phases()
        report.rows_by_state = {
            row[0]: row[1] for row in await measures.read_all(self._database_url, measures.STATES)
        }
        totals = (await measures.read_all(self._database_url, measures.TOTALS))[0]
        report.products, report.image_rows, report.item_errors = totals
        durations = (await measures.read_all(self._database_url, measures.DURATIONS))[0][0]
        report.job_p50_seconds, report.job_p95_seconds = (float(value) for value in durations)
        stored = await measures.stored_objects(measures.open_store(self._installation.environment))
        report.stored_images, report.stored_thumbnails, report.stored_bytes = (
            stored.images,
            stored.thumbnails,
            stored.bytes,
        )
        report.workers_at_end = await self._cluster.deployment_replicas(WORKERS)


def _pool_numbers(pool: dict[str, Any]) -> tuple[int, int, int]:
    status = pool.get("status") or {}
    return (
        int(status.get("queueDepth") or 0),
        int(status.get("desiredReplicas") or 0),
        int(status.get("readyReplicas") or 0),
    )


def _condition(item: dict[str, Any], kind: str) -> str | None:
    for condition in (item.get("status") or {}).get("conditions") or []:
        if condition["type"] == kind:
            return str(condition["status"])
    return None


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(str(value)).astimezone(UTC)


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
