"""`kubectl imports pause`, `resume`, `stop-intake` and `resume-intake`: what may start, and what is taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rich.console import Console

from import_cli import queue_commands
from import_cli.acting import person
from import_cli.finding import choose_queue, need_provider, served_queues
from import_cli.printing import print_json, say
from import_cli.sources import DEFAULT_NAMESPACE, Sources, UsageError
from import_core.adapters.postgres.queue_state import COMPANY, PROVIDER, QueueState, Scope
from import_core.adapters.postgres.reports import writable
from import_core.domain.emergency import EmergencyPhase

WHY = "What is paused is kept in PostgreSQL"


@dataclass(frozen=True, slots=True)
class What:
    """What a person means: one of them at most; nothing: the queue that the namespace's pools serve."""

    queue: str | None = None
    company: str | None = None
    provider: str | None = None
    queue_option: str | None = None
    """The queue, named by --queue."""

    def scope(self, namespace: str) -> tuple[Scope, str, str] | None:
        """Scope, namespace and name of a company or connection; None: a queue. Raises UsageError for two."""
        named = (self.queue, self.queue_option, self.company, self.provider)
        if sum(each is not None for each in named) > 1:
            raise UsageError("Name a queue, a company or a provider, not several of them")
        if self.company is not None:
            return COMPANY, "", self.company
        if self.provider is not None:
            return PROVIDER, namespace, self.provider
        return None


async def pause(
    sources: Sources, console: Console, *, what: What, reason: str | None, dry_run: bool, as_json: bool
) -> int:
    """Start no more jobs of a queue, a company or a provider connection; always 0.

    Raises UsageError for an unknown provider. A company without jobs may be paused before its first one.
    """
    scope = what.scope(sources.namespace)
    if scope is None:
        return await queue_commands.drain(
            *(sources, console),
            queue=what.queue or what.queue_option,
            reason=reason,
            waiting=queue_commands.Waiting(),
            dry_run=dry_run,
            as_json=as_json,
        )
    kind, namespace, name = scope
    if kind == PROVIDER:
        await need_provider(sources, name)
    async with sources.needed_stores(WHY) as stores:
        known = kind != COMPANY or await stores.queues.knows_company(name)
        if not dry_run:
            async with writable("to pause imports"):
                await stores.queues.pause(
                    kind, name, namespace=namespace, reason=reason, changed_by=person(sources)
                )
    if as_json:
        document = {"scope": kind, "name": name, "dryRun": dry_run, "known": known}
        print_json(console, {**document, "paused": not dry_run})
        return 0
    if not known:
        say(console, f"No job of a company {name} is known: check the ID", style="yellow")
    verb = "Would pause" if dry_run else "Paused"
    say(console, f"{verb} imports of {kind} {name}. Jobs under way go on, no other one starts")
    if not dry_run:
        say(console, f"Go on with: {resume_words(kind, name, sources.namespace)}", style="dim")
    return 0


async def resume(sources: Sources, console: Console, *, what: What, dry_run: bool, as_json: bool) -> int:
    """Start jobs of a queue, a company or a provider connection again; always 0."""
    scope = what.scope(sources.namespace)
    if scope is None:
        return await queue_commands.resume(
            sources, console, queue=what.queue or what.queue_option, dry_run=dry_run, as_json=as_json
        )
    kind, namespace, name = scope
    async with sources.needed_stores(WHY) as stores:
        was_paused = any(
            (each.scope, each.namespace, each.name) == scope for each in await stores.queues.pauses()
        )
        if was_paused and not dry_run:
            async with writable("to resume imports"):
                await stores.queues.resume(kind, name, namespace=namespace)
    if as_json:
        document = {"scope": kind, "name": name, "dryRun": dry_run, "wasPaused": was_paused}
        print_json(console, {**document, "paused": was_paused and dry_run})
    elif was_paused:
        say(console, f"{'Would resume' if dry_run else 'Resumed'} imports of {kind} {name}")
    else:
        say(console, f"Imports of {kind} {name} are not paused: nothing to do")
    return 0


async def set_intake(
    sources: Sources,
    console: Console,
    *,
    queue: str | None,
    stopped: bool,
    reason: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Take no new jobs, or take them again also while the queue is too long; always 0."""
    name = choose_queue(await served_queues(sources), queue, namespace=sources.namespace)
    async with sources.needed_stores(WHY) as stores:
        before = await stores.queues.health(name)
        if not dry_run:
            async with writable("to stop or resume intake"):
                await stores.queues.set_intake(
                    name, stopped=stopped, reason=reason, changed_by=person(sources)
                )
    if as_json:
        document = {"queue": name, "dryRun": dry_run, "wasStopped": before.intake.intake.stopped}
        after = before.intake.intake.stopped if dry_run else stopped
        print_json(console, {**document, "stopped": after, "health": before.level.value})
        return 0
    would = "would be" if dry_run else "are"
    if stopped:
        say(console, f"New imports {would} refused until somebody resumes intake ({health_words(before)})")
    else:
        say(
            console,
            f"New imports {would} taken, all of them until the queue is below critical ({health_words(before)})",
        )
    return 0


def resume_words(kind: str, name: str, namespace: str) -> str:
    """The command that ends a pause of a company or connection."""
    where = "" if namespace == DEFAULT_NAMESPACE else f" -n {namespace}"
    return f"kubectl imports resume --{kind} {name}{where}"


def health_words(state: QueueState) -> str:
    """How healthy a queue is, and its depth, in words."""
    health = state.intake.health
    if health.measured_at is None:
        return "the queue was not measured yet"
    return f"the queue is {health.level.value.lower()}, {state.intake.depth:,} jobs wait or run"


def since_words(since: datetime | None, by: str | None, reason: str | None) -> str:
    """Since when, by whom and why something stands still, in words."""
    when = f" since {since:%Y-%m-%dT%H:%M:%SZ}" if since else ""
    return f"{when}{f' by {by}' if by else ''}{f' ({reason})' if reason else ''}"


def standing_still(queue: str, state: QueueState, where: str) -> list[str]:
    """What of a queue stands still beside a person's pause, each with the command that ends it."""
    lines = []
    intake, emergency = state.intake.intake, state.emergency
    if emergency.phase is not EmergencyPhase.NONE:
        doing = "is paused" if emergency.phase is EmergencyPhase.PAUSED else "tries a few jobs"
        lines.append(
            f"Emergency: {queue} {doing}{since_words(emergency.since, None, emergency.reason)}:"
            f" kubectl imports resume {queue}{where}"
        )
    if intake.stopped:
        lines.append(
            f"Intake of {queue} is stopped{since_words(intake.since, intake.by, intake.reason)}:"
            f" kubectl imports resume-intake {queue}{where}"
        )
    return lines
