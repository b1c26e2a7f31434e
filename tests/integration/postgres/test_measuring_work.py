"""The operator's measure of a queue's work: rate, sizes, and what is held up, from a real database."""

import json
from typing import Any

import pytest
from postgres_rows import execute

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.jobs import Depth
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.postgres.work import WorkStore
from import_core.domain.drain_time import SizeClass, Work
from import_core.domain.errors import DatabaseUnavailableError
from import_operator.measuring_work import KEPT_SECONDS, WorkMeasure
from import_operator.state import OperatorState

QUEUE = "product-imports"
DONE = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, namespace, status, dispatch, "startedAt", "completedAt")
SELECT 'done-' || n, 'acme', 'acme-shopify', 'imports', 'COMPLETED', 2, now() - interval '90 seconds',
    now() - interval '50 seconds'
FROM generate_series(1, 5) n
"""
CHECKPOINTS = """
INSERT INTO imports.checkpoint (job_id, version, progress, pages)
SELECT 'done-' || n, 1, %s, 2 FROM generate_series(1, 5) n
"""
WAITING = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, namespace)
SELECT 'waits-' || n, 'acme', 'acme-shopify', 'imports' FROM generate_series(1, 10) n
"""
ALL = SizeClass(10, 4000.0)


class Bench:
    """A measure on one database, asked once a second or later."""

    def __init__(self, database: Database) -> None:
        self.state = OperatorState("imports")
        self.breakers, self.queues = BreakerStore(database), QueueStateStore(database)
        self.measure = WorkMeasure(self.state, WorkStore(database), self.breakers, self.queues)
        self.now = 0.0

    async def look(self, *, after: float = 1.0, due: int = 10) -> Work | None:
        self.now += after
        return await self.measure.look(QUEUE, Depth(due, 0, 0), drain_seconds=60.0, now=self.now)

    def provider(self, **spec: Any) -> None:
        metadata = {"name": "acme-shopify", "uid": "p", "resourceVersion": "1"}
        self.state.providers.put({"metadata": metadata, "spec": {"type": "shopify", **spec}})


@pytest.fixture
async def bench(database: Database) -> Bench:
    counters = {"products_total": 100, "products_imported": 100, "images_total": 300, "images_imported": 300}
    await execute(database, DONE)
    await execute(database, CHECKPOINTS, (json.dumps(counters),))
    await execute(database, WAITING)
    return Bench(database)


async def test_rate_and_sizes_are_known_at_the_first_look(bench: Bench) -> None:
    assert await bench.look() == Work((ALL,), rate=pytest.approx(10.0))


async def test_a_limit_lets_through_what_pages_bring(bench: Bench) -> None:
    bench.provider(rateLimit={"requests": 6, "perSeconds": 60})
    work = await bench.look()
    assert work is not None
    (limited,) = work.limited
    assert (limited.waiting, limited.units_per_second) == ((ALL,), pytest.approx(0.1 * 200))


async def test_an_open_breaker_and_a_pause_let_nothing_through(bench: Bench) -> None:
    async def held() -> float | None:
        work = await bench.look()
        assert work is not None
        return work.limited[0].units_per_second if work.limited else None

    bench.provider(rateLimit={"requests": 100_000})
    assert await held() is None
    await bench.breakers.open_by_hand("imports", "acme-shopify", by="ann", reason=None)
    assert await held() == 0.0
    await bench.breakers.reset("imports", "acme-shopify")
    assert await held() is None
    for scope, name, namespace in (("company", "acme", ""), ("provider", "acme-shopify", "imports")):
        await bench.queues.pause(scope, name, namespace=namespace, reason=None, changed_by="ann")  # type: ignore[arg-type]
        assert await held() == 0.0
        await bench.queues.resume(scope, name, namespace=namespace)  # type: ignore[arg-type]
    assert await held() is None


async def test_work_that_can_t_be_counted_is_the_last_one_for_a_while_and_then_unknown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = await bench.look()

    async def away(*_: Any, **__: Any) -> None:
        raise DatabaseUnavailableError("away")

    monkeypatch.setattr(WorkStore, "look", away)
    assert await bench.look(after=KEPT_SECONDS - 1) == counted
    assert await bench.look(after=2.0) is None


async def test_it_is_counted_anew_after_a_second_or_when_the_depth_has_changed(
    bench: Bench, database: Database
) -> None:
    await bench.look()
    await execute(database, """DELETE FROM "ProductImportJob" WHERE id IN ('waits-1', 'waits-2')""")
    soon = await bench.look(after=0.25)
    assert soon is not None
    assert soon.waiting == (ALL,)
    fewer = await bench.look(after=0.25, due=8)
    assert fewer is not None
    assert fewer.waiting == (SizeClass(8, 3200.0),)
