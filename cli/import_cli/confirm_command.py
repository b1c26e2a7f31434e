"""`kubectl imports confirm-cancellations`: a person's word to the guard against mass cancellation."""

from __future__ import annotations

from rich.console import Console

from import_cli.acting import check_number, count, person
from import_cli.printing import print_json, say
from import_cli.sources import Sources
from import_core.adapters.postgres.reports import writable
from import_core.domain.vanished import CLUSTER_CHANGED, Guard

REASONS = {CLUSTER_CHANGED: "the namespace is another one than before (another cluster, or made anew)"}
TOO_MANY = "too many ImportJobs were gone at once"


async def run(sources: Sources, console: Console, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Allow the operator to cancel as many jobs as it withholds now; always 0.

    Raises UsageError for very many of them without `yes`.
    """
    namespace = sources.namespace
    async with sources.needed_stores("Withheld cancellations are kept in PostgreSQL") as stores:
        guard = await stores.guards.read(namespace)
        allowed = 0
        if guard is not None and guard.withheld and not guard.is_confirmed and not dry_run:
            check_number(guard.withheld, yes=yes, what="jobs would be cancelled, which nothing takes back")
            async with writable("to confirm cancellations"):
                allowed = await stores.guards.confirm(
                    namespace, number=guard.withheld, confirmed_by=person(sources)
                )
    if as_json:
        print_json(
            console,
            {
                "namespace": namespace,
                "dryRun": dry_run,
                "withheld": guard.withheld if guard else 0,
                "reason": guard.reason if guard else None,
                "withheldAt": guard.withheld_at if guard else None,
                "confirmed": allowed,
            },
        )
        return 0
    if guard is None or not guard.withheld:
        say(console, f"No cancellations are withheld in namespace {namespace}: nothing to do")
    elif guard.is_confirmed:
        say(
            console,
            f"{withheld_since(guard)}; confirmed by {guard.confirmed_by}, the operator has not acted yet",
        )
    elif dry_run:
        say(console, f"{withheld_since(guard)}. Would allow the operator to cancel them")
    else:
        say(
            console,
            f"{withheld_since(guard)}. The operator cancels {count(allowed, 'job')}, at once when it runs",
        )
    return 0


def withheld_since(guard: Guard) -> str:
    """How many cancellations wait, since when and why, in words."""
    since = f" since {guard.withheld_at:%Y-%m-%dT%H:%M:%SZ}" if guard.withheld_at else ""
    why = REASONS.get(guard.reason or "", TOO_MANY)
    return f"{count(guard.withheld, 'cancellation')} withheld{since}: {why}"
