"""The fleet follows the backlog up and back to its minimum, and every job of a burst is done once."""

from __future__ import annotations

from e2e.test_refusals import connect
from e2e.world import World, job
from import_core.adapters.kube.resources import WORKER_POOL

JOBS = 60


async def test_a_burst_grows_the_fleet_and_it_shrinks_again(world: World) -> None:
    companies = [f"burst-{n}" for n in range(4)]
    for company in companies:
        await connect(world, company, shop=f"tiny-2-1-{company.replace('-', '')}")
    # The depth must not depend on how fast the jobs are submitted: they are handed out once all are there.
    drained = await world.imports("drain")
    assert drained.code == 0, drained.err
    await world.apply(
        *(job(f"burst-{n}", company=companies[n % 4], provider_name=companies[n % 4]) for n in range(JOBS))
    )
    desired: list[int] = []

    def grown(pool: dict[str, object]) -> bool:
        status = pool.get("status") or {}
        desired.append(status.get("desiredReplicas") or 0)  # type: ignore[attr-defined]
        return max(desired) >= 4

    await world.until(WORKER_POOL, "product-imports", grown, seconds=60)
    resumed = await world.imports("resume")
    assert resumed.code == 0, resumed.err
    for n in range(JOBS):
        status = await world.finished(f"burst-{n}", seconds=180)
        assert status["phase"] == "Succeeded", status
    await world.until(
        WORKER_POOL,
        "product-imports",
        lambda pool: (pool["status"].get("readyReplicas"), pool["status"].get("queueDepth")) == (2, 0),
        seconds=90,
    )
    rows = await world.sql(
        """SELECT status, count(*), max(attempt) FROM "ProductImportJob" WHERE "objectName" LIKE 'burst-%%'
           GROUP BY status"""
    )
    assert rows == [("COMPLETED", JOBS, 0)]
    duplicates = await world.sql(
        """SELECT count(*) FROM (SELECT 1 FROM "Product" GROUP BY "companyId", "externalId", "importSource"
           HAVING count(*) > 1) d"""
    )
    assert duplicates == [(0,)]
    products = await world.sql(
        """SELECT "companyId", count(*) FROM "Product" WHERE "companyId" LIKE 'burst-%%' GROUP BY 1 ORDER BY 1"""
    )
    assert products == [(company, 2) for company in companies]
