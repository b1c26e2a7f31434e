"""Steps after an import through the operator: shown in its object, held and ended with it, handed to their pool."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml
from eventually import eventually
from lightkube.config.kubeconfig import KubeConfig
from operator_world import Cluster, Operators, TakingWorker
from schedule_world import LATER, TWO, Scheduler

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_SCHEDULE
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import CatalogueStore, PageWrite, ProductWrite
from import_core.adapters.redis.queue import JobQueue
from import_core.domain.jobs import Checkpoint, Claim, Progress
from import_core.domain.products import MappedProduct, content_hash
from import_core.domain.steps import StepKind

ROOT = Path(__file__).parents[3]
QUEUE = StepKind.INDEX.value


async def import_one_product(cluster: Cluster, worker: TakingWorker, database: Database) -> Claim:
    """An import that has ended, and left one product to be indexed."""
    await cluster.provider()
    await cluster.pool()
    await cluster.job("autumn", enrich={"index": True})
    return await commit_one_product(worker, database)


async def commit_one_product(worker: TakingWorker, database: Database) -> Claim:
    """Do the import that is due next: a catalogue of one product."""
    claim = await worker.take()
    product = MappedProduct(external_id="1", title="Tea")
    page = PageWrite(
        *("shopify", ["1"], [ProductWrite(product, content_hash(product, ()))], [], []),
        checkpoint=Checkpoint(None, Progress(1, 1), 1),
    )
    await CatalogueStore(database).commit_page(claim, page)
    await worker.finish(claim)
    return claim


def of_steps(database: Database, column: str) -> Callable[[], Awaitable[Any]]:
    async def read() -> Any:
        async with database.connection() as connection:
            cursor = await connection.execute(
                f"""SELECT {column} FROM "ProductImportJob" WHERE queue = %s""", (QUEUE,)
            )
            return await cursor.fetchall()

    return read


async def test_steps_are_shown_held_and_ended_with_their_finished_import(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    await operators.leading()
    await import_one_product(cluster, worker, database)
    await cluster.phase("autumn", "Succeeded")
    condition = await cluster.condition(IMPORT_JOB, "autumn", "Enriched", "False")
    assert condition["reason"] == "StepsDue"
    status = await cluster.status("autumn", IMPORT_JOB)
    assert status["steps"]["index"]["due"] == 1

    suspended = of_steps(database, "suspended IS TRUE")
    for wish in (True, False):
        await cluster.kubectl(
            *("patch", IMPORT_JOB.plural, "autumn", "--type=merge", "-p"),
            json.dumps({"spec": {"suspend": wish}}),
        )

        async def held(wish: bool = wish) -> bool:
            return bool(await suspended() == [(wish,)])

        await eventually(held, what=f"its steps suspended: {wish}")

    await cluster.kubectl("delete", IMPORT_JOB.plural, "autumn")

    async def cancelled() -> bool:
        return bool(await of_steps(database, "status")() == [("CANCELLED",)])

    await eventually(cancelled, what="its steps cancelled")


async def test_step_jobs_are_handed_to_their_own_queue(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database, queue: JobQueue
) -> None:
    await operators.leading()
    await import_one_product(cluster, worker, database)
    await cluster.pool("indexers", queue=QUEUE)
    dispatched = of_steps(database, """"dispatchedAt" IS NOT NULL""")

    async def handed_over() -> bool:
        return bool(await dispatched() == [(True,)])

    await eventually(handed_over, what="the step job handed over")


async def test_a_schedule_that_asks_for_steps_has_its_products_take_them(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database: Database
) -> None:
    body = yaml.safe_load((ROOT / "deploy/samples/importschedule-sync.yaml").read_text())
    await operators.leading(EMBEDDING_MODEL_PATH="/models/siglip")
    await cluster.provider()
    await cluster.pool()
    await cluster.create(IMPORT_SCHEDULE, body["metadata"]["name"], body["spec"])
    async with KubeClient(KubeConfig.from_file(cluster.operator_kubeconfig)) as kube:
        scheduler = Scheduler(cluster, kube)
        await scheduler.at(TWO + LATER)
        (name,) = await scheduler.jobs()
    await commit_one_product(worker, database)
    assert (await cluster.phase(name, "Succeeded"))["steps"]["embedding"]["due"] == 1
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT step, state FROM imports.product_step")
        steps = {StepKind(step): state for step, state in await cursor.fetchall()}
    assert steps == {
        StepKind.EMBEDDING: "Due",
        StepKind.QUALITY_CONTROL: "Waiting",
        StepKind.INDEX: "Waiting",
    }
