"""`kubectl imports open-breaker` and `reset-breaker`: leave a provider alone, and call it again."""

from __future__ import annotations

from rich.console import Console

from import_cli.acting import person
from import_cli.finding import need_provider
from import_cli.printing import print_json, say
from import_cli.sources import Sources, Stores
from import_core.adapters.postgres.reports import writable
from import_core.domain.breaker import Breaker
from import_core.domain.connection_status import describe_breaker
from import_core.domain.resources.import_provider import BreakerState

WHY = "Circuit breakers are kept in PostgreSQL"


async def open_breaker(
    sources: Sources, console: Console, *, provider: str, reason: str, dry_run: bool, as_json: bool
) -> int:
    """Let no call through to a provider until `reset_breaker`; always 0. Raises UsageError for an unknown one."""
    await need_provider(sources, provider)
    async with sources.needed_stores(WHY) as stores:
        before = await _read(stores, sources.namespace, provider)
        if not dry_run:
            async with writable("to open a circuit breaker"):
                await stores.breakers.open_by_hand(
                    sources.namespace, provider, by=person(sources), reason=reason
                )
    if as_json:
        after = before.state if dry_run else BreakerState.OPEN
        print_json(console, _document(provider, before, after, dry_run=dry_run))
        return 0
    if before.state is not BreakerState.CLOSED:
        say(console, f"{provider}: {describe_breaker(before)}", style="yellow")
    verb = "Would open" if dry_run else "Opened"
    say(console, f"{verb} the circuit breaker of {provider}: its jobs wait, without a try being used up")
    if not dry_run:
        say(console, f"Call it again with: kubectl imports reset-breaker {provider}", style="dim")
    return 0


async def reset_breaker(
    sources: Sources, console: Console, *, provider: str, dry_run: bool, as_json: bool
) -> int:
    """Close a provider's breaker, whoever opened it; always 0. Raises UsageError for an unknown one."""
    await need_provider(sources, provider)
    async with sources.needed_stores(WHY) as stores:
        before = await _read(stores, sources.namespace, provider)
        if before != Breaker() and not dry_run:
            async with writable("to reset a circuit breaker"):
                await stores.breakers.reset(sources.namespace, provider)
    if as_json:
        after = before.state if dry_run else BreakerState.CLOSED
        print_json(console, _document(provider, before, after, dry_run=dry_run))
    elif before.state is BreakerState.CLOSED:
        say(console, f"The circuit breaker of {provider} is closed: nothing to do")
    else:
        say(console, f"{provider}: {describe_breaker(before)}")
        verb = "Would reset" if dry_run else "Reset"
        say(
            console,
            f"{verb} the circuit breaker of {provider}: calls go through, the jobs that waited are due",
        )
    return 0


async def _read(stores: Stores, namespace: str, provider: str) -> Breaker:
    return (await stores.breakers.read(namespace, provider)).breaker


def _document(provider: str, before: Breaker, after: BreakerState, *, dry_run: bool) -> dict[str, object]:
    return {
        "provider": provider,
        "dryRun": dry_run,
        "state": after.value,
        "was": before.state.value,
        "consecutiveFailures": before.failures,
        "openedAt": before.opened_at,
        "openedBy": before.forced_by,
        "reason": before.forced_reason,
    }
