"""Workers that take steps after an import: in order, once for each product, whatever happens to them."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import marking_step
import pytest
import pytest_asyncio
from marking_step import MarkingStep

from import_core.adapters.postgres.catalogue import CatalogueStore, PageWrite, ProductWrite
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.errors import (
    CredentialsError,
    DependencyUnavailableError,
    HandBackError,
    InvalidInputError,
    MissingPackageError,
    ModelNotUsableError,
    RetryableError,
    StorageRefusedError,
)
from import_core.domain.jobs import Checkpoint, JobState, Message, Progress, WaitingReason
from import_core.domain.products import MappedProduct, content_hash
from import_core.domain.steps import (
    STEPS_IN_ORDER,
    StepDone,
    StepFailed,
    StepKind,
    StepOutcome,
    StepProduct,
)
from import_worker.jobs import Outcome
from import_worker.runner import StopSignal, Worker
from import_worker.steps.base import StepBatch
from import_worker.steps.registry import StepContext

CATALOGUE = "tiny-45-2"
LISTED = 45
"""Products of the catalogue."""
PRODUCTS = 120
EMBED, CHECK, INDEX = STEPS_IN_ORDER
ALL = {"embedding": True, "qualityControl": True, "index": True}
# What dispatch would hand out; waiting for a retry's time is left out.
HAND_OVER = """
UPDATE "ProductImportJob" SET dispatch = dispatch + 1, "dispatchedAt" = now(), "notBefore" = NULL
WHERE "parentId" IS NOT NULL AND status = 'PENDING' AND "dispatchedAt" IS NULL AND suspended IS NOT TRUE
RETURNING id, dispatch, queue
"""
DONE = """SELECT count(*) FROM imports.product_step WHERE state = 'Done'"""
OPEN = """SELECT count(*) FROM imports.product_step WHERE state IN ('Due', 'Waiting')"""


@dataclass
class StepStage:
    """A stage whose step jobs are handed over as they come."""

    stage: Any
    redis: Any
    steps: dict[StepKind, MarkingStep] = field(default_factory=dict)

    async def make(self, kind: StepKind, context: StepContext) -> MarkingStep:
        return self.steps.setdefault(kind, MarkingStep(kind))

    async def hand_over(self) -> None:
        for job_id, dispatch, queue in await self.stage.rows(HAND_OVER):
            await JobQueue(self.redis, queue).add([Message(job_id, dispatch)])

    async def imported(self, job_id: str) -> None:
        """Import the catalogue, with steps to follow."""
        provider = self.stage.connect("shopify", CATALOGUE)
        await self.stage.submit(job_id, provider, enrich=ALL, images={"enabled": False})
        async with self.stage.worker():
            assert (await self.stage.finished(job_id)).state is JobState.COMPLETED

    async def recorded(self, *kinds: StepKind) -> None:
        """The same in one page, without a worker and a provider."""
        names = {EMBED: "embedding", CHECK: "qualityControl", INDEX: "index"}
        spec = {"enrich": {names[kind]: True for kind in kinds}}
        message = await self.stage.submit("job-1", "none", **spec)
        claims = ClaimStore(self.stage.database)
        claim = await claims.claim(message, worker_id="importer")
        assert claim is not None
        products = [MappedProduct(external_id=f"p-{number}", title="Tea") for number in range(PRODUCTS)]
        page = PageWrite(
            import_source="shopify",
            external_ids=[product.external_id for product in products],
            products=[ProductWrite(product, content_hash(product, ())) for product in products],
            images=[],
            errors=[],
            checkpoint=Checkpoint(None, Progress(), 1),
        )
        await CatalogueStore(self.stage.database).commit_page(claim, page)
        await claims.finish(claim, JobState.COMPLETED, reason=None, message=None)

    @asynccontextmanager
    async def worker(self, kind: StepKind, **settings: Any) -> AsyncIterator[Worker]:
        stop = StopSignal()
        values = self.stage.settings.model_copy(update={"queue": kind.value, **settings})
        worker = Worker(values, self.stage.directory, stop, make_step=self.make)
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            stop.ask()
            stop.ask()
            assert await asyncio.wait_for(task, 30) == 0

    @asynccontextmanager
    async def workers(self, *kinds: StepKind) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for kind in kinds:
                await stack.enter_async_context(self.worker(kind))
            yield

    async def until(
        self, is_so: Callable[[], Awaitable[bool]], *, seconds: float = 60, hand_over: bool = True
    ) -> None:
        """Hand over what waits until it is so."""
        async with asyncio.timeout(seconds):
            while not await is_so():
                if hand_over:
                    await self.hand_over()
                await asyncio.sleep(0.05)

    async def through(self) -> None:
        async def none_open() -> bool:
            return await self.stage.rows(OPEN) == [(0,)]

        await self.until(none_open)

    async def counted(self, worker: Worker, kind: StepKind, expected: Mapping[str, float]) -> None:
        """Wait until a worker has counted products by outcome: that comes a moment after their rows have it."""

        def counts() -> dict[str, float | None]:
            value = worker.metrics.registry.get_sample_value
            return {
                outcome: value("imports_step_products_total", {"step": kind.value, "outcome": outcome})
                for outcome in expected
            }

        async def all_told() -> bool:
            return sum(count or 0 for count in counts().values()) >= sum(expected.values())

        await self.until(all_told, hand_over=False)
        assert counts() == expected

    async def marks(self) -> dict[tuple[str, str], int]:
        rows = await self.stage.rows(
            "SELECT step, product_id, count(*) FROM marked GROUP BY step, product_id"
        )
        return {(row[0], row[1]): row[2] for row in rows}

    async def jobs(self, kind: StepKind) -> list[tuple[Any, ...]]:
        return await self.stage.rows(
            """SELECT id, status, attempt, deaths FROM "ProductImportJob" WHERE queue = %s""", kind.value
        )


@pytest_asyncio.fixture(loop_scope="session")
async def step_stage(stage: Any, redis_url: str) -> AsyncIterator[StepStage]:
    await stage.rows(marking_step.TABLE)
    redis = connect(redis_url, client_name="tests")
    yield StepStage(stage, redis)
    await redis.aclose()


async def test_every_product_takes_every_step_once_and_an_unchanged_one_none(step_stage: StepStage) -> None:
    await step_stage.imported("job-1")
    async with step_stage.workers(*STEPS_IN_ORDER):
        await step_stage.through()
        marks = await step_stage.marks()
        assert len(marks) == len(STEPS_IN_ORDER) * LISTED
        assert set(marks.values()) == {1}
        assert max(map(len, step_stage.steps[EMBED].batches)) <= 32
        assert max(map(len, step_stage.steps[CHECK].batches)) <= 10
        (one,) = await step_stage.stage.rows(
            "SELECT result FROM imports.product_step WHERE step = %s LIMIT 1", CHECK.value
        )
        assert set(one[0]) == {"title"}
    before = [await step_stage.jobs(kind) for kind in STEPS_IN_ORDER]
    assert {job[1] for jobs in before for job in jobs} == {JobState.COMPLETED}
    await step_stage.imported("job-2")
    assert [await step_stage.jobs(kind) for kind in STEPS_IN_ORDER] == before


async def test_a_worker_killed_in_the_middle_of_a_batch_leaves_every_product_to_be_taken_once(
    step_stage: StepStage, object_store: Any, tmp_path: Path
) -> None:
    await step_stage.recorded(EMBED)
    settings = step_stage.stage.settings
    for point in ("step.taken", "step.ended"):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, marking_step.__file__),
            env={
                "PATH": "",
                "DATABASE_URL": settings.database_url.get_secret_value(),
                "REDIS_URL": settings.redis_url.get_secret_value(),
                "S3_BUCKET": object_store.name,
                "S3_ENDPOINT_URL": object_store.endpoint_url,
                "AWS_ACCESS_KEY_ID": object_store.access_key_id,
                "AWS_SECRET_ACCESS_KEY": object_store.secret_access_key,
                "AWS_REGION": object_store.region,
                "IMPORT_QUEUE": EMBED.value,
                "IMPORT_CONCURRENCY": "1",
                "HEALTH_PORT": "0",
                "POD_IP": "127.0.0.1",
                "IMPORT_FAIL_POINT": point,
                "IMPORT_FAIL_POINT_MARKER": str(tmp_path / point),
            },
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await step_stage.hand_over()
        assert await asyncio.wait_for(process.wait(), 60) == -9
        workers = [row[0] for row in await step_stage.stage.rows("SELECT worker_id FROM imports.worker")]
        await ClaimStore(step_stage.stage.database).end_of_workers(workers)
        await step_stage.stage.rows("DELETE FROM imports.worker")
    # One batch: the first one of a page of 120, or the rest of it.
    assert len(await step_stage.marks()) in {32, PRODUCTS % 32}
    async with step_stage.worker(EMBED):
        await step_stage.through()
    marks = await step_stage.marks()
    assert len(marks) == PRODUCTS
    assert set(marks.values()) == {1}


class Judging(MarkingStep):
    """Fails for some products."""

    def __init__(self, kind: StepKind, judge: Callable[[StepProduct], StepOutcome]) -> None:
        super().__init__(kind)
        self.judge = judge  # type: ignore[method-assign]


class Raising(MarkingStep):
    """Fails as a whole, so often."""

    def __init__(self, kind: StepKind, *errors: Exception) -> None:
        super().__init__(kind)
        self.errors = list(errors)

    async def run(self, products: Sequence[StepProduct]) -> StepBatch:
        if self.errors:
            self.batches.append([product.product_id for product in products])
            raise self.errors.pop(0)
        return await super().run(products)


async def test_what_fails_is_dead_after_its_tries_and_the_rest_goes_on(step_stage: StepStage) -> None:
    await step_stage.recorded(EMBED)
    chosen = [
        row[0] for row in await step_stage.stage.rows("""SELECT id FROM "Product" ORDER BY id LIMIT 2""")
    ]

    def judge(product: StepProduct) -> StepOutcome:
        if product.product_id == chosen[0]:
            return StepFailed(product.product_id, "NoImage", "it has no image", retryable=False)
        if product.product_id == chosen[1]:
            return StepFailed(product.product_id, "Away", "no answer")
        return StepDone(product.product_id)

    step_stage.steps[EMBED] = step = Judging(EMBED, judge)
    async with step_stage.worker(EMBED) as worker:
        await step_stage.through()
        await step_stage.counted(worker, EMBED, {"done": PRODUCTS - 2, "retried": 3, "dead": 2})
    dead = await step_stage.stage.rows(
        "SELECT product_id, reason, attempts FROM imports.product_step WHERE state = 'Dead' ORDER BY attempts"
    )
    assert dead == [(chosen[0], "NoImage", 1), (chosen[1], "Away", 4)]
    assert sum(chosen[1] in batch for batch in step.batches) == 4
    assert len(await step_stage.marks()) == PRODUCTS - 2


async def test_a_hand_back_and_an_outage_use_no_try_up_and_a_failure_does(step_stage: StepStage) -> None:
    await step_stage.recorded(INDEX)
    step_stage.steps[INDEX] = step = Raising(
        INDEX, HandBackError("not now"), DependencyUnavailableError("it is away"), RetryableError("again")
    )
    async with step_stage.worker(INDEX, concurrency=1):
        await step_stage.through()
    assert len(step.batches) >= 4
    assert max(job[1:3] for job in await step_stage.jobs(INDEX)) == ("COMPLETED", 1)
    assert set((await step_stage.marks()).values()) == {1}
    worst = await step_stage.stage.rows("SELECT max(attempts) FROM imports.product_step")
    assert worst == [(1,)]


class Unwritable(MarkingStep):
    """What it keeps can't be written, by a defect that nobody has thought of."""

    async def run(self, products: Sequence[StepProduct]) -> StepBatch:
        async def write(connection: Connection) -> None:
            raise ZeroDivisionError

        return replace(await super().run(products), write=write)


async def test_a_batch_that_a_defect_keeps_from_ending_has_the_tries_of_steps_and_leaves_its_products_dead(
    step_stage: StepStage,
) -> None:
    await step_stage.recorded(INDEX)
    step_stage.steps[INDEX] = Unwritable(INDEX)
    waits = []
    async with step_stage.worker(INDEX):
        for tries in (1, 2, 3):
            await step_stage.hand_over()

            async def given_back(tries: int = tries) -> bool:
                return [job[1:3] for job in await step_stage.jobs(INDEX)] == [("PENDING", tries)]

            await step_stage.until(given_back, hand_over=False)
            waits += await step_stage.stage.rows(
                """SELECT extract(epoch FROM "notBefore" - "updatedAt")::float8 FROM "ProductImportJob"
                WHERE queue = %s""",
                INDEX.value,
            )
        await step_stage.through()
    assert [wait for (wait,) in waits] == [pytest.approx(seconds, rel=0.21) for seconds in (2, 4, 8)]
    assert [job[1] for job in await step_stage.jobs(INDEX)] == ["FAILED"]
    dead = await step_stage.stage.rows(
        "SELECT state, reason, count(*) FROM imports.product_step GROUP BY state, reason"
    )
    assert dead == [("Dead", "UnexpectedError", PRODUCTS)]


class Partial(MarkingStep):
    """Takes the first half of a batch and says why not the rest, until it is told to take all."""

    rest: Exception | None = None

    async def run(self, products: Sequence[StepProduct]) -> StepBatch:
        if self.rest is None:
            return await super().run(products)
        return replace(await super().run(products[: len(products) // 2]), rest=self.rest)


async def test_what_is_decided_goes_on_while_the_rest_of_its_batch_waits(step_stage: StepStage) -> None:
    await step_stage.recorded(CHECK)
    step_stage.steps[CHECK] = step = Partial(CHECK)
    later = {"retry_after": 3600.0, "waiting_reason": WaitingReason.PROVIDER_LIMIT}
    step.rest = HandBackError("the day's calls are used up", **later)
    async with step_stage.worker(CHECK) as worker:
        await step_stage.hand_over()

        async def half_is_done() -> bool:
            return await step_stage.stage.rows(DONE) == [(PRODUCTS // 2,)]

        await step_stage.until(half_is_done, hand_over=False)
        await step_stage.counted(worker, CHECK, {"postponed": PRODUCTS / 2})
        waiting = await step_stage.stage.rows(
            """SELECT DISTINCT s.attempts, j.status, j."waitingReason", j."notBefore" > now() + interval '50 minutes'
            FROM imports.product_step s JOIN "ProductImportJob" j ON j.id = s.batch_id WHERE s.state = 'Due'"""
        )
        assert waiting == [(0, "PENDING", "ProviderLimit", True)]
        step.rest = None
        await step_stage.through()
    assert set((await step_stage.marks()).values()) == {1}


async def test_a_failure_of_the_rest_of_a_batch_costs_no_other_product_a_try(step_stage: StepStage) -> None:
    await step_stage.recorded(CHECK)
    step_stage.steps[CHECK] = step = Partial(CHECK)
    step.rest = RetryableError("the model does not answer")
    async with step_stage.worker(CHECK):
        await step_stage.hand_over()

        async def half_is_done() -> bool:
            return await step_stage.stage.rows(DONE) == [(PRODUCTS // 2,)]

        await step_stage.until(half_is_done, hand_over=False)
        tries = await step_stage.stage.rows("SELECT DISTINCT state, attempts FROM imports.product_step")
        assert sorted(tries) == [("Done", 0), ("Due", 1)]
        step.rest = None
        await step_stage.through()
    assert set((await step_stage.marks()).values()) == {1}


async def test_a_mistake_of_the_setup_kills_no_product(step_stage: StepStage) -> None:
    await step_stage.recorded(INDEX)
    step_stage.steps[INDEX] = step = Raising(
        *(INDEX, CredentialsError("check the key"), ModelNotUsableError(), StorageRefusedError()),
        *(InvalidInputError("SETTING", "is odd"), MissingPackageError("it lacks a package")),
    )
    async with step_stage.worker(INDEX, concurrency=1) as worker:
        await step_stage.through()
        held = worker.metrics.registry.get_sample_value(
            "imports_step_products_total", {"step": INDEX.value, "outcome": "held"}
        )
    assert step.errors == []
    assert held == 5 * PRODUCTS
    assert set((await step_stage.marks()).values()) == {1}
    assert await step_stage.stage.rows("SELECT DISTINCT state, attempts FROM imports.product_step") == [
        ("Done", 0)
    ]


async def test_a_batch_that_takes_too_long_is_tried_again(step_stage: StepStage) -> None:
    await step_stage.recorded(INDEX)
    step_stage.steps[INDEX] = step = MarkingStep(INDEX)
    step.hold.clear()

    async def timed_out() -> bool:
        rows = await step_stage.stage.rows("SELECT DISTINCT reason FROM imports.product_step")
        return ("Timeout",) in rows

    async with step_stage.worker(INDEX, step_timeout_seconds=0.05):
        await step_stage.until(timed_out)
        step.hold.set()
        await step_stage.through()
    assert set((await step_stage.marks()).values()) == {1}


async def test_a_stopping_worker_hands_its_batch_back(step_stage: StepStage) -> None:
    await step_stage.recorded(EMBED)
    step_stage.steps[EMBED] = step = MarkingStep(EMBED)
    step.hold.clear()
    async with step_stage.worker(EMBED, stop_seconds=0, concurrency=1):
        await step_stage.hand_over()
        await asyncio.wait_for(step.started.wait(), 30)
    assert {job[1:] for job in await step_stage.jobs(EMBED)} == {("PENDING", 0, 0)}
    assert await step_stage.marks() == {}
    assert await step_stage.stage.rows("SELECT max(attempts) FROM imports.product_step") == [(0,)]


async def test_cancelling_the_import_takes_a_batch_from_its_worker(step_stage: StepStage) -> None:
    await step_stage.recorded(EMBED)
    step_stage.steps[EMBED] = step = MarkingStep(EMBED)
    step.hold.clear()
    async with step_stage.worker(EMBED) as worker:
        await step_stage.hand_over()
        await asyncio.wait_for(step.started.wait(), 30)
        assert await step_stage.stage.jobs.cancel(["job-1"], message="deleted") == ["job-1"]

        async def lost() -> bool:
            labels = {"outcome": Outcome.LOST.value, "provider": EMBED.value, "tier": "BASIC"}
            return bool(worker.metrics.registry.get_sample_value("imports_jobs_total", labels))

        await step_stage.until(lost)
    assert await step_stage.marks() == {}
    assert await step_stage.stage.rows("SELECT DISTINCT state FROM imports.product_step") == [("Cancelled",)]


@pytest.mark.parametrize("kind", STEPS_IN_ORDER)
def test_the_kinds_of_this_version_can_be_made(kind: StepKind) -> None:
    from importlib import import_module

    from import_worker.steps.registry import MODULES

    name = MODULES.get(kind)
    assert name is None or callable(import_module(name).make_step)
