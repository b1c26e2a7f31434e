"""What `kubectl imports dead-letters list` and `show` print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console

from import_cli.finding import find_job
from import_cli.printing import print_json, print_table, say
from import_cli.sources import Sources, Stores, UsageError
from import_core.adapters.postgres.dead_letters import StepView
from import_core.domain.dead_letters import DeadFilter, DeadLetter

MAX_LETTERS = 10_000
WHY = "Dead letters are kept in PostgreSQL"


async def show_list(
    sources: Sources, console: Console, *, wanted: DeadFilter, limit: int, as_json: bool
) -> int:
    """Print dead letters; always 0. Raises UsageError, DatabaseUnavailableError."""
    async with sources.needed_stores(WHY) as stores:
        letters, more = await _read(stores, await of_job(sources, stores, wanted), limit)
    if as_json:
        print_json(console, {"items": [_document(letter) for letter in letters], "more": more})
        return 0
    if not letters:
        say(console, "No dead letter.")
        return 0
    print_table(
        console,
        ("PRODUCT", "COMPANY", "STEP", "REASON", "TRIES", "DIED", "MESSAGE"),
        [
            (
                letter.external_id or letter.product_id,
                letter.company_id,
                letter.step.value,
                letter.reason,
                letter.attempts,
                f"{letter.died_at:%Y-%m-%dT%H:%M:%SZ}",
                letter.message,
            )
            for letter in letters
        ],
    )
    if more:
        say(console, f"… and more: --limit {MAX_LETTERS}", style="dim")
    return 0


async def show_product(sources: Sources, console: Console, wanted: DeadFilter, *, as_json: bool) -> int:
    """Print one product's dead letters and steps; always 0. Raises UsageError where it has no dead letter."""
    async with sources.needed_stores(WHY) as stores:
        letters, _ = await _read(stores, wanted, MAX_LETTERS)
        if not letters:
            raise UsageError(f"no dead letter of product {wanted.product}")
        products = {(letter.company_id, letter.external_id or letter.product_id) for letter in letters}
        if len(products) > 1:
            raise UsageError(f"{len(products)} products have this id at their source: say --company")
        rows = [letter.product_id for letter in letters if letter.product_id is not None]
        steps = await stores.dead_letters.steps.steps_of(rows[0]) if rows else []
    if as_json:
        items = [_document(letter) for letter in letters]
        print_json(console, {"items": items, "steps": [_camel(asdict(step)) for step in steps]})
        return 0
    first = letters[0]
    title = first.title or ("never imported" if first.product_id is None else "the product is gone")
    say(console, f"{first.external_id or first.product_id}: {title}", style="bold")
    for letter in letters:
        kind = _tries(letter) if letter.retryable else "invalid"
        say(console, f"{letter.step.value}: {letter.reason} ({kind}): {letter.message}", style="red")
    if steps:
        print_table(
            console, ("STEP", "STATE", "TRIES FAILED", "CHANGED", "MESSAGE"), [_row(step) for step in steps]
        )
    return 0


async def of_job(sources: Sources, stores: Stores, wanted: DeadFilter) -> DeadFilter:
    """The same with the job's row in the place of its object's name; a job that is gone is meant by its id."""
    if wanted.job is None:
        return wanted
    try:
        found = await find_job(sources, stores, wanted.job)
    except UsageError:
        return wanted
    return replace(wanted, job=found.id)


async def _read(stores: Stores, wanted: DeadFilter, limit: int) -> tuple[list[DeadLetter], bool]:
    letters: list[DeadLetter] = []
    async for page in stores.dead_letters.pages(wanted):
        letters += page
        if len(letters) > limit:
            break
    return letters[:limit], len(letters) > limit


def _tries(letter: DeadLetter) -> str:
    return "may pass" if letter.step.kind is None else f"out of {letter.attempts} tries"


def _row(step: StepView) -> Sequence[object]:
    changed = f"{step.changed_at:%Y-%m-%dT%H:%M:%SZ}"
    return (step.step.value, step.state.value, step.attempts, changed, step.message)


def _document(letter: DeadLetter) -> dict[str, Any]:
    return _camel(asdict(letter))


def _camel(values: dict[str, Any]) -> dict[str, Any]:
    def name(key: str) -> str:
        first, *rest = key.split("_")
        return first + "".join(word.capitalize() for word in rest)

    return {name(key): value for key, value in values.items()}
