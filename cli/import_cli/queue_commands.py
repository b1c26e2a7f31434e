"""`kubectl imports drain` and `resume`: stop handing out a queue's jobs, and go on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic

from rich.console import Console

from import_cli.acting import count, person
from import_cli.finding import choose_queue, served_queues
from import_cli.following import GIVE_UP_SECONDS
from import_cli.printing import print_json, say
from import_cli.sources import Sources, Stores, UsageError
from import_core.adapters.postgres.jobs import DEPTH_CAP, Depth
from import_core.adapters.postgres.queue_state import QueueState
from import_core.adapters.postgres.reports import writable
from import_core.domain.emergency import EmergencyPhase
from import_core.domain.errors import DatabaseUnavailableError

REFRESH_SECONDS = 1.0
WHY = "Whether a queue is paused is kept in PostgreSQL"


@dataclass(frozen=True, slots=True)
class Load:
    """What a queue holds now; `handed_over` jobs are on their way to a worker."""

    state: QueueState
    depth: Depth
    handed_over: int

    @property
    def drained(self) -> bool:
        """Whether nothing is under way."""
        return not self.depth.claimed and not self.handed_over


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whether and how long `drain` waits for the jobs under way; None: without end."""

    wanted: bool = False
    timeout_seconds: float | None = None


async def drain(
    sources: Sources,
    console: Console,
    *,
    queue: str | None,
    reason: str | None,
    waiting: Waiting,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Pause a queue and, if wanted, wait until no job of it is under way; always 0.

    Raises UsageError when it is not clear which queue is meant, or the wait is over before the jobs.
    """
    name = choose_queue(await served_queues(sources), queue, namespace=sources.namespace)
    async with sources.needed_stores(WHY) as stores:
        load = await _load(stores, name)
        if not dry_run:
            async with writable("to pause a queue"):
                await stores.queues.set_paused(name, True, reason=reason, changed_by=person(sources))
    quiet = None if as_json else console
    if quiet is not None:
        _show_drain(quiet, name, load, dry_run=dry_run)
    if waiting.wanted and not dry_run:
        load = await _wait(sources, quiet, name, waiting.timeout_seconds)
        if quiet is not None:
            say(quiet, f"{name} is drained: no job is under way", style="green")
    if as_json:
        print_json(
            console, _document(name, load, paused=load.state.paused if dry_run else True, dry_run=dry_run)
        )
    return 0


async def resume(
    sources: Sources, console: Console, *, queue: str | None, dry_run: bool, as_json: bool
) -> int:
    """Let a queue hand out jobs again; always 0. Raises UsageError when it is not clear which is meant."""
    served = await served_queues(sources)
    async with sources.needed_stores(WHY) as stores:
        # A queue whose pool is gone can stand paused, too.
        candidates = sorted({*served, queue}) if queue is not None else served
        states = await stores.queues.read(candidates)
        paused = [name for name, state in states.items() if _stands_still(state)]
        name = choose_queue(
            paused if queue is None and len(paused) == 1 else sorted({*served, *paused}),
            queue,
            namespace=sources.namespace,
        )
        load = await _load(stores, name)
        if _stands_still(load.state) and not dry_run:
            async with writable("to resume a queue"):
                await stores.queues.set_paused(name, False, reason=None, changed_by=person(sources))
    if as_json:
        print_json(
            console, _document(name, load, paused=load.state.paused if dry_run else False, dry_run=dry_run)
        )
    elif not _stands_still(load.state):
        say(console, f"{name} is not paused: nothing to do")
    else:
        verb = "Would resume" if dry_run else "Resumed"
        why = paused_since(load.state)
        if not load.state.paused:
            why = f"paused in an emergency ({load.state.emergency.reason})"
        say(console, f"{verb} {name}, {why}: {_due(load.depth)}")
    return 0


async def _load(stores: Stores, queue: str) -> Load:
    state = (await stores.queues.read([queue]))[queue]
    depth = (await stores.jobs.depth([queue]))[queue]
    return Load(state, depth, await stores.dispatching.unclaimed(queue))


async def _wait(sources: Sources, console: Console | None, queue: str, timeout_seconds: float | None) -> Load:
    try:
        async with asyncio.timeout(timeout_seconds) as limit:
            return await _until_drained(sources, console, queue)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise UsageError(
            f"Jobs of {queue} are still under way after {timeout_seconds:g} s; it stays paused"
        ) from error


async def _until_drained(sources: Sources, console: Console | None, queue: str) -> Load:
    """Look until nothing is under way, through passing outages of the database."""
    said, answered_at = "", monotonic()
    while True:
        try:
            async with sources.needed_stores(WHY) as stores:
                load = await _load(stores, queue)
        except DatabaseUnavailableError as error:
            if monotonic() - answered_at >= GIVE_UP_SECONDS:
                raise
            text = f"{error}. Trying again"
        else:
            answered_at = monotonic()
            if not load.state.paused:
                by = load.state.changed_by or "somebody"
                raise UsageError(f"{queue} was resumed by {by} meanwhile: it does not drain")
            if load.drained:
                return load
            text = f"{queue}: {load.depth.claimed:,} running, {load.handed_over:,} on the way to a worker"
        if console is not None and text != said:
            said = text
            say(console, text)
        await asyncio.sleep(REFRESH_SECONDS)


def _stands_still(state: QueueState) -> bool:
    """Paused by a person, or in an emergency; a trial after one counts as well."""
    return state.paused or state.emergency.phase is not EmergencyPhase.NONE


def paused_since(state: QueueState) -> str:
    """Since when, by whom and why a queue is paused, in words."""
    since = f" since {state.changed_at:%Y-%m-%dT%H:%M:%SZ}" if state.changed_at else ""
    by = f" by {state.changed_by}" if state.changed_by else ""
    return f"paused{since}{by}{f' ({state.reason})' if state.reason else ''}"


def _due(depth: Depth) -> str:
    waiting = f"over {DEPTH_CAP - 1:,} jobs" if depth.due >= DEPTH_CAP else count(depth.due, "job")
    return f"{waiting} due, {depth.claimed:,} running"


def _show_drain(console: Console, queue: str, load: Load, *, dry_run: bool) -> None:
    if load.state.paused:
        say(console, f"{queue} is {paused_since(load.state)}", style="yellow")
    verb = "Would pause" if dry_run else "Paused"
    say(console, f"{verb} {queue}: {_due(load.depth)}. Jobs under way go on, no other one starts")
    if not dry_run:
        say(console, f"Go on with: kubectl imports resume {queue}", style="dim")


def _document(queue: str, load: Load, *, paused: bool, dry_run: bool) -> dict[str, object]:
    return {
        "queue": queue,
        "dryRun": dry_run,
        "paused": paused,
        "wasPaused": load.state.paused,
        "due": load.depth.due,
        "running": load.depth.claimed,
        "handedOver": load.handed_over,
    }
