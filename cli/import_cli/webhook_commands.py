"""`kubectl imports webhooks list|deliveries|test|enable`: who is told of imports, and whether it arrives."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from import_cli.printing import print_json, print_table, printable, say
from import_cli.running import DryRun, Namespace, Output, OutputOption, run_command
from import_cli.sources import DEFAULT_NAMESPACE, Sources, Stores, UsageError
from import_core.adapters.postgres.reports import writable
from import_core.adapters.postgres.webhooks import Webhook
from import_core.domain.addresses import display_url
from import_core.domain.notifications import notifications_finding

app = typer.Typer(
    name="webhooks", no_args_is_help=True, help="Webhooks of ImportProviders: see, test and enable them."
)

ProviderArgument = Annotated[str, typer.Argument(help="Name of the ImportProvider that names the webhook.")]
LimitOption = Annotated[
    int, typer.Option("--limit", min=1, max=1000, help="So many messages, the newest first.")
]
WHY = "Webhooks and their messages are kept in PostgreSQL"


@app.command(
    "list",
    epilog="Examples: kubectl imports webhooks list; kubectl imports webhooks list -o json | jq '.webhooks[].state'",
)
def list_(namespace: Namespace = DEFAULT_NAMESPACE, output: OutputOption = Output.TEXT) -> None:
    """The namespace's webhooks, and how they are."""
    run_command(
        namespace, lambda sources, console: show_list(sources, console, as_json=output is Output.JSON)
    )


@app.command(epilog="Example: kubectl imports webhooks deliveries acme-shopify --limit 5")
def deliveries(
    provider: ProviderArgument,
    limit: LimitOption = 20,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """The newest messages to a webhook, and what became of them."""
    run_command(
        namespace,
        lambda sources, console: show_deliveries(
            sources, console, provider, limit=limit, as_json=output is Output.JSON
        ),
    )


@app.command("test", epilog="Example: kubectl imports webhooks test acme-shopify")
def send(
    provider: ProviderArgument,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Have a signed message of the type webhook.test sent."""
    run_command(
        namespace,
        lambda sources, console: send_test(
            sources, console, provider, dry_run=dry_run, as_json=output is Output.JSON
        ),
    )


@app.command(epilog="Example: kubectl imports webhooks enable acme-shopify")
def enable(
    provider: ProviderArgument,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Tell a webhook again that was disabled, from now on; also at once, where it is left alone for a while."""
    run_command(
        namespace,
        lambda sources, console: enable_again(
            sources, console, provider, dry_run=dry_run, as_json=output is Output.JSON
        ),
    )


async def show_list(sources: Sources, console: Console, *, as_json: bool) -> int:
    """Print the webhooks; always 0."""
    async with sources.needed_stores(WHY) as stores:
        found = await stores.webhooks.read()
    if as_json:
        print_json(console, {"webhooks": [_document(webhook) for webhook in found]})
    elif not found:
        say(console, f"No ImportProvider in namespace {sources.namespace} names a webhook")
    else:
        rows = [
            (
                webhook.endpoint.provider,
                _state(webhook),
                display_url(webhook.endpoint.url),
                webhook.succeeded_at or "never",
                webhook.message or "",
            )
            for webhook in found
        ]
        print_table(console, ("PROVIDER", "STATE", "URL", "LAST SUCCESS", "LAST FAILURE"), rows)
    return 0


async def show_deliveries(
    sources: Sources, console: Console, provider: str, *, limit: int, as_json: bool
) -> int:
    """Print a webhook's newest messages; always 0. Raises UsageError where there is none."""
    async with sources.needed_stores(WHY) as stores:
        await _need(stores, sources.namespace, provider)
        found = await stores.outbox.deliveries(provider, limit=limit)
    if as_json:
        documents = [
            {
                "id": each.message_id,
                "event": each.event,
                "jobId": each.job_id,
                "state": each.state,
                "attempts": each.attempts,
                "createdAt": each.created_at,
                "dueAt": each.due_at if each.state == "Waiting" else None,
                "endedAt": each.ended_at,
                "status": each.status,
                "error": each.error,
            }
            for each in found
        ]
        print_json(console, {"provider": provider, "deliveries": documents})
        return 0
    rows = [
        (each.created_at, each.event, each.job_id, each.state, each.attempts, each.error or each.status or "")
        for each in found
    ]
    print_table(console, ("CREATED", "EVENT", "JOB", "STATE", "ATTEMPTS", "RESULT"), rows)
    return 0


async def send_test(
    sources: Sources, console: Console, provider: str, *, dry_run: bool, as_json: bool
) -> int:
    """Add a test message; always 0. Raises UsageError where there is no webhook that is told anything."""
    async with sources.needed_stores(WHY) as stores:
        webhook = await _need(stores, sources.namespace, provider)
        if webhook.state != "Active":
            raise UsageError(
                f"The webhook of {provider} is disabled: kubectl imports webhooks enable {provider}"
            )
        message_id = None
        if not dry_run:
            async with writable("to send a test message"):
                message_id = await stores.outbox.add_test(provider)
    if as_json:
        print_json(console, {"provider": provider, "dryRun": dry_run, "id": message_id})
        return 0
    verb = "Would send" if dry_run else "A worker sends"
    say(console, f"{verb} a message of the type webhook.test to {display_url(webhook.endpoint.url)}")
    if not dry_run:
        say(console, f"See what became of it: kubectl imports webhooks deliveries {provider}", style="dim")
    return 0


async def enable_again(
    sources: Sources, console: Console, provider: str, *, dry_run: bool, as_json: bool
) -> int:
    """Enable a webhook; always 0. Raises UsageError where there is none."""
    async with sources.needed_stores(WHY) as stores:
        webhook = await _need(stores, sources.namespace, provider)
        if not dry_run:
            async with writable("to enable a webhook"):
                await stores.webhooks.enable(provider)
    if as_json:
        print_json(console, {"provider": provider, "dryRun": dry_run, "was": _state(webhook)})
        return 0
    if webhook.state == "Active" and not webhook.failures:
        say(console, f"The webhook of {provider} is active: nothing to do")
        return 0
    say(console, printable(notifications_finding(*_standing(webhook))[2]))
    verb = "Would tell" if dry_run else "Telling"
    say(console, f"{verb} {display_url(webhook.endpoint.url)} again, of what happens from now on")
    return 0


async def _need(stores: Stores, namespace: str, provider: str) -> Webhook:
    found = await stores.webhooks.read([provider])
    if not found:
        raise UsageError(f"There is no ImportProvider {provider} with a webhook in namespace {namespace}")
    return found[0]


def _standing(webhook: Webhook) -> tuple[str, str | None, str | None, int]:
    return webhook.state, webhook.reason, webhook.message, webhook.failures


def _state(webhook: Webhook) -> str:
    return notifications_finding(*_standing(webhook))[1]


def _document(webhook: Webhook) -> dict[str, object]:
    return {
        "provider": webhook.endpoint.provider,
        "companyId": webhook.endpoint.company_id,
        "url": display_url(webhook.endpoint.url),
        "events": list(webhook.endpoint.events),
        "state": _state(webhook),
        "failures": webhook.failures,
        "failingSince": webhook.failing_since,
        "lastSuccessAt": webhook.succeeded_at,
        "message": webhook.message,
    }
