"""`kubectl imports scale POOL N|--auto`: a number of workers by hand, and back to what the queue asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from import_cli.acting import count
from import_cli.printing import print_json, printable, say
from import_cli.sources import DEFAULT_NAMESPACE, Sources, UsageError, is_object_name
from import_core.adapters.kube.resources import WORKER_POOL


def check_wish(replicas: int | None, *, auto: bool) -> None:
    """Raise UsageError unless a number or --auto is given, and not both."""
    if (replicas is None) != auto:
        raise UsageError("Give a number of workers, or --auto for what the queue asks for")


async def run(
    sources: Sources, console: Console, *, pool: str, replicas: int | None, dry_run: bool, as_json: bool
) -> int:
    """Hold a pool at so many workers; None: let the queue decide. Always 0. Raises UsageError for no such pool."""
    found = await sources.kube.get(WORKER_POOL, sources.namespace, pool) if is_object_name(pool) else None
    if found is None:
        raise UsageError(f"There is no WorkerPool {printable(pool)} in namespace {sources.namespace}")
    before = found["spec"].get("replicas")
    if before != replicas and not dry_run:
        # Not the scale subresource, which knows no "none", and at the object that was looked at.
        await sources.kube.merge(
            WORKER_POOL,
            sources.namespace,
            pool,
            {"spec": {"replicas": replicas}},
            uid=found["metadata"]["uid"],
        )
    if as_json:
        print_json(console, _document(found, replicas, dry_run=dry_run))
        return 0
    if before == replicas:
        say(console, f"{pool} {_held(before)} already: nothing to do")
        return 0
    say(
        console,
        f"{'Would hold' if dry_run else 'Held'} {pool} at {count(replicas, 'worker')}"
        if replicas is not None
        else f"{'Would let' if dry_run else 'Let'} the queue decide about {pool} again",
    )
    for line in warnings(found, replicas):
        say(console, line, style="yellow")
    if replicas is not None and not dry_run:
        where = "" if sources.namespace == DEFAULT_NAMESPACE else f" -n {sources.namespace}"
        say(console, f"Back with: kubectl imports scale {pool} --auto{where}", style="dim")
    return 0


def warnings(pool: Mapping[str, Any], replicas: int | None) -> list[str]:
    """What a person should know of the number: it stops everything, is out of bounds, or has no effect yet."""
    spec, status = pool["spec"], pool.get("status") or {}
    scaling = spec.get("scaling") or {}
    lines = []
    if replicas == 0:
        lines.append("With 0 workers nothing runs; jobs wait in PostgreSQL")
    elif replicas is not None and not (
        scaling.get("minReplicas", 0) <= replicas <= scaling.get("maxReplicas", replicas)
    ):
        lines.append(
            f"The queue itself would get {scaling.get('minReplicas')} to {scaling.get('maxReplicas')} workers;"
            " a number by hand may be outside"
        )
    busy = status.get("busyReplicas")
    if replicas is not None and busy is not None and replicas < busy:
        lines.append(
            f"{count(busy, 'worker')} {'has' if busy == 1 else 'have'} jobs: those that go finish or hand back"
        )
    if replicas is None and spec.get("paused"):
        lines.append("Scaling is paused (spec.paused): the number stays as it is until that is false")
    return lines


def _held(replicas: int | None) -> str:
    return "follows the queue" if replicas is None else f"is held at {count(replicas, 'worker')}"


def _document(pool: Mapping[str, Any], replicas: int | None, *, dry_run: bool) -> dict[str, Any]:
    status, scaling = pool.get("status") or {}, pool["spec"].get("scaling") or {}
    before = pool["spec"].get("replicas")
    return {
        "pool": pool["metadata"]["name"],
        "dryRun": dry_run,
        "was": before,
        "replicas": before if dry_run else replicas,
        "ready": status.get("readyReplicas"),
        "busy": status.get("busyReplicas"),
        "desired": status.get("desiredReplicas"),
        "minReplicas": scaling.get("minReplicas"),
        "maxReplicas": scaling.get("maxReplicas"),
        "warnings": warnings(pool, replicas),
    }
