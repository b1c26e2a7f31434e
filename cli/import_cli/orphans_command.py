"""`kubectl imports requeue-orphans`: the operator's own look for jobs that Redis forgot, now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from import_cli.acting import count
from import_cli.finding import served_queues
from import_cli.printing import print_json, say
from import_cli.queue_commands import paused_since
from import_cli.sources import Sources, Stores
from import_core.adapters.hand_overs import OVERDUE_SECONDS, hand_over_again, lost_hand_overs
from import_core.adapters.postgres.reports import writable

NAMES = 20


@dataclass(slots=True)
class Scan:
    """What was found in a queue: hand-overs that nobody claimed in time, those that Redis lacks, some ids."""

    looked: int = 0
    orphans: int = 0
    requeued: int = 0
    jobs: list[str] = field(default_factory=list)
    paused: str | None = None


async def run(sources: Sources, console: Console, *, dry_run: bool, as_json: bool) -> int:
    """Hand over again what Redis lacks, in all queues of the namespace's pools; always 0.

    Raises UsageError without DATABASE_URL and REDIS_URL, QueueUnavailableError.
    """
    scans: dict[str, Scan] = {}
    queues = await served_queues(sources)
    async with sources.needed_stores("Which jobs were handed over is kept in PostgreSQL") as stores:
        for name, state in (await stores.queues.read(queues)).items():
            scan = scans[name] = Scan()
            if state.paused:
                # The operator takes hand-overs of a paused queue back; a new one would be outdated at once.
                scan.paused = paused_since(state)
            else:
                await _scan(sources, stores, name, scan, dry_run=dry_run)
            if not as_json:
                show(console, name, scan, dry_run=dry_run)
    if as_json:
        print_json(console, _document(scans, dry_run=dry_run))
    return 0


async def _scan(sources: Sources, stores: Stores, name: str, scan: Scan, *, dry_run: bool) -> None:
    async with sources.queue(name) as queue:
        async for look in lost_hand_overs(stores.dispatching, queue, older_than_seconds=OVERDUE_SECONDS):
            scan.looked += look.looked
            scan.orphans += len(look.lost)
            scan.jobs += [message.job_id for message in look.lost[: NAMES - len(scan.jobs)]]
            if look.lost and not dry_run:
                async with writable("to hand jobs over again"):
                    scan.requeued += len(await hand_over_again(stores.dispatching, queue, look))


def show(console: Console, queue: str, scan: Scan, *, dry_run: bool) -> None:
    """Print for people what was found in a queue."""
    if scan.paused is not None:
        say(console, f"{queue} is {scan.paused}: nothing is handed over", style="yellow")
        return
    looked = f"{count(scan.looked, 'hand-over')} waiting for over {OVERDUE_SECONDS:g} s"
    if not scan.orphans:
        say(console, f"{queue}: {looked}, none of them lost")
        return
    done = "would be handed over again" if dry_run else f"{scan.requeued:,} handed over again"
    say(console, f"{queue}: {looked}, {scan.orphans:,} not in Redis, {done}")
    more = ", …" if scan.orphans > len(scan.jobs) else ""
    say(console, f"Jobs: {', '.join(scan.jobs)}{more}", style="dim")


def _document(scans: Mapping[str, Scan], *, dry_run: bool) -> dict[str, Any]:
    return {
        "dryRun": dry_run,
        "queues": [
            {
                "queue": name,
                "paused": scan.paused is not None,
                "looked": scan.looked,
                "orphans": scan.orphans,
                "requeued": scan.requeued,
                "jobs": scan.jobs,
            }
            for name, scan in scans.items()
        ],
    }
