"""`kubectl imports explain-scaling POOL`: why there were so many workers, each decision made once more to prove it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from import_cli.acting import parse_since
from import_cli.printing import print_json, print_table, say
from import_cli.running import Namespace, Output, OutputOption, run_command
from import_cli.sources import DEFAULT_NAMESPACE, Sources
from import_core.adapters.postgres.decisions import KEPT_OF_A_POOL, RecordedDecision
from import_core.domain.pool_scaling import INPUTS_VERSION, ScalingInputs, decide_pool, describe
from import_core.domain.scaling import ScalingDecision

EXAMPLES = (
    "Examples: kubectl imports explain-scaling product-imports --since 30m;"
    " kubectl imports explain-scaling product-imports -o json | jq '.decisions[-1].inputs'"
)
MAX_DECISIONS = KEPT_OF_A_POOL
DIFFERS = 1


@dataclass(frozen=True, slots=True)
class Replay:
    """A kept decision, with its inputs and what follows from them now; None where they can't be read."""

    kept: RecordedDecision
    inputs: ScalingInputs | None
    decision: ScalingDecision | None

    @property
    def same(self) -> bool:
        """Whether the decision is the one that was made."""
        decision, kept = self.decision, self.kept
        return decision is not None and (
            (decision.replicas, decision.desired, decision.need, decision.reason.value)
            == (kept.replicas, kept.desired, kept.need, kept.reason)
        )


def explain_scaling(
    pool: Annotated[str, typer.Argument(help="Name of the WorkerPool.")],
    *,
    since: Annotated[
        str | None,
        typer.Option(help="Decided since: a duration (90s, 30m, 2h, 3d, 1w) or a time (ISO 8601)."),
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1, max=MAX_DECISIONS)] = 20,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Why there are so many workers: the pool's decisions, with what each was made of, made once more."""
    run_command(
        namespace,
        lambda sources, console: run(
            sources, console, pool=pool, since=since, limit=limit, as_json=output is Output.JSON
        ),
    )


async def run(
    sources: Sources, console: Console, *, pool: str, since: str | None, limit: int, as_json: bool
) -> int:
    """Print the pool's decisions and replay them; 1 where a replay differs, else 0.

    Raises UsageError for a wrong `since` or without DATABASE_URL, DatabaseUnavailableError.
    """
    async with sources.needed_stores("Decisions are kept in PostgreSQL") as stores:
        moment = await stores.reports.now()
        start = parse_since(since, now=moment) if since is not None else None
        kept = await stores.decisions.read(sources.namespace, pool, since=start, limit=limit)
    replays = [replay(each) for each in kept]
    if as_json:
        print_json(console, _document(pool, replays))
    else:
        show(console, pool, replays)
    return 0 if all(each.same for each in replays) else DIFFERS


def replay(kept: RecordedDecision) -> Replay:
    """Make a decision once more, by the operator's own function."""
    if kept.version > INPUTS_VERSION:
        return Replay(kept, None, None)
    try:
        inputs = ScalingInputs.from_json(kept.inputs)
    except ValueError:
        return Replay(kept, None, None)
    return Replay(kept, inputs, decide_pool(inputs))


def show(console: Console, pool: str, replays: Sequence[Replay]) -> None:
    """Print for people, the newest last."""
    if not replays:
        say(
            console,
            f"No decision on {pool} is kept: either there is no such pool, or it has not changed lately",
        )
        return
    print_table(
        console,
        ("AT", "WORKERS", "REASON", "NEED", "FROM", "REPLAY"),
        [
            (
                f"{each.kept.decided_at:%Y-%m-%dT%H:%M:%SZ}",
                _change(each.kept),
                each.kept.reason,
                each.kept.need,
                "–" if each.inputs is None else describe(each.inputs),
                _verdict(each),
            )
            for each in replays
        ],
    )
    differing = sum(not each.same for each in replays)
    if differing:
        say(
            console,
            f"{differing} of them come out differently now: this command is of another version than the"
            " operator that made them",
            style="red",
        )
    say(console, "-o json shows all inputs", style="dim")


def _change(kept: RecordedDecision) -> str:
    return f"{kept.before}" if kept.before == kept.replicas else f"{kept.before} to {kept.replicas}"


def _verdict(each: Replay) -> str:
    if each.decision is None:
        return "unreadable"
    return "same" if each.same else f"{each.decision.replicas}, {each.decision.reason.value}"


def _document(pool: str, replays: Sequence[Replay]) -> dict[str, Any]:
    return {
        "pool": pool,
        "decisions": [
            {
                "at": each.kept.decided_at,
                "before": each.kept.before,
                "replicas": each.kept.replicas,
                "desired": each.kept.desired,
                "need": each.kept.need,
                "reason": each.kept.reason,
                "version": each.kept.version,
                "inputs": each.kept.inputs,
                "replay": None
                if each.decision is None
                else {
                    "replicas": each.decision.replicas,
                    "desired": each.decision.desired,
                    "need": each.decision.need,
                    "reason": each.decision.reason.value,
                },
                "same": each.same,
            }
            for each in replays
        ],
    }
