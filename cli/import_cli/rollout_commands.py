"""`kubectl imports rollout status|pause|resume|promote|abort`: a new template of a pool, watched and steered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from import_cli.printing import print_json, print_table, printable, say
from import_cli.running import DryRun, Namespace, Output, OutputOption, run_command
from import_cli.sources import DEFAULT_NAMESPACE, Sources, UsageError, is_object_name
from import_core.adapters.kube.resources import WORKER_POOL
from import_core.domain.errors import ObjectConflictError, ObjectNotFoundError
from import_core.domain.rollout import template_hash
from import_core.domain.rollout_status import (
    ABORT_ANNOTATION,
    PAUSE_ANNOTATION,
    PROMOTE_ANNOTATION,
    wishes_of,
)

app = typer.Typer(
    name="rollout", no_args_is_help=True, help="A changed template of a WorkerPool: see and steer it."
)

SEEN_SECONDS = 10.0
"""The operator looks at a changed pool within a second; more is its start, or that it does not run."""

PoolArgument = Annotated[str, typer.Argument(help="Name of the WorkerPool.")]


class Word(StrEnum):
    """What a person can say of a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Wish:
    """Annotations to set, the version that is meant, and what comes of it; no annotations: nothing to do."""

    annotations: Mapping[str, str]
    version: str | None
    would: str
    does: str


@app.command(
    epilog="Examples: kubectl imports rollout status product-imports;"
    " kubectl imports rollout status product-imports -o json | jq .phase"
)
def status(
    pool: PoolArgument, namespace: Namespace = DEFAULT_NAMESPACE, output: OutputOption = Output.TEXT
) -> None:
    """Which version runs, which one is rolled out, how far it is, and why it waits or went back."""
    run_command(
        namespace, lambda sources, console: show_status(sources, console, pool, as_json=output is Output.JSON)
    )


@app.command(epilog="Example: kubectl imports rollout pause product-imports --dry-run")
def pause(
    pool: PoolArgument,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Hold the step that the rollout is at, and begin none; a version that fails still goes back."""
    _run(Word.PAUSE, pool, namespace, dry_run=dry_run, output=output)


@app.command(epilog="Example: kubectl imports rollout resume product-imports")
def resume(
    pool: PoolArgument,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Go on after a pause."""
    _run(Word.RESUME, pool, namespace, dry_run=dry_run, output=output)


@app.command(
    epilog="Examples: kubectl imports rollout promote product-imports --dry-run;"
    " kubectl imports rollout promote product-imports"
)
def promote(
    pool: PoolArgument,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Give all workers the new version now, without watching its jobs; also one that was rolled back."""
    _run(Word.PROMOTE, pool, namespace, dry_run=dry_run, output=output)


@app.command(epilog="Example: kubectl imports rollout abort product-imports")
def abort(
    pool: PoolArgument,
    dry_run: DryRun = False,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Go back to the old version now; the new one is not tried again before the template changes."""
    _run(Word.ABORT, pool, namespace, dry_run=dry_run, output=output)


def _run(word: Word, pool: str, namespace: str, *, dry_run: bool, output: Output) -> None:
    run_command(
        namespace,
        lambda sources, console: steer(
            sources, console, pool, word, dry_run=dry_run, as_json=output is Output.JSON
        ),
    )


async def show_status(sources: Sources, console: Console, pool: str, *, as_json: bool) -> int:
    """Print where the pool's rollout stands; always 0. Raises UsageError for an unknown pool."""
    body = await _read(sources, pool)
    document = describe(body)
    if as_json:
        print_json(console, document)
        return 0
    say(console, f"{pool}: {document['phase']}{_why(document)}")
    rows: list[tuple[object, ...]] = [("stable", document["stableHash"], document["deployment"], "", "", "")]
    if document["canaryHash"] is not None:
        numbers = (document["succeededJobs"], document["failedJobs"], document["restarts"])
        rows.append(
            ("new", document["canaryHash"], f"step {document['step']} of {document['steps']}", *numbers)
        )
    if document["rolledBackHash"] is not None:
        rows.append(("rolled back", document["rolledBackHash"], "", "", "", ""))
    print_table(console, ("VERSION", "HASH", "WHERE", "SUCCEEDED", "FAILED", "RESTARTS"), rows)
    for line in next_commands(document, pool, sources.namespace):
        say(console, line, style="dim")
    return 0


async def steer(
    sources: Sources, console: Console, pool: str, word: Word, *, dry_run: bool, as_json: bool
) -> int:
    """Set the annotation that says a person's word; always 0. Raises UsageError where there is nothing to steer."""
    body = await _read(sources, pool)
    # Going back from what is known to run waits for nobody.
    if word is Word.PROMOTE or (word is Word.ABORT and describe(body)["canaryHash"] is None):
        body = await seen_by_operator(sources, body)
    wish = wish_for(word, body)
    if wish.annotations and not dry_run:
        try:
            await sources.kube.annotate(
                *(WORKER_POOL, sources.namespace, pool, wish.annotations), uid=body["metadata"]["uid"]
            )
        except (ObjectNotFoundError, ObjectConflictError) as error:
            raise UsageError(f"The WorkerPool {pool} was deleted meanwhile") from error
    if as_json:
        changed = bool(wish.annotations) and not dry_run
        document = {"pool": pool, "word": word.value, "dryRun": dry_run, "version": wish.version}
        print_json(console, {**document, "changed": changed})
    elif not wish.annotations:
        say(console, wish.does)
    else:
        say(console, wish.would if dry_run else wish.does)
    return 0


async def seen_by_operator(sources: Sources, body: dict[str, Any]) -> dict[str, Any]:
    """The pool once its status speaks of the template that its spec has now: a change may be a moment old.

    As it is where the operator has nothing to begin. Raises UsageError where it does not see it in time.
    """
    name = str(body["metadata"]["name"])
    try:
        async with asyncio.timeout(SEEN_SECONDS):
            if is_seen(body):
                return body
            async for version in sources.kube.watch_one(WORKER_POOL, sources.namespace, name):
                if version is None:
                    break
                if is_seen(version):
                    return dict(version)
    except TimeoutError:
        raise UsageError(
            f"The operator has not seen the change of {name} within {SEEN_SECONDS:g} s: does it run? Then try again"
        ) from None
    raise UsageError(f"The WorkerPool {name} was deleted meanwhile")


def is_seen(body: Mapping[str, Any]) -> bool:
    """Whether the operator knows the template of the pool's spec as one of its versions, or won't begin with it."""
    status, metadata = body.get("status") or {}, body["metadata"]
    rollout = status.get("rollout") or {}
    if wishes_of(body).paused:
        return True
    known = {rollout.get(name) for name in ("stableHash", "canaryHash", "rolledBackHash")}
    template = template_hash(metadata["namespace"], metadata["name"], body["spec"]["template"])
    return (status.get("observedGeneration") or 0) >= metadata["generation"] and template in known


def describe(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a pool's status says of its rollout, with nulls where it says nothing."""
    rollout = (body.get("status") or {}).get("rollout") or {}
    names = (
        *("phase", "reason", "message", "stableHash", "deployment", "canaryHash", "rolledBackHash", "step"),
        *("workers", "startedAt", "stepStartedAt", "watchedSince", "succeededJobs", "failedJobs", "restarts"),
    )
    wishes = wishes_of(body)
    return {
        "pool": body["metadata"]["name"],
        **{name: rollout.get(name) for name in names},
        "steps": len((body["spec"].get("rollout") or {}).get("steps") or ()) or None,
        "paused": wishes.paused,
    }


def wish_for(word: Word, body: Mapping[str, Any]) -> Wish:
    """What a person's word asks for. Raises UsageError where there is no version that it could mean."""
    document, wishes, name = describe(body), wishes_of(body), body["metadata"]["name"]
    canary, back = document["canaryHash"], document["rolledBackHash"]
    if word is Word.PAUSE:
        if wishes.paused:
            return Wish({}, canary, "", f"Rollouts of {name} are paused: nothing to do")
        return Wish(
            {PAUSE_ANNOTATION: "true"},
            canary,
            f"Would pause rollouts of {name}",
            f"Paused rollouts of {name}: no step ends and none begins. A version that fails still goes back",
        )
    if word is Word.RESUME:
        if not wishes.paused:
            return Wish({}, canary, "", f"Rollouts of {name} are not paused: nothing to do")
        does = f"Resumed rollouts of {name}"
        return Wish({PAUSE_ANNOTATION: "false"}, canary, f"Would resume rollouts of {name}", does)
    if word is Word.PROMOTE and (canary or back):
        version = canary or back
        return Wish(
            {PROMOTE_ANNOTATION: version, ABORT_ANNOTATION: ""},
            version,
            f"Would give all workers of {name} the version {version}",
            f"All workers of {name} get the version {version}, whatever becomes of its jobs",
        )
    if word is Word.ABORT and canary:
        return Wish(
            {ABORT_ANNOTATION: canary, PROMOTE_ANNOTATION: ""},
            canary,
            f"Would take the version {canary} of {name} back",
            f"The version {canary} of {name} goes back. It is not tried again before the template changes",
        )
    raise UsageError(
        f"{name} rolls nothing out ({printable(document['phase'] or 'not seen by the operator yet')})"
    )


def next_commands(document: Mapping[str, Any], pool: str, namespace: str) -> list[str]:
    """What a person may want to do next."""
    where = "" if namespace == DEFAULT_NAMESPACE else f" -n {namespace}"
    if document["paused"]:
        return [f"Go on with: kubectl imports rollout resume {pool}{where}"]
    if document["canaryHash"] is not None:
        return [f"Go back with: kubectl imports rollout abort {pool}{where}"]
    if document["rolledBackHash"] is not None:
        return [f"Change the template, or try it all the same: kubectl imports rollout promote {pool}{where}"]
    return []


def _why(document: Mapping[str, Any]) -> str:
    return f" ({document['message']})" if document["message"] else ""


async def _read(sources: Sources, pool: str) -> dict[str, Any]:
    body = await sources.kube.get(WORKER_POOL, sources.namespace, pool) if is_object_name(pool) else None
    if body is None:
        raise UsageError(f"There is no WorkerPool {printable(pool)} in namespace {sources.namespace}")
    return body
