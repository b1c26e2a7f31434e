"""A company with a long, old backlog does not delay another's single job, and what is cancelled stays so."""

from __future__ import annotations

from e2e.test_refusals import connect
from e2e.world import World, job
from import_core.adapters.kube.resources import IMPORT_JOB

BACKLOG = 200
AT_ONCE = 20
"""Jobs that four workers run, and as many again that may be on their way to them."""


async def test_a_single_job_passes_a_long_backlog(world: World) -> None:
    await connect(world, "crowd", shop="tiny-1-0-crowd")
    await connect(world, "single", shop="tiny-1-0-single")
    drained = await world.imports("drain", "--wait", "--timeout", "60")
    assert drained.code == 0, drained.err
    await world.sql(
        """INSERT INTO "ProductImportJob" (id, "companyId", provider, "createdAt")
        SELECT 'crowd-' || n, 'crowd', 'crowd', now() - interval '1 hour' FROM generate_series(1, %s) n""",
        BACKLOG,
    )
    await world.apply(job("single", company="single", provider_name="single"))
    # What the operator has not recorded yet can't pass anybody.
    await world.until(
        IMPORT_JOB, "single", lambda found: (found.get("status") or {}).get("waitingReason") == "Paused"
    )
    assert (await world.imports("resume")).code == 0
    status = await world.finished("single")
    assert status["phase"] == "Succeeded", status
    ((before,),) = await world.sql(
        """SELECT count(*) FROM imports.job_start s WHERE s.company_id = 'crowd' AND s.started_at <
            (SELECT max(started_at) FROM imports.job_start WHERE company_id = 'single')"""
    )
    assert before <= 2 * AT_ONCE, "what was under way, not the backlog"
    waiting = await world.sql(
        """SELECT id FROM "ProductImportJob" WHERE "companyId" = 'crowd' AND status = 'PENDING'"""
    )
    assert len(waiting) > AT_ONCE
    cancelled = await world.imports("cancel", *(row[0] for row in waiting))
    assert cancelled.code == 0, cancelled.err
    left = await world.sql(
        """SELECT count(*) FROM "ProductImportJob" WHERE id = ANY(%s) AND status IN ('PENDING', 'IN_PROGRESS')""",
        [row[0] for row in waiting],
    )
    assert left == [(0,)]
