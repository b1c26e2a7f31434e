"""What `kubectl imports dead-letters retry` and `discard` do, and the line that is kept of each batch of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import typer
from rich.console import Console

from import_cli.acting import check_number, count, person
from import_cli.dead_letter_views import WHY, of_job
from import_cli.printing import print_json, say
from import_cli.sources import Sources, Stores, UsageError
from import_core.adapters.dead_letters import Acted, Done, Note
from import_core.adapters.postgres.reports import writable
from import_core.domain.dead_letters import DeadFilter, LetterAction

AT_ONCE = 1_000
DONE = {LetterAction.RETRY: "retried", LetterAction.DISCARD: "discarded"}


@dataclass(slots=True)
class _Outcome:
    changed: int = 0
    skipped: int = 0
    why: str | None = None

    def add(self, acted: Acted) -> None:
        self.changed += acted.changed
        self.skipped += acted.skipped
        self.why = self.why or acted.why


async def act(
    sources: Sources,
    console: Console,
    kind: LetterAction,
    wanted: DeadFilter | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Retry or discard what is wanted; always 0.

    Raises UsageError where nothing was chosen, and for too many without `yes`. What was done until an error
    stays so; the same command goes on with the rest.
    """
    if wanted is None:
        raise UsageError("say which: --company, --job, --step, --product, --reason, or --all")
    outcome, done = _Outcome(), DONE[kind]
    async with sources.needed_stores(WHY) as stores:
        wanted = await of_job(sources, stores, wanted)
        # What dies again meanwhile is not met.
        moment = await stores.dead_letters.steps.now()
        wanted = replace(wanted, until=moment)
        reasons: Counter[str] = Counter()
        async for page in stores.dead_letters.pages(wanted):
            reasons.update(f"{letter.step.value}/{letter.reason}" for letter in page)
        number = reasons.total()
        if number and not dry_run:
            check_number(number, yes=yes, what=f"dead letters would be {done}")
            await _all(sources, stores, kind, wanted, outcome)
    if as_json:
        print_json(
            console,
            {
                "found": number,
                "reasons": dict(reasons),
                done: outcome.changed,
                "skipped": outcome.skipped,
                "dryRun": dry_run,
            },
        )
        return 0
    for reason, found in reasons.most_common():
        say(console, f"{found:,} {reason}")
    if dry_run or not number:
        say(console, f"{count(number, 'dead letter')} would be {done}" if number else "No dead letter.")
        return 0
    if outcome.skipped:
        say(
            console,
            f"{count(outcome.skipped, 'dead letter')} left as they are: {outcome.why}",
            style="yellow",
        )
    say(console, f"{count(outcome.changed, 'dead letter')} {done}", style="bold")
    return 0


async def _all(
    sources: Sources, stores: Stores, kind: LetterAction, wanted: DeadFilter, outcome: _Outcome
) -> None:
    by, after = person(sources), None
    async with writable(f"to {kind.value} dead letters"):
        while True:
            acted = await stores.dead_letters.act_on_all(
                kind, wanted, by=by, note=_note(kind, by), most=AT_ONCE, after=after
            )
            outcome.add(acted)
            after = acted.next
            if after is None:
                return


def _note(kind: LetterAction, by: str) -> Note:
    """Say on standard error who did what, in the words of the gateway's log: rows keep it only until they change."""

    def note(done: Done) -> None:
        line = {
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "event": f"dead_letters.{DONE[kind]}",
            "caller": by,
            "companyIds": list(done.company_ids),
            "jobIds": list(done.job_ids),
            "steps": [step.value for step in done.steps],
            "changed": done.changed,
        }
        typer.echo(json.dumps(line), err=True)

    return note
