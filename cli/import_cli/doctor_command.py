"""`kubectl imports doctor`: looks at an installation from end to end, and says what to do about what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict

from rich.console import Console

from import_cli import doctor_cluster, doctor_stores
from import_cli.printing import print_json, printable, say
from import_cli.sources import Sources
from import_core.domain.doctor import Finding, Verdict, worst
from import_core.domain.doctor.findings import failed, skipped
from import_core.domain.errors import ImportOperatorError, ObjectForbiddenError

EXIT_UNWELL = 1
CHECK_SECONDS = 30.0
REACH = "is the address right, does it run, may this machine reach it?"

Check = Callable[[Sources], Awaitable[list[Finding]]]
_MARKS = {Verdict.OK: "✓", Verdict.WARNING: "!", Verdict.FAILED: "✗", Verdict.SKIPPED: "–"}
_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red", Verdict.SKIPPED: "dim"}


async def run(sources: Sources, console: Console, *, alertmanager: str | None, as_json: bool) -> int:
    """Make all checks and print them; 1 when one failed, else 0. Never raises for what it looks at."""
    findings = await examine(sources, alertmanager)
    if as_json:
        print_json(
            console,
            {
                "namespace": sources.namespace,
                "verdict": worst(findings).value,
                "checks": [asdict(finding) for finding in findings],
            },
        )
    else:
        show(findings, console)
    return EXIT_UNWELL if worst(findings) is Verdict.FAILED else 0


async def examine(sources: Sources, alertmanager: str | None) -> list[Finding]:
    """All checks; each stands for itself, whatever becomes of the others."""

    async def alerts(asked: Sources) -> list[Finding]:
        return await doctor_stores.check_alerts(asked, alertmanager)

    # One after the other: many connections opened at once time out against an API server that is only busy.
    cluster: dict[str, Check] = {
        "definitions": doctor_cluster.check_definitions,
        "rights": doctor_cluster.check_rights,
        "operator lease": doctor_cluster.check_lease,
        "operator loops": doctor_cluster.check_loops,
        "webhook certificate": doctor_cluster.check_webhook,
    }
    stores: dict[str, Check] = {
        "postgresql server": doctor_stores.check_database,
        "redis": doctor_stores.check_redis,
        "object store": doctor_stores.check_store,
        "clocks": doctor_stores.check_clocks,
        "alert routing": alerts,
    }

    async def of_cluster() -> list[Finding]:
        return [each for name, check in cluster.items() for each in await _bounded(name, check, sources)]

    found = await asyncio.gather(of_cluster(), *(_bounded(*check, sources) for check in stores.items()))
    return [finding for findings in found for finding in findings]


async def _bounded(name: str, check: Check, sources: Sources) -> list[Finding]:
    """A check that can't be made says nothing is known where we may not look, and has failed otherwise."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check(sources)
    except ObjectForbiddenError as error:
        return [skipped(name, str(error), "ask as somebody who may: docs/reference/command-line.md#rights")]
    except ImportOperatorError as error:
        return [failed(name, str(error), REACH)]
    except TimeoutError:
        return [failed(name, f"no answer within {CHECK_SECONDS:g} s", REACH)]


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print a line for each check, and below those that are not well what to do."""
    for finding in findings:
        mark, style = _MARKS[finding.verdict], _STYLES[finding.verdict]
        say(console, f"{mark} {finding.check}: {printable(finding.message)}", style=style)
        if finding.fix is not None:
            say(
                console,
                f"    Fix: {finding.fix}" if finding.verdict is not Verdict.SKIPPED else f"    {finding.fix}",
            )
    counts = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    said = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
    say(console, ", ".join(said), style=f"bold {_STYLES[worst(findings)]}")
