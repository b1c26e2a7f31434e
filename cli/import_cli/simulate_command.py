"""`kubectl imports simulate`: its options. It asks no cluster and no database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from import_cli import simulating
from import_cli.running import Output, OutputOption, run_locally
from import_core.domain.simulation.assumptions import Assumptions
from import_core.domain.simulation.comparison import Fleets

EXAMPLES = (
    "Examples: kubectl imports simulate; kubectl imports simulate --scenario bursts --seed 7 --svg bursts.svg;"
    " kubectl imports simulate --trace arrivals.csv --policy queue-depth --policy hpa -o json"
)


def simulate(
    *,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Arrivals as .csv with a header, else JSON lines: at (seconds), products; optional images, company,"
            " connection, provider, tier."
        ),
    ] = None,
    scenario: Annotated[
        str, typer.Option(help="Without --trace: daily, waves, bursts, heavy, outage, limited or quiet.")
    ] = "daily",
    seed: Annotated[int, typer.Option(help="The same seed makes the same trace.")] = 1,
    jobs: Annotated[
        int | None, typer.Option(help="Jobs of the scenario.", min=1, max=simulating.MAX_JOBS)
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Compare only this one; may be repeated.")] = None,
    minimum: Annotated[int, typer.Option("--min", help="At least so many workers.", min=1, max=1000)] = 2,
    maximum: Annotated[int, typer.Option("--max", help="At most so many workers.", min=1, max=1000)] = 50,
    target: Annotated[int, typer.Option(help="targetJobsPerWorker.", min=1, max=10_000)] = 10,
    drain_time: Annotated[
        float, typer.Option(help="drain-time empties the backlog in so many seconds.", min=1)
    ] = Fleets().drain_seconds,
    fixed: Annotated[int, typer.Option(help="Workers of the policy fixed.", min=1, max=1000)] = 20,
    price: Annotated[float, typer.Option(help="Of a worker's hour.", min=0)] = Assumptions().price,
    pod_start: Annotated[
        float, typer.Option(help="Seconds until a worker on a ready node is ready.", min=0)
    ] = Assumptions().pod_start,
    node_start: Annotated[
        float, typer.Option(help="Seconds until a new node is ready.", min=0)
    ] = Assumptions().node_start,
    oldest_first: Annotated[
        bool,
        typer.Option("--oldest-first", help="Start the oldest job first, not as the dispatcher chooses."),
    ] = False,
    svg: Annotated[Path | None, typer.Option(help="Also draw the result into this file.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Compare scaling policies over a trace of arrivals, in simulated time: cost, waiting, missed promises."""
    wanted = simulating.Wanted(
        policies=policy or (),
        fleets=Fleets(minimum, maximum, target, drain_seconds=drain_time, fixed=fixed),
        assumptions=Assumptions(price=price, pod_start=pod_start, node_start=node_start),
        oldest_first=oldest_first,
        svg=svg,
        as_json=output is Output.JSON,
    )
    source = simulating.Source(trace, scenario, seed, jobs)
    run_locally(lambda console, problems: simulating.run(console, problems, source, wanted))
