"""`kubectl imports review list|show|approve|reject`: products that quality control left to a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from import_cli.acting import check_number, count, person, steps
from import_cli.printing import print_json, print_table, say
from import_cli.running import DryRun, Namespace, Output, OutputOption, run_command
from import_cli.sources import DEFAULT_NAMESPACE, Sources, Stores, UsageError
from import_core.adapters.postgres.quality import BATCH, PAGE, FlaggedFilter, ReviewItem
from import_core.adapters.postgres.quality_following import Change
from import_core.adapters.postgres.reports import writable
from import_core.domain.quality import Verdict, reason_documents

WHY = "What waits for a person is kept in PostgreSQL"
MOST_LISTED = 10_000
MOST_AT_ONCE = 100_000
"""Products that one command decides on; the same command goes on with the rest."""

app = typer.Typer(
    name="review", no_args_is_help=True, help="Products that quality control flagged: see and decide them."
)

ProductsArgument = Annotated[
    list[str] | None, typer.Argument(help="Ids of products, whatever was decided on them before.")
]
CompanyOption = Annotated[
    str | None, typer.Option("--company", help="Only flagged products of this company.")
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only products flagged for this reason: PriceMissing.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All flagged products.")]
NoteOption = Annotated[str | None, typer.Option("--note", help="Kept with the decision.")]
YesOption = Annotated[
    bool, typer.Option("--yes", help="Decide on all that a filter chooses, or on more than 1,000 products.")
]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which products are meant: by their ids, or the flagged ones that a filter chooses."""

    products: Sequence[str]
    company: str | None
    reason: str | None
    all_flagged: bool

    @property
    def is_filter(self) -> bool:
        """Whether flagged products are chosen, rather than named."""
        return bool(self.company or self.reason or self.all_flagged)


@dataclass(frozen=True, slots=True)
class Options:
    """How to decide, and how to tell of it."""

    note: str | None
    dry_run: bool
    yes: bool
    as_json: bool


@app.command(
    name="list",
    epilog="Examples: kubectl imports review list --company acme;"
    " kubectl imports review list --reason PriceMissing -o json | jq '.products[].productId'",
)
def list_flagged(
    company: CompanyOption = None,
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(help="At most so many products.", min=1, max=MOST_LISTED)] = 100,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Products that wait for a person, those that wait longest first."""
    run_command(
        namespace,
        lambda sources, console: show_list(
            *(sources, console),
            company=company,
            reason=reason,
            limit=limit,
            as_json=output is Output.JSON,
        ),
    )


@app.command(epilog="Example: kubectl imports review show 0198c2f4-7d1e")
def show(
    product: Annotated[str, typer.Argument(help="Id of the product.")],
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """What was decided on a product, by whom and why."""
    run_command(
        namespace,
        lambda sources, console: show_one(sources, console, product, as_json=output is Output.JSON),
    )


@app.command(
    epilog="Examples: kubectl imports review approve 0198c2f4-7d1e --note 'the price is right';"
    " kubectl imports review approve --company acme --reason NotJudged --dry-run"
)
def approve(
    products: ProductsArgument = None,
    *,
    company: CompanyOption = None,
    reason: ReasonOption = None,
    all_flagged: AllOption = False,
    note: NoteOption = None,
    dry_run: DryRun = False,
    yes: YesOption = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let products go on as they are now; a change of theirs is checked anew."""
    choice = Choice(products or [], company, reason, all_flagged)
    _decide(Verdict.APPROVED, choice, Options(note, dry_run, yes, output is Output.JSON), namespace)


@app.command(
    epilog="Examples: kubectl imports review reject 0198c2f4-7d1e --note 'no such brand';"
    " kubectl imports review reject --reason PoorImage --yes"
)
def reject(
    products: ProductsArgument = None,
    *,
    company: CompanyOption = None,
    reason: ReasonOption = None,
    all_flagged: AllOption = False,
    note: NoteOption = None,
    dry_run: DryRun = False,
    yes: YesOption = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Keep products from going on as they are now; a change of theirs is checked anew."""
    choice = Choice(products or [], company, reason, all_flagged)
    _decide(Verdict.REJECTED, choice, Options(note, dry_run, yes, output is Output.JSON), namespace)


def _decide(verdict: Verdict, choice: Choice, options: Options, namespace: str) -> None:
    run_command(namespace, lambda sources, console: decide(sources, console, verdict, choice, options))


async def show_list(
    sources: Sources,
    console: Console,
    *,
    company: str | None,
    reason: str | None,
    limit: int,
    as_json: bool,
) -> int:
    """Print flagged products; always 0."""
    async with sources.needed_stores(WHY) as stores:
        wanted = FlaggedFilter(await stores.quality.now(), company, reason)
        items = [item async for item in _flagged(stores, wanted, limit=limit + 1)]
    more, items = len(items) > limit, items[:limit]
    if as_json:
        print_json(console, {"products": [_document(item) for item in items], "more": more})
        return 0
    if not items:
        say(console, "No product waits for a person")
        return 0
    print_table(
        console,
        ("PRODUCT", "COMPANY", "TITLE", "REASONS", "WAITS"),
        [(item.product_id, item.company_id, item.title, _codes(item), _waits(item)) for item in items],
    )
    if more:
        say(console, f"… and more: --limit {min(limit * 10, MOST_LISTED)}", style="dim")
    return 0


async def show_one(sources: Sources, console: Console, product: str, *, as_json: bool) -> int:
    """Print what was decided on a product; always 0. Raises UsageError where nothing was."""
    async with sources.needed_stores(WHY) as stores:
        found = await stores.quality.find([product])
    if not found:
        raise UsageError(f"Nothing was decided on a product {product}")
    item = found[0]
    if as_json:
        print_json(console, _document(item))
        return 0
    by = item.person or item.decided_by.value
    say(console, f"{item.title} ({item.product_id}, company {item.company_id})", style="bold")
    say(console, f"{item.verdict.value} by {by} at {item.decided_at.isoformat(timespec='seconds')}")
    if item.waiting_seconds is not None:
        say(console, f"has waited for a person for {_waits(item)}")
    if item.note:
        say(console, f"note: {item.note}")
    if item.reasons:
        print_table(
            console, ("REASON", "MESSAGE"), [(reason.code, reason.message) for reason in item.reasons]
        )
    return 0


async def decide(
    sources: Sources,
    console: Console,
    verdict: Verdict,
    choice: Choice,
    options: Options,
) -> int:
    """Decide on products; always 0. What was decided until an error stays so; the same command goes on with the rest.

    Raises UsageError for no choice or two, for an unknown product, and where `yes` is missing: then nothing is decided.
    """
    if choice.is_filter == bool(choice.products):
        raise UsageError("Name products, or choose flagged ones by --company, --reason or --all")
    quiet = None if options.as_json else console
    async with sources.needed_stores(WHY) as stores:
        items = await _chosen(stores, choice)
        if quiet is not None:
            _show_plan(quiet, verdict, items, dry_run=options.dry_run)
        changes: list[Change] = []
        if items and not options.dry_run:
            if choice.is_filter and not options.yes:
                raise UsageError("--dry-run shows them, --yes decides on them all")
            check_number(len(items), yes=options.yes, what="products would be decided on")
            changes = await _write(stores, quiet, verdict, items, by=person(sources), note=options.note)
    left = len(items) - len(changes)
    if quiet is None:
        print_json(
            console,
            {
                "dryRun": options.dry_run,
                "decision": verdict.value,
                "chosen": len(items),
                "changed": [change.product_id for change in changes],
                "unchanged": 0 if options.dry_run else left,
            },
        )
    elif items and not options.dry_run:
        say(quiet, f"{verdict.value.capitalize()} {count(len(changes), 'product')}")
        if left:
            say(
                quiet,
                f"{count(left, 'product')} changed or decided so already, and left as they are",
                style="dim",
            )
    return 0


async def _chosen(stores: Stores, choice: Choice) -> list[ReviewItem]:
    if choice.is_filter:
        wanted = FlaggedFilter(await stores.quality.now(), choice.company, choice.reason)
        return [item async for item in _flagged(stores, wanted, limit=MOST_AT_ONCE)]
    names = list(dict.fromkeys(choice.products))
    found = await stores.quality.find(names)
    missing = [name for name in names if name not in {item.product_id for item in found}]
    if missing:
        raise UsageError(f"Nothing was decided on {', '.join(missing)}: no such product, or not checked yet")
    return found


async def _flagged(stores: Stores, wanted: FlaggedFilter, *, limit: int) -> AsyncIterator[ReviewItem]:
    last: ReviewItem | None = None
    given = 0
    while given < limit:
        page = await stores.quality.flagged(wanted, after=last, limit=min(PAGE, limit - given))
        for item in page:
            yield item
        given += len(page)
        if len(page) < PAGE:
            return
        last = page[-1]


async def _write(
    stores: Stores,
    console: Console | None,
    verdict: Verdict,
    items: Sequence[ReviewItem],
    *,
    by: str,
    note: str | None,
) -> list[Change]:
    changes: list[Change] = []
    with steps(console, "deciding", len(items)) as progress:
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            states = [(item.product_id, item.content_hash) for item in batch]
            async with writable("to decide on products"):
                changes += await stores.quality.decide(states, verdict=verdict, person=by, note=note)
            progress.advance(len(batch))
    return changes


def _show_plan(console: Console, verdict: Verdict, items: Sequence[ReviewItem], *, dry_run: bool) -> None:
    if not items:
        say(console, "No product waits for a person")
        return
    word = "approve" if verdict is Verdict.APPROVED else "reject"
    companies = len({item.company_id for item in items})
    verb = f"Would {word}" if dry_run else "Found"
    of = f"of {companies:,} companies" if companies > 1 else f"of company {items[0].company_id}"
    say(console, f"{verb} {count(len(items), 'product')} {of}", style="bold")
    numbers = Counter(reason.code for item in items for reason in item.reasons)
    examples = {reason.code: item.title for item in reversed(items) for reason in item.reasons}
    rows = [(code, f"{number:,}", examples[code]) for code, number in numbers.most_common()]
    if rows:
        print_table(console, ("REASON", "PRODUCTS", "FOR EXAMPLE"), rows)


def _codes(item: ReviewItem) -> str:
    return ", ".join(dict.fromkeys(reason.code for reason in item.reasons))


def _waits(item: ReviewItem) -> str:
    return _age(item.waiting_seconds) if item.waiting_seconds is not None else ""


def _age(seconds: float) -> str:
    """How long, in the largest unit that there is one of."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:,.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _document(item: ReviewItem) -> dict[str, Any]:
    return {
        "productId": item.product_id,
        "companyId": item.company_id,
        "title": item.title,
        "contentHash": item.content_hash,
        "decision": item.verdict.value,
        "decidedBy": item.decided_by.value,
        "person": item.person,
        "note": item.note,
        "decidedAt": item.decided_at,
        "flaggedAt": item.flagged_at,
        "reasons": reason_documents(item.reasons),
    }
