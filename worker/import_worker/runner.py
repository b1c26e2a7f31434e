"""One worker process: opens its connections, runs until told to stop, and stops without losing work."""

from __future__ import annotations

import asyncio
import importlib
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import structlog
from redis.asyncio import Redis

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import CatalogueStore
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.draining import DrainStore
from import_core.adapters.postgres.life import LifeSign
from import_core.adapters.postgres.reimports import ReimportStore
from import_core.adapters.postgres.removals import RemovalStore
from import_core.adapters.postgres.steps import StepStore
from import_core.adapters.postgres.workers import WorkerProcess, WorkerStore
from import_core.adapters.redis.limiter import declare_no_recent_calls
from import_core.adapters.redis.queue import connect, ping
from import_core.adapters.s3.store import ObjectStore
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.steps import StepKind
from import_core.observability.health import HealthServer
from import_core.observability.metrics import WorkerMetrics
from import_core.observability.presence import NeighbourWatch
from import_core.observability.process_metrics import measure_lag
from import_worker.breakers import Breakers
from import_worker.browsing.browser import ChromiumBrowser
from import_worker.checks import ProviderChecks
from import_worker.connections import ConnectionOpener, ProviderDirectory
from import_worker.consumer import QueueConsumer
from import_worker.draining import DrainKeeper
from import_worker.hints import heed_hints
from import_worker.importing import CatalogueImporter
from import_worker.jobs import Importer, JobRunner
from import_worker.leases import LeaseKeeper
from import_worker.pipeline.download import ImageDownloader
from import_worker.pipeline.images import ImageImporter
from import_worker.pipeline.thumbnails import Thumbnailer
from import_worker.progress import ProgressNotifier
from import_worker.settings import WorkerSettings
from import_worker.steps.base import Step
from import_worker.steps.importing import StepImporter
from import_worker.steps.registry import StepContext, make_step, step_kind
from import_worker.supervision import SideTasks

log = structlog.get_logger(__name__)

START_WAIT_SECONDS = 30.0
HAND_BACK_SECONDS = 12.0
"""Handing back is a statement a job; what is not done by then is freed by the end of its lease."""
FAREWELL_SECONDS = 3.0
"""For each last word to the database; grace time, hand-back and these together stay within the pod's 60 s."""
SEEN_EVERY_SECONDS = 15.0
SPARE_CONNECTIONS = 4
"""Database connections beside one for each job: leases, progress, checks, registration."""


class StopSignal:
    """How urgently the worker is to stop: not, after its jobs' grace time, or now."""

    def __init__(self) -> None:
        self.gracefully = asyncio.Event()
        self.now = asyncio.Event()

    def ask(self) -> None:
        """SIGTERM or SIGINT: the first asks, the second hurries."""
        if self.gracefully.is_set():
            self.now.set()
        self.gracefully.set()


class Worker:
    """One worker process. `directory` is where ImportProviders and Secrets are read.

    `make_step` makes what a worker of a queue of steps runs.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        directory: ProviderDirectory,
        stop: StopSignal,
        *,
        make_step: Callable[[StepKind, StepContext], Awaitable[Step]] = make_step,
    ) -> None:
        self._make_step = make_step
        self._started_at = datetime.now(UTC)
        self.worker_id = uuid.uuid4().hex
        self.metrics = WorkerMetrics()
        self._settings = settings
        self._directory = directory
        self._stop = stop
        self._side = SideTasks()
        self._state = "starting"
        self._database = Database(
            settings.database_url.get_secret_value(),
            direct_url=settings.direct_url(),
            application=f"import-worker {settings.pod_name}"[:63],
            maximum=settings.concurrency + SPARE_CONNECTIONS,
        )
        self.health: HealthServer | None = None

    async def run(self) -> int:
        """Work until stopped; returns the process's exit code: 0, or 1 when a side task died."""
        structlog.contextvars.bind_contextvars(workerId=self.worker_id)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._database.close)
            await self._database.open(wait_seconds=START_WAIT_SECONDS)
            consumer, runner, notifier, drains = await self._build(stack)
            workers = WorkerStore(self._database)
            await self._register(workers)
            # A process that starts in a pod which was asked to drain takes nothing from its first moment.
            await drains.prepare()
            consuming = asyncio.create_task(consumer.run(), name="consumer")
            self._side.start("webhooks", self._send_webhooks())
            stack.push_async_callback(consumer.close)
            self._state = "ready"
            log.info("worker.ready", queue=self._settings.queue, concurrency=self._settings.concurrency)
            exit_code = await self._until_stop(consuming)
            await drains.close()
            await self._drain(consumer, runner, consuming, urgent=exit_code != 0)
            await self._say_farewell(notifier, workers)
            await self._side.close()
        log.info("worker.stopped", exitCode=exit_code)
        return exit_code

    async def _build(
        self, stack: AsyncExitStack
    ) -> tuple[QueueConsumer, JobRunner, ProgressNotifier, DrainKeeper]:
        settings = self._settings
        redis = connect(settings.redis_url.get_secret_value(), client_name="import-worker")
        stack.push_async_callback(redis.aclose)
        store = ObjectStore(
            settings.s3_bucket,
            endpoint_url=settings.s3_endpoint_url,
            region=settings.aws_region,
            keys=settings.store_keys,
        )
        if await WorkerStore(self._database).nothing_ever_ran():
            await declare_no_recent_calls(redis)
        browser = ChromiumBrowser(settings.chromium_path, is_sandboxed=settings.chromium_sandbox)
        stack.push_async_callback(browser.aclose)
        connections = ConnectionOpener(
            self._directory,
            redis,
            namespace=settings.pod_namespace,
            breakers=Breakers(self._database, self.metrics),
            wait_seconds=settings.provider_wait_seconds,
            clock_scale=settings.limiter_clock_scale,
            allow=settings.allowed_providers,
            browser=browser,
        )
        notifier = ProgressNotifier(self._database)
        claims = ClaimStore(self._database, template_hash=settings.template_hash or None)
        leases = LeaseKeeper(claims, self.metrics, on_news=notifier.changed)
        runner = JobRunner(
            worker_id=self.worker_id,
            claims=claims,
            leases=leases,
            notifier=notifier,
            importer=await self._importer(stack, connections, store, redis),
            metrics=self.metrics,
        )
        consumer = QueueConsumer(
            settings.redis_url.get_secret_value(),
            queue=settings.queue,
            concurrency=settings.concurrency,
            handle=runner.handle,
            metrics=self.metrics,
        )
        self.metrics.concurrency.set(settings.concurrency)
        self.metrics.queue_info.labels(settings.queue).set(1)
        drains = DrainKeeper(
            DrainStore(self._database), consumer, worker_id=self.worker_id, pod_uid=settings.pod_uid
        )
        self._start_side_tasks(stack, leases, notifier, connections, redis, drains=drains)
        return consumer, runner, notifier, drains

    async def _importer(
        self, stack: AsyncExitStack, connections: ConnectionOpener, store: ObjectStore, redis: Redis
    ) -> Importer:
        """What the queue's jobs are: catalogues, or batches of a step after the import."""
        settings, kind = self._settings, step_kind(self._settings.queue)
        if kind is not None:
            step = await self._make_step(
                kind,
                StepContext(settings, self._database, store, redis, connections.breakers, self.metrics),
            )
            stack.push_async_callback(step.aclose)
            return StepImporter(
                step,
                StepStore(self._database, sizes=settings.batch_sizes),
                self.metrics,
                timeout_seconds=settings.step_timeout_seconds,
            )
        downloader = ImageDownloader(allow=settings.allowed_networks)
        stack.push_async_callback(downloader.aclose)
        thumbnailer = Thumbnailer(threads=settings.thumbnail_threads)
        stack.push_async_callback(asyncio.to_thread, thumbnailer.close)
        return CatalogueImporter(
            connections=connections,
            catalogue=CatalogueStore(self._database, batch_sizes=settings.batch_sizes),
            removals=RemovalStore(self._database, batch_sizes=settings.batch_sizes),
            reimports=ReimportStore(self._database),
            images=ImageImporter(downloader, thumbnailer, store, concurrency=settings.image_concurrency),
            metrics=self.metrics,
            max_products=settings.max_products,
            longest_seconds=settings.job_timeout,
        )

    def _start_side_tasks(
        self,
        stack: AsyncExitStack,
        leases: LeaseKeeper,
        notifier: ProgressNotifier,
        connections: ConnectionOpener,
        redis: Redis,
        *,
        drains: DrainKeeper,
    ) -> None:
        life = LifeSign(self._database)
        stack.push_async_callback(life.close)
        stack.push_async_callback(self._side.close)
        neighbours = NeighbourWatch(
            {"PostgreSQL": life.ask, "Redis": lambda: ping(redis)}, show=self.metrics.process.show_neighbour
        )
        self.health = HealthServer(
            self._settings.pod_ip,
            self._settings.health_port,
            registry=self.metrics.registry,
            not_ready=lambda: (
                neighbours.why_not_ready() or drains.why_not_ready()
                if self._state == "ready"
                else self._state
            ),
        )
        self._side.start("health", self.health.run())
        self._side.start("neighbours", neighbours.run())
        self._side.start("leases", leases.run())
        self._side.start("hints", heed_hints(self._database, leases, drains))
        self._side.start("draining", drains.run())
        self._side.start("breakers", connections.breakers.run())
        self._side.start("progress", notifier.run())
        if step_kind(self._settings.queue) is None:
            self._side.start("checks", ProviderChecks(self._database, connections, self.metrics).run())
        self._side.start("event-loop-lag", measure_lag(self.metrics.process.event_loop_lag))
        self._side.start("presence", self._tell_presence(drains))

    async def _send_webhooks(self) -> None:
        # A job's first page needs none of these, so it does not wait for their imports.
        await asyncio.to_thread(importlib.import_module, "import_worker.webhook_sender")
        from import_core.adapters.postgres.notifications_outbox import NotificationOutbox
        from import_worker.webhook_sender import WebhookSender
        from import_worker.webhooks import WebhookClient

        namespace = self._settings.pod_namespace
        client = WebhookClient(self._settings.allowed_webhooks)
        outbox = NotificationOutbox(self._database, namespace=namespace)
        try:
            await WebhookSender(outbox, client, self._directory, self.metrics, namespace=namespace).run()
        finally:
            await client.aclose()

    async def _until_stop(self, consuming: asyncio.Task[None]) -> int:
        """Wait for a reason to stop; returns the exit code that goes with it."""
        stop = asyncio.create_task(self._stop.gracefully.wait())
        died = asyncio.create_task(self._side.died.wait())
        await asyncio.wait({stop, died, consuming}, return_when=asyncio.FIRST_COMPLETED)
        failed = died.done() or consuming.done()
        if consuming.done():
            error = None if consuming.cancelled() else consuming.exception()
            log.error("consumer.died", exc_info=error)
        for task in (stop, died):
            task.cancel()
        return 1 if failed else 0

    async def _drain(
        self, consumer: QueueConsumer, runner: JobRunner, consuming: asyncio.Task[None], *, urgent: bool
    ) -> None:
        """Let running jobs finish for a time, then hand the rest back with their checkpoints."""
        self._state = "stopping"
        grace = 0.0 if urgent else self._settings.stop_seconds
        log.info("worker.stopping", grace=grace)
        runner.stop()
        consumer.stop()
        hurry = asyncio.create_task(self._stop.now.wait())
        await asyncio.wait({consuming, hurry}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not consuming.done():
            log.info("worker.handing_back")
            runner.hand_back()
            await asyncio.wait({consuming}, timeout=HAND_BACK_SECONDS)
        if not consuming.done():
            log.warning("worker.jobs_left_to_their_leases")
            consuming.cancel()

    async def _register(self, workers: WorkerStore) -> None:
        settings = self._settings
        await workers.register(
            WorkerProcess(
                self.worker_id,
                settings.queue,
                settings.pod_namespace,
                settings.pod_name,
                settings.pod_uid,
                settings.concurrency,
                self._started_at,
            )
        )

    async def _tell_presence(self, drains: DrainKeeper) -> None:
        workers = WorkerStore(self._database)
        while True:
            await asyncio.sleep(SEEN_EVERY_SECONDS)
            try:
                state = drains.state if self._state == "ready" else None
                await workers.seen(self.worker_id, state=state or self._state)
            except DatabaseUnavailableError as error:
                log.warning("worker.presence_not_told", detail=error.message)

    async def _say_farewell(self, notifier: ProgressNotifier, workers: WorkerStore) -> None:
        """Tell of the last changes and leave the list of workers; without it both are found out later."""
        for last_word in (notifier.flush, lambda: workers.remove([self.worker_id])):
            try:
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await last_word()
            except (DatabaseUnavailableError, TimeoutError) as error:
                log.warning("worker.left_in_silence", detail=str(error) or "timeout")
