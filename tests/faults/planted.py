"""Runs an operator or a worker with one bug planted, for the tests that show what the checker finds.

`python planted.py operator|worker PLAN`: PLAN is a JSON file, read at each start of the process: "bug" names
one of BUGS, "environment" adds variables. Without the file it is the process as it is. The bug is patched in,
then the process's own main runs; the processes themselves know nothing of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from import_core.adapters.postgres import catalogue, claims
from import_core.adapters.postgres.catalogue import CatalogueStore, PageWrite
from import_core.adapters.postgres.rows import progress_to_json
from import_core.domain.jobs import Claim

LATE_SECONDS = 3.0
"""How long a planted bug leaves its gap open; a fault in it shows the bug."""


def acknowledge_before_commit() -> None:
    """A page counts as committed as soon as it is handed in, so jobs end before their pages are written."""
    _claims_always_hold()
    real = CatalogueStore.commit_page
    late: set[asyncio.Task[None]] = set()

    async def write_later(store: CatalogueStore, claim: Claim, page: PageWrite) -> None:
        await asyncio.sleep(LATE_SECONDS)
        await real(store, claim, page)

    async def commit_page(store: CatalogueStore, claim: Claim, page: PageWrite) -> None:
        task = asyncio.create_task(write_later(store, claim, page))
        late.add(task)
        task.add_done_callback(late.discard)

    _replace(CatalogueStore, "commit_page", commit_page)


def no_fencing() -> None:
    """A worker writes without looking at its claim, and does not believe it when a renewal says it is gone."""
    from import_worker import leases

    _claims_always_hold()

    class Careless(leases.HeldLease):
        def lose(self, why: str) -> None:
            """Go on."""

    _replace(leases, "HeldLease", Careless)


def reconcile_off() -> None:
    """Nobody looks for hand-overs that Redis lost, or for jobs whose worker is gone."""
    from import_operator.loops.dispatch import DispatchLoop
    from import_operator.loops.reap import ReapLoop
    from import_operator.loops.repair import RepairLoop

    async def nothing(*_arguments: object, **_options: object) -> None:
        return None

    _replace(DispatchLoop, "_check", nothing)
    _replace(ReapLoop, "round", nothing)
    _replace(RepairLoop, "repair_hand_overs", nothing)
    _replace(RepairLoop, "end_stalled", nothing)


def progress_before_commit() -> None:
    """The counters tell of a page before it is committed."""
    real = CatalogueStore.commit_page

    async def commit_page(store: CatalogueStore, claim: Claim, page: PageWrite) -> None:
        progress = Jsonb(progress_to_json(page.checkpoint.progress))
        async with store._database.connection() as connection:
            await connection.execute(
                """INSERT INTO imports.checkpoint (job_id, version, cursor, progress, pages)
                VALUES (%s, 1, NULL, %s, 0) ON CONFLICT (job_id) DO UPDATE SET progress = excluded.progress""",
                (claim.job.id, progress),
            )
        await asyncio.sleep(LATE_SECONDS)
        await real(store, claim, page)

    _replace(CatalogueStore, "commit_page", commit_page)


def double_dispatch() -> None:
    """A claim is given to whoever asks, whatever the row's state and number say."""
    guards = """ AND status = 'PENDING' AND dispatch = %(dispatch)s AND "dispatchedAt" IS NOT NULL"""
    if guards not in claims.CLAIM:
        raise LookupError("the claim's guards have changed; change the planted bug with them")
    _replace(claims, "CLAIM", claims.CLAIM.replace(guards, ""))


BUGS: dict[str, Callable[[], None]] = {
    "acknowledge-before-commit": acknowledge_before_commit,
    "no-fencing": no_fencing,
    "reconcile-off": reconcile_off,
    "progress-before-commit": progress_before_commit,
    "double-dispatch": double_dispatch,
}


def _claims_always_hold() -> None:
    async def lock_claim(*_arguments: object) -> None:
        return None

    _replace(catalogue, "lock_claim", lock_claim)


def _replace(owner: Any, name: str, planted: object) -> None:
    """Replace what must be there: a bug that no longer fits the code is an error and not a clean run."""
    if not hasattr(owner, name):
        raise LookupError(f"{owner} has no {name} any more; change the planted bug with it")
    setattr(owner, name, planted)


def main() -> None:
    """Plant what the plan says and become the process."""
    process, plan_file = sys.argv[1], Path(sys.argv[2])
    plan = json.loads(plan_file.read_text(encoding="utf-8")) if plan_file.exists() else {}
    os.environ.update(plan.get("environment", {}))
    if plan.get("bug"):
        BUGS[plan["bug"]]()
    sys.argv = [f"import-{process}", *sys.argv[3:]]
    if process == "operator":
        from import_operator.command import main as run
    else:
        from import_worker.main import main as run
    run()


if __name__ == "__main__":
    main()
