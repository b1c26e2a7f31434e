"""Whose steps go first: those of the higher tier, however long others have waited; PostgreSQL and Valkey are real."""

from collections.abc import Awaitable, Callable

from operator_world import TakingWorker

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import CatalogueStore, PageWrite, ProductWrite
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.redis.queue import JobQueue, connect
from import_core.domain.jobs import DEFAULT_QUEUE, Checkpoint, JobRequest, JobState, Message, Progress
from import_core.domain.products import MappedProduct, content_hash
from import_core.domain.steps import StepKind
from import_operator.loops.dispatch import Capacity, DispatchLoop
from import_operator.state import OperatorState

STEP = StepKind.QUALITY_CONTROL.value
HANDED_OVER = """
SELECT id, "companyId", dispatch FROM "ProductImportJob"
WHERE queue = %s AND status = 'PENDING' AND "dispatchedAt" IS NOT NULL
"""


async def test_a_premium_sellers_steps_pass_those_that_have_waited_longer(
    database: Database, redis_url: str, worker: TakingWorker
) -> None:
    async with database.connection() as connection:
        await connection.execute("""INSERT INTO "Company" (id, tier) VALUES ('premium', 'ENTERPRISE')""")
    client = connect(redis_url, client_name="dispatcher")

    async def hand_over() -> None:
        # A new one each time: it has measured no starts, so its window has room for one job.
        await DispatchLoop(
            OperatorState("imports"),
            DispatchStore(database),
            queue=lambda name: JobQueue(client, name),
            capacities=lambda: {DEFAULT_QUEUE: Capacity(1), STEP: Capacity(1)},
        ).round()

    # The first step takes the only place, so the others wait in PostgreSQL. Fair shares would take turns, acme's first.
    for company, product in (
        ("other", "1"),
        ("acme", "1"),
        ("premium", "1"),
        ("premium", "2"),
        ("premium", "3"),
    ):
        await import_one(database, hand_over, worker, company, product)
    companies = []
    for _ in range(5):
        await hand_over()
        async with database.connection() as connection:
            cursor = await connection.execute(HANDED_OVER, (STEP,))
            ((job_id, company, dispatch),) = await cursor.fetchall()
        companies.append(company)
        claim = await worker.claims.claim(
            Message(job_id, dispatch), worker_id=worker.worker_id, lease_seconds=60.0
        )
        assert claim is not None
        await worker.claims.finish(claim, JobState.COMPLETED, reason=None, message=None)
    assert companies == ["other", "premium", "premium", "premium", "acme"]
    await client.aclose()


async def import_one(
    database: Database,
    hand_over: Callable[[], Awaitable[None]],
    worker: TakingWorker,
    company: str,
    product: str,
) -> None:
    """An import of one product that asks for its quality control, done."""
    request = JobRequest(
        id=f"{company}-{product}",
        company_id=company,
        provider=f"{company}-shopify",
        namespace="imports",
        spec={"enrich": {"qualityControl": True}},
    )
    await JobStore(database).record([request])
    await hand_over()
    claim = await worker.take()
    mapped = MappedProduct(external_id=product, title="Tea")
    page = PageWrite(
        *("shopify", [product], [ProductWrite(mapped, content_hash(mapped, ()))], [], []),
        checkpoint=Checkpoint(None, Progress(1, 1), 1),
    )
    await CatalogueStore(database).commit_page(claim, page)
    await worker.finish(claim)
