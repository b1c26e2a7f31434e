"""A step for tests, which writes one row for each product it was done for; as a script, a worker that runs it."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

from import_core.adapters.postgres.pool import Connection
from import_core.domain.steps import StepDone, StepKind, StepOutcome, StepProduct
from import_worker.steps.base import StepBatch
from import_worker.steps.registry import StepContext

# No key: a product that was done twice has two rows.
TABLE = "CREATE TABLE IF NOT EXISTS marked (step text, product_id text, content_hash text)"
MARK = "INSERT INTO marked SELECT %s, p, h FROM unnest(%s::text[], %s::text[]) AS t (p, h)"


class MarkingStep:
    """Done for every product, unless a test replaces `judge`; `hold` is waited for before."""

    def __init__(self, kind: StepKind) -> None:
        self.kind = kind
        self.hold = asyncio.Event()
        self.hold.set()
        self.started = asyncio.Event()
        self.batches: list[list[str]] = []

    def judge(self, product: StepProduct) -> StepOutcome:
        return StepDone(product.product_id, {"title": product.title})

    async def run(self, products: Sequence[StepProduct]) -> StepBatch:
        self.batches.append([product.product_id for product in products])
        self.started.set()
        await self.hold.wait()
        outcomes = [self.judge(product) for product in products]
        done = {outcome.product_id for outcome in outcomes if isinstance(outcome, StepDone)}
        kept = [product for product in products if product.product_id in done]

        async def write(connection: Connection) -> None:
            values = [product.product_id for product in kept], [product.content_hash for product in kept]
            await connection.execute(MARK, (self.kind.value, *values))

        return StepBatch(outcomes, write)

    async def aclose(self) -> None:
        self.hold.set()


async def make_marking_step(kind: StepKind, context: StepContext) -> MarkingStep:
    return MarkingStep(kind)


async def main() -> int:
    from import_core.fail_points import STEP_POINTS, arm_fail_point
    from import_worker.runner import StopSignal, Worker
    from import_worker.settings import WorkerSettings

    directory: Any = None
    arm_fail_point(STEP_POINTS, os.environ)
    return await Worker(WorkerSettings(), directory, StopSignal(), make_step=make_marking_step).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
