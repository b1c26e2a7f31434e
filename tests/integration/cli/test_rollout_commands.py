"""`kubectl imports rollout` against a real API server."""

import asyncio
import json
from typing import Any

import pytest
from cli_world import CliWorld

from import_cli import rollout_commands
from import_core.adapters.kube.resources import WORKER_POOL
from import_core.domain.rollout import Wishes, template_hash
from import_core.domain.rollout_status import wishes_of

UNDER_WAY = {
    "phase": "Progressing",
    "reason": "AwaitingJobs",
    "message": "Waiting for 20 jobs of the new version to end",
    "stableHash": "c03f01f3a1",
    "deployment": "fast-workers",
    "canaryHash": "asked",
    "step": 0,
    "workers": 10,
    "succeededJobs": 11,
    "failedJobs": 0,
    "restarts": 0,
}


async def make_pool(cli: CliWorld, **rollout: Any) -> str:
    """A pool whose template the operator has seen as that version of the rollout which is "asked"; its hash."""
    await cli.pool("fast")
    body = await cli.kube.get(WORKER_POOL, cli.namespace, "fast")
    assert body is not None
    asked = template_hash(cli.namespace, "fast", body["spec"]["template"])
    seen = {key: asked if value == "asked" else value for key, value in rollout.items()}
    await show(cli, rollout=seen, observedGeneration=1)
    return asked


async def show(cli: CliWorld, **status: Any) -> None:
    await cli.kube.patch_status(WORKER_POOL, cli.namespace, "fast", status, resource_version=None)


async def wishes(cli: CliWorld) -> Wishes:
    body = await cli.kube.get(WORKER_POOL, cli.namespace, "fast")
    assert body is not None
    return wishes_of(body)


async def said(cli: CliWorld, *words: str) -> str:
    result = await cli.invoke("rollout", *words)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


async def test_a_rollout_is_shown_and_steered(cli: CliWorld) -> None:
    asked = await make_pool(cli, **UNDER_WAY)
    under_way = {**UNDER_WAY, "canaryHash": asked}
    shown = await said(cli, "status", "fast")
    assert shown.startswith("fast: Progressing (Waiting for 20 jobs of the new version to end)\n")
    assert asked in shown
    assert "step 0 of 2" in shown
    document: dict[str, Any] = json.loads(await said(cli, "status", "fast", "-o", "json"))
    assert {key: document[key] for key in under_way} == under_way
    assert (document["pool"], document["rolledBackHash"], document["paused"]) == ("fast", None, False)

    assert "Would pause" in await said(cli, "pause", "fast", "--dry-run")
    assert not (await wishes(cli)).paused
    await said(cli, "pause", "fast")
    assert (await wishes(cli)).paused
    assert "nothing to do" in await said(cli, "pause", "fast")
    await said(cli, "resume", "fast")
    assert not (await wishes(cli)).paused

    promoted = json.loads(await said(cli, "promote", "fast", "-o", "json"))
    assert promoted == {
        "pool": "fast",
        "word": "promote",
        "dryRun": False,
        "version": asked,
        "changed": True,
    }
    assert await wishes(cli) == Wishes(promote=asked)
    await said(cli, "abort", "fast")
    assert await wishes(cli) == Wishes(abort=asked)


async def test_what_can_not_be_meant_is_named(cli: CliWorld) -> None:
    await make_pool(cli, phase="UpToDate", stableHash="asked", deployment="d")
    nothing = await cli.invoke("rollout", "abort", "fast")
    assert (nothing.exit_code, nothing.stderr) == (2, "fast rolls nothing out (UpToDate)\n")
    unknown = await cli.invoke("rollout", "status", "nobody")
    assert unknown.exit_code == 2
    assert "There is no WorkerPool nobody" in unknown.stderr


async def test_a_change_that_the_operator_has_not_seen_yet_is_waited_for(cli: CliWorld) -> None:
    await make_pool(cli, phase="UpToDate", stableHash="old", deployment="d")
    asking = asyncio.create_task(said(cli, "promote", "fast"))
    body = await cli.kube.get(WORKER_POOL, cli.namespace, "fast")
    assert body is not None
    asked = template_hash(cli.namespace, "fast", body["spec"]["template"])
    await show(cli, rollout={"phase": "Progressing", "stableHash": "old", "canaryHash": asked})
    assert asked in await asking
    assert await wishes(cli) == Wishes(promote=asked)


async def test_an_operator_that_sees_nothing_is_not_waited_for_without_end(
    cli: CliWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_commands, "SEEN_SECONDS", 0.1)
    await make_pool(cli, phase="UpToDate", stableHash="old", deployment="d")
    result = await cli.invoke("rollout", "promote", "fast")
    assert result.exit_code == 2
    assert "has not seen the change of fast within 0.1 s" in result.stderr
    assert await wishes(cli) == Wishes()
    # Nothing begins while rollouts are paused: there is nothing to wait for.
    await said(cli, "pause", "fast")
    paused = await cli.invoke("rollout", "promote", "fast")
    assert (paused.exit_code, paused.stderr) == (2, "fast rolls nothing out (UpToDate)\n")
