"""`kubectl imports dead-letters list|show|retry|discard`: products that their import or a step after it gave up."""

from __future__ import annotations

from typing import Annotated

import typer

from import_cli.dead_letter_actions import act
from import_cli.dead_letter_views import MAX_LETTERS, show_list, show_product
from import_cli.running import DryRun, Namespace, Output, OutputOption, Yes, run_command
from import_cli.sources import DEFAULT_NAMESPACE
from import_core.domain.dead_letters import DeadFilter, DeadStep, LetterAction

app = typer.Typer(
    name="dead-letters",
    no_args_is_help=True,
    help="Products that an import or a step gave up, invalid or out of tries: see, retry or discard them.",
)

CompanyOption = Annotated[str | None, typer.Option("--company", help="Only those of this company.")]
JobOption = Annotated[
    str | None, typer.Option("--job", help="Only those of this ImportJob, or of the row with this id.")
]
StepOption = Annotated[
    DeadStep | None, typer.Option("--step", help="Only those of this step; import: what imports gave up.")
]
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
    """Steps that failed for good, those that did so last first; then what imports gave up, the newest first."""
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
    """One product's dead letters with their reasons, and how its steps stand."""
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
    """Try again what was given up, once the cause is out of the way.

    A step gets all its tries; an import imports all its failed items again.
    """
    wanted = _chosen(DeadFilter(company, job, step, product, reason), everything=everything)
    _act(LetterAction.RETRY, wanted, namespace, dry_run=dry_run, yes=yes, output=output)


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
    """Give up for good: a product takes a step again when it changes, and is imported by the next import."""
    wanted = _chosen(DeadFilter(company, job, step, product, reason), everything=everything)
    _act(LetterAction.DISCARD, wanted, namespace, dry_run=dry_run, yes=yes, output=output)


def _chosen(wanted: DeadFilter, *, everything: bool) -> DeadFilter | None:
    """None where nothing was chosen."""
    return wanted if everything or wanted != DeadFilter() else None


def _act(
    kind: LetterAction,
    wanted: DeadFilter | None,
    namespace: str,
    *,
    dry_run: bool,
    yes: bool,
    output: Output,
) -> None:
    run_command(
        namespace,
        lambda sources, console: act(
            sources, console, kind, wanted, dry_run=dry_run, yes=yes, as_json=output is Output.JSON
        ),
    )
