"""`kubectl imports dead-letters list|show|retry|discard`: steps of products that failed for good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console

from import_cli.acting import check_number, count
from import_cli.finding import find_job
from import_cli.printing import print_json, print_table, say
from import_cli.running import DryRun, Namespace, Output, OutputOption, Yes, run_command
from import_cli.sources import DEFAULT_NAMESPACE, Sources, Stores, UsageError
from import_core.adapters.postgres.dead_letters import DeadFilter, DeadLetter, DeadLetterStore, StepView
from import_core.adapters.postgres.reports import writable
from import_core.domain.steps import StepKind

MAX_LETTERS = 10_000
WHY = "Dead letters are kept in PostgreSQL"

app = typer.Typer(
    name="dead-letters",
    no_args_is_help=True,
    help="Steps of products that are invalid or out of tries: see, retry or discard them.",
)

CompanyOption = Annotated[str | None, typer.Option("--company", help="Only those of this company.")]
JobOption = Annotated[
    str | None, typer.Option("--job", help="Only those of this ImportJob, or of the row with this id.")
]
StepOption = Annotated[StepKind | None, typer.Option("--step", help="Only those of this step.")]
ProductOption = Annotated[
    str | None, typer.Option("--product", help="Only those of this product: its id, or its id at the source.")
]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only those that failed for this reason.")]
AllOption = Annotated[bool, typer.Option("--all", help="All of them: needed where nothing else is said.")]


@app.command(
    name="list",
    epilog="Examples: kubectl imports dead-letters list --step quality-control;"
    " kubectl imports dead-letters list --company acme -o json | jq .items",
)
def list_letters(
    *,
    company: CompanyOption = None,
    job: JobOption = None,
    step: StepOption = None,
    product: ProductOption = None,
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=MAX_LETTERS)] = 100,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Steps that failed for good, those that did so last first."""
    wanted = DeadFilter(company, job, step, product, reason)
    run_command(
        namespace,
        lambda sources, console: show_list(
            sources, console, wanted=wanted, limit=limit, as_json=output is Output.JSON
        ),
    )


@app.command(epilog="Example: kubectl imports dead-letters show gid://shopify/Product/42 --company acme")
def show(
    product: Annotated[str, typer.Argument(help="The product's id, or its id at the source.")],
    *,
    company: CompanyOption = None,
    step: StepOption = None,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """One product's dead steps with their reasons, and how its other steps stand."""
    wanted = DeadFilter(company, None, step, product)
    run_command(
        namespace,
        lambda sources, console: show_product(sources, console, wanted, as_json=output is Output.JSON),
    )


@app.command(
    epilog="Examples: kubectl imports dead-letters retry --step generate-embedding --reason Timeout --dry-run;"
    " kubectl imports dead-letters retry --product 42"
)
def retry(
    *,
    company: CompanyOption = None,
    job: JobOption = None,
    step: StepOption = None,
    product: ProductOption = None,
    reason: ReasonOption = None,
    everything: AllOption = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take the steps again, with all their tries, once the cause is out of the way."""
    wanted = _chosen(DeadFilter(company, job, step, product, reason), everything=everything)
    _act("retried", wanted, namespace, dry_run=dry_run, yes=yes, output=output)


@app.command(
    epilog="Examples: kubectl imports dead-letters discard --job acme-autumn --dry-run;"
    " kubectl imports dead-letters discard --reason NoImage --company acme"
)
def discard(
    *,
    company: CompanyOption = None,
    job: JobOption = None,
    step: StepOption = None,
    product: ProductOption = None,
    reason: ReasonOption = None,
    everything: AllOption = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Give the steps up; a product takes them again when it changes."""
    wanted = _chosen(DeadFilter(company, job, step, product, reason), everything=everything)
    _act("discarded", wanted, namespace, dry_run=dry_run, yes=yes, output=output)


def _chosen(wanted: DeadFilter, *, everything: bool) -> DeadFilter | None:
    """None where nothing was chosen."""
    return wanted if everything or wanted != DeadFilter() else None


def _act(
    done: str, wanted: DeadFilter | None, namespace: str, *, dry_run: bool, yes: bool, output: Output
) -> None:
    run_command(
        namespace,
        lambda sources, console: act(
            sources, console, done, wanted, dry_run=dry_run, yes=yes, as_json=output is Output.JSON
        ),
    )


async def show_list(
    sources: Sources, console: Console, *, wanted: DeadFilter, limit: int, as_json: bool
) -> int:
    """Print dead letters; always 0. Raises UsageError, DatabaseUnavailableError."""
    async with sources.needed_stores(WHY) as stores:
        letters, more = await _read(stores, await _of_job(sources, stores, wanted), limit)
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
    """Print one product's steps; always 0. Raises UsageError where it has no dead one."""
    async with sources.needed_stores(WHY) as stores:
        letters, _ = await _read(stores, wanted, MAX_LETTERS)
        if not letters:
            raise UsageError(f"no dead letter of product {wanted.product}")
        products = list(dict.fromkeys(letter.product_id for letter in letters))
        if len(products) > 1:
            raise UsageError(f"{len(products)} products have this id at their source: say --company")
        steps = await stores.dead_letters.steps_of(products[0])
    if as_json:
        items = [_document(letter) for letter in letters]
        print_json(console, {"items": items, "steps": [_camel(asdict(step)) for step in steps]})
        return 0
    first = letters[0]
    say(
        console,
        f"{first.external_id or first.product_id}: {first.title or 'the product is gone'}",
        style="bold",
    )
    for letter in letters:
        kind = f"out of {letter.attempts} tries" if letter.retryable else "invalid"
        say(console, f"{letter.step.value}: {letter.reason} ({kind}): {letter.message}", style="red")
    print_table(
        console,
        ("STEP", "STATE", "TRIES FAILED", "CHANGED", "MESSAGE"),
        [_row(step) for step in steps],
    )
    return 0


async def act(
    sources: Sources,
    console: Console,
    done: str,
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
    async with sources.needed_stores(WHY) as stores:
        wanted = await _of_job(sources, stores, wanted)
        reasons: Counter[str] = Counter()
        async for page in stores.dead_letters.pages(wanted):
            reasons.update(f"{letter.step.value}/{letter.reason}" for letter in page)
        number, changed = reasons.total(), 0
        if number and not dry_run:
            check_number(number, yes=yes, what=f"steps would be {done}")
            changed = await _all(stores, wanted, _action(stores.dead_letters, done), done)
    if as_json:
        print_json(console, {"found": number, "reasons": dict(reasons), done: changed, "dryRun": dry_run})
        return 0
    for reason, found in reasons.most_common():
        say(console, f"{found:,} {reason}")
    if dry_run or not number:
        say(console, f"{count(number, 'step')} would be {done}" if number else "No dead letter.")
    else:
        say(console, f"{count(changed, 'step')} {done}", style="bold")
    return 0


Action = Callable[[Sequence[DeadLetter]], Awaitable[int]]


def _action(store: DeadLetterStore, done: str) -> Action:
    return store.retry if done == "retried" else store.discard


async def _all(stores: Stores, wanted: DeadFilter, action: Action, done: str) -> int:
    """Act page by page; what dies again meanwhile is newer than the pages and not met."""
    changed = 0
    purpose = "to retry steps" if done == "retried" else "to discard steps"
    async with writable(purpose):
        async for page in stores.dead_letters.pages(wanted):
            changed += await action(page)
    return changed


async def _of_job(sources: Sources, stores: Stores, wanted: DeadFilter) -> DeadFilter:
    """The same with the job's row in the place of its object's name; a job that is gone is meant by its id."""
    if wanted.job is None:
        return wanted
    try:
        found = await find_job(sources, stores, wanted.job)
    except UsageError:
        return wanted
    return DeadFilter(wanted.company, found.id, wanted.step, wanted.product, wanted.reason)


async def _read(stores: Stores, wanted: DeadFilter, limit: int) -> tuple[list[DeadLetter], bool]:
    letters: list[DeadLetter] = []
    async for page in stores.dead_letters.pages(wanted):
        letters += page
        if len(letters) > limit:
            break
    return letters[:limit], len(letters) > limit


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
