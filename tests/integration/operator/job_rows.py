"""The rows of jobs as the state machine test sees them: read at once, beside what the model expects."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeVar

from hypothesis.stateful import RuleBasedStateMachine
from job_model import ModelJob

from import_core.adapters.postgres.catalogue import ItemErrorWrite, PageWrite, ProductWrite
from import_core.adapters.postgres.pool import Connection, Database
from import_core.domain.jobs import Checkpoint
from import_core.domain.products import MappedProduct

RUN_OUT = "clock_timestamp() - interval '1 second'"

# Row versions (xmin) are compared too: a write that changes nothing to be seen is a write all the same.
SNAPSHOT = """
SELECT j.id, j.status, j.generation, coalesce(j.suspended, false), j.attempt, j.deaths, j.dispatch,
    j."dispatchedAt" IS NOT NULL, coalesce(j."notBefore" > clock_timestamp(), false), j."failureReason",
    j."retryToken", j."itemsRetryToken", coalesce(j."itemsOnly", false), j."confirmedRemovals",
    coalesce(c.pages, 0),
    ARRAY(SELECT e.external_id FROM imports.item_error e WHERE e.job_id = j.id ORDER BY 1),
    k.claim_id::text, k.worker_id, k.expires_at < clock_timestamp(), k.suspected,
    (SELECT count(*) FROM imports.claim k2 WHERE k2.job_id = j.id), j.xmin::text, c.xmin::text
FROM "ProductImportJob" j
LEFT JOIN imports.checkpoint c ON c.job_id = j.id LEFT JOIN imports.claim k ON k.job_id = j.id
"""
EMPTY = """
DELETE FROM imports.claim; DELETE FROM imports.checkpoint; DELETE FROM imports.item_error;
DELETE FROM "Product"; DELETE FROM "ProductImportJob"
"""
FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED"})

Result = TypeVar("Result")
Snapshot = dict[str, tuple[Any, ...]]


class OneConnection(Database):
    """The pool's place taken by one connection: a step costs its statements and nothing else."""

    only: Connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield self.only


def shown(job: ModelJob) -> tuple[Any, ...]:
    """The columns of SNAPSHOT as the model has them, without the row versions."""
    claim = job.claim
    return (
        job.job_id,
        job.state,
        job.generation,
        job.suspended,
        job.attempt,
        job.deaths,
        job.dispatch,
        job.handed_over,
        job.waits,
        job.reason,
        job.retry_token,
        job.items_token,
        job.items_only,
        job.confirmed,
        job.pages,
        sorted(job.errors),
        claim and claim.claim_id,
        claim and claim.worker,
        claim and claim.expired,
        claim and claim.alone,
        0 if claim is None else 1,
    )


def page_of(number: int, good: Sequence[str], bad: Sequence[str]) -> PageWrite:
    """A page with these products and these failures."""
    return PageWrite(
        "shopify",
        [*good, *bad],
        [ProductWrite(MappedProduct(external_id=i, title=i), f"hash-{number}") for i in good],
        [],
        [ItemErrorWrite(i, "map", "Invalid", "wrong") for i in bad],
        Checkpoint(cursor={"page": number}, pages=number),
    )


class JobTables(RuleBasedStateMachine):
    """A state machine on a database: statements, and a count of what has happened."""

    database: ClassVar[OneConnection]
    loop: ClassVar[asyncio.AbstractEventLoop]
    steps: ClassVar[int] = 0
    seen: ClassVar[Counter[str]] = Counter()

    def wait(self, work: Awaitable[Result]) -> Result:
        return self.loop.run_until_complete(work)

    def execute(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async def run() -> list[tuple[Any, ...]]:
            cursor = await self.database.only.execute(statement, parameters or None)
            return await cursor.fetchall() if cursor.description else []

        return self.wait(run())

    def snapshot(self) -> Snapshot:
        return {row[0]: row for row in self.execute(SNAPSHOT)}

    def note(self, what: str) -> None:
        type(self).seen[what] += 1

    def picked(self, things: Sequence[Result], index: int) -> Result:
        return things[-1 - index % len(things)]
