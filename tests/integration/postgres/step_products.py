"""Products of an ImportJob with their steps, as the tests of this folder make, take and read them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from postgres_rows import execute

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import CatalogueStore, ImageWrite, PageWrite, ProductWrite
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.postgres.steps import StepStore
from import_core.domain.jobs import Checkpoint, Claim, JobState, Message, Progress
from import_core.domain.products import MappedProduct, content_hash
from import_core.domain.steps import STEPS_IN_ORDER, StepDone, StepKind, StepOutcome, end_batch

EMBED, CHECK, INDEX = STEPS_IN_ORDER
ALL = {"embedding": True, "qualityControl": True, "index": True}
SIZES = {EMBED: 2, CHECK: 2, INDEX: 10}


def page(*names: str, title: str = "Tea", images: Sequence[ImageWrite] = ()) -> PageWrite:
    products = [MappedProduct(external_id=name, title=title) for name in names]
    return PageWrite(
        import_source="shopify",
        external_ids=list(names),
        products=[ProductWrite(product, content_hash(product, ())) for product in products],
        images=images,
        errors=[],
        checkpoint=Checkpoint(None, Progress(), 1),
    )


def image(name: str, sha256: str) -> ImageWrite:
    return ImageWrite(
        *(name, 0, "https://x/1.jpg", "alt", None, None, f"images/acme/{sha256}.jpg", sha256),
        *("image/jpeg", 10, 20, 300, {}),
    )


async def importing(database: Database, claimed: Any, job_id: str = "job-1", **enrich: bool) -> Claim:
    spec = {"companyId": "acme", "providerRef": {"name": "acme-shopify"}, "enrich": enrich or ALL}
    claim: Claim = await claimed(job_id, spec=spec)
    return claim


async def commit(database: Database, claim: Claim, write: PageWrite) -> None:
    await CatalogueStore(database, batch_sizes=SIZES).commit_page(claim, write)


async def states(database: Database) -> dict[tuple[str, str], str]:
    """State by product's external id and step."""
    rows = await execute(
        database,
        """SELECT p."externalId", s.step, s.state FROM imports.product_step s
        JOIN "Product" p ON p.id = s.product_id""",
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def waiting(database: Database, kind: StepKind) -> list[str]:
    rows = await execute(
        database,
        """SELECT id FROM "ProductImportJob" WHERE queue = %s AND status = 'PENDING' ORDER BY "createdAt", id""",
        (kind.value,),
    )
    return [row[0] for row in rows]


async def claim_batch(database: Database, job_id: str) -> Claim:
    (row,) = await execute(
        database,
        """UPDATE "ProductImportJob" SET dispatch = dispatch + 1, "dispatchedAt" = now(), "notBefore" = NULL
        WHERE id = %s RETURNING dispatch""",
        (job_id,),
    )
    claim = await ClaimStore(database).claim(Message(job_id, row[0]), worker_id="worker-1")
    assert claim is not None
    return claim


Judge = Callable[[str], StepOutcome]


async def take(
    database: Database,
    kind: StepKind,
    judge: Judge = StepDone,
    *,
    write: Callable[[Connection], Any] | None = None,
    sizes: Mapping[StepKind, int] = SIZES,
) -> list[JobState | None]:
    """Run every waiting batch of a kind once; returns how their jobs ended."""
    store, ended = StepStore(database, sizes=sizes), []
    for job_id in await waiting(database, kind):
        claim = await claim_batch(database, job_id)
        batch = await store.read(job_id, kind)
        end = end_batch(batch.rows, [judge(row.product_id) for row in batch.rows], spread=0.5)
        ended.append((await store.end(claim, batch, end, write=write)).state)
    return ended
