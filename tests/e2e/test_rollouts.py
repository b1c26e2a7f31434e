"""Versions of the workers are rolled out by themselves: a good one gets everywhere, bad ones go back."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from eventually import eventually

from e2e.test_refusals import connect
from e2e.world import NAMESPACE, Json, World, condition_of, job
from import_core.adapters.kube.resources import WORKER_POOL

POOL = "product-imports"
QUICK = {
    "initialReplicas": 1,
    "initialPauseSeconds": 0,
    "minSuccessPercent": 90,
    "minJobs": 5,
    "steps": [{"percent": 60, "pauseSeconds": 1}, {"percent": 100}],
}
AT_ONCE = {**QUICK, "minJobs": 0, "minSuccessPercent": 0, "steps": [{"percent": 100}]}
ENVIRONMENT = "/spec/template/spec/containers/0/env"
BATCH = 12
ROLLOUT_SECONDS = 240.0
"""A rollout starts workers in two steps, which a busy machine takes a minute for."""


class Pool:
    """The pool's template and rollouts, and jobs to judge them by."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.jobs = 0

    async def patch(self, *changes: Json) -> None:
        outcome = await self.world.kubectl(
            *("patch", "workerpool", POOL, "-n", NAMESPACE, "--type=json", "-p", json.dumps(changes))
        )
        assert outcome.code == 0, outcome.err

    async def roll_out(self, rollout: Json, **environment: str) -> str:
        """Change the template; returns the hash of the version before."""
        before = str((await self.rollout())["stableHash"])
        env = [{"name": name, "value": value} for name, value in environment.items()]
        await self.patch(
            {"op": "add", "path": "/spec/rollout", "value": rollout},
            {"op": "add", "path": ENVIRONMENT, "value": env},
        )
        return before

    async def body(self) -> Json:
        body = await self.world.kube.get(WORKER_POOL, NAMESPACE, POOL)
        assert body is not None
        return body

    async def rollout(self) -> Json:
        return dict((await self.body())["status"].get("rollout") or {})

    async def until(self, phase: str, *, seconds: float = 150) -> Json:
        def there(body: Json) -> bool:
            return ((body.get("status") or {}).get("rollout") or {}).get("phase") == phase

        return await self.world.until(WORKER_POOL, POOL, there, seconds=seconds)

    async def deployments(self) -> dict[str, Json]:
        outcome = await self.world.kubectl("get", "deployments", "-n", NAMESPACE, "-o", "json")
        return {
            item["metadata"]["name"]: item
            for item in json.loads(outcome.out)["items"]
            if item["metadata"]["name"].startswith(f"{POOL}-workers")
        }

    async def run_jobs(self) -> list[str]:
        """A batch, half of it of catalogues with three products; returns how the jobs ended."""
        names = [f"rollout-{self.jobs + n}" for n in range(BATCH)]
        self.jobs += BATCH
        shops = ("rollout-two", "rollout-three")
        await self.world.apply(
            *(job(name, company=shops[n % 2], provider_name=shops[n % 2]) for n, name in enumerate(names))
        )
        return [str((await self.world.finished(name))["phase"]) for name in names]

    async def run_jobs_until(self, phase: str) -> list[str]:
        """Batches one after another until the rollout has ended so."""
        ended: list[str] = []
        began = time.monotonic()
        while time.monotonic() - began < ROLLOUT_SECONDS:
            ended += await self.run_jobs()
            if (await self.rollout()).get("phase") == phase:
                return ended
        raise AssertionError(f"not {phase} after {len(ended)} jobs: {await self.rollout()}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(world: World) -> AsyncIterator[Pool]:
    """The installation's pool, which has its own template again at the end."""
    await connect(world, "rollout-two", shop="tiny-2-1-rollouttwo")
    await connect(world, "rollout-three", shop="tiny-3-1-rolloutthree")
    found = Pool(world)
    await found.until("UpToDate")
    yield found
    await found.patch(
        {"op": "add", "path": "/spec/rollout", "value": AT_ONCE},
        {"op": "remove", "path": ENVIRONMENT},
    )
    await found.until("UpToDate")
    await world.until(
        WORKER_POOL,
        POOL,
        lambda body: body["status"].get("replicas") == body["status"].get("readyReplicas") == 2,
    )


async def test_a_good_version_gets_everywhere(pool: Pool) -> None:
    before = await pool.roll_out(QUICK, VERSION="2")
    await pool.until("Progressing")
    assert set(await pool.run_jobs_until("UpToDate")) == {"Succeeded"}
    rollout = await pool.rollout()
    assert rollout["stableHash"] != before
    assert rollout["deployment"] == f"{POOL}-workers-{rollout['stableHash']}"

    def all_new(body: Json) -> bool:
        status = body["status"]
        return bool(
            condition_of(status, "RolledOut").get("status") == "True"
            and (status.get("readyReplicas"), status.get("replicas")) == (2, 2)
        )

    await pool.world.until(WORKER_POOL, POOL, all_new)
    versions = await pool.world.sql(
        "SELECT template_hash, count(*) > 0 FROM imports.run_end GROUP BY 1 HAVING count(*) >= 5 ORDER BY 1"
    )
    assert (rollout["stableHash"], True) in versions
    shown = await pool.world.imports("rollout", "status", POOL, "-o", "json")
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["stableHash"] == rollout["stableHash"]


async def test_a_crashing_version_goes_back_and_costs_no_worker(pool: Pool) -> None:
    before = await pool.roll_out(QUICK, IMPORT_MAX_PRODUCTS="0")
    body = await pool.until("RolledBack")
    rollout = body["status"]["rollout"]
    assert (rollout["reason"], rollout["stableHash"]) == ("WorkersRestart", before)
    assert body["status"]["readyReplicas"] == 2
    await expect_only(pool, rollout["deployment"])

    async def told() -> bool:
        events = await pool.world.kubectl("get", "events.events.k8s.io", "-n", NAMESPACE, "-o", "json")
        notes = [item["note"] for item in json.loads(events.out)["items"] if item["reason"] == "RolledBack"]
        return any("restarted" in note for note in notes)

    await eventually(told, what="the Event about the crashing version")
    assert set(await pool.run_jobs()) == {"Succeeded"}


async def test_a_version_whose_jobs_fail_more_often_goes_back(pool: Pool) -> None:
    before = await pool.roll_out(QUICK, IMPORT_MAX_PRODUCTS="2")
    ended = await pool.run_jobs_until("RolledBack")
    assert set(ended) == {"Succeeded", "Failed"}
    rollout = await pool.rollout()
    assert (rollout["reason"], rollout["stableHash"]) == ("JobsFail", before)
    await expect_only(pool, rollout["deployment"])
    assert set(await pool.run_jobs()) == {"Succeeded"}
    condition = condition_of((await pool.body())["status"], "RolledOut")
    assert condition["reason"] == "RolledBackJobsFail"
    shown = await pool.world.imports("rollout", "status", POOL)
    assert "RolledBack" in shown.out
    assert "rollout promote" in shown.out


async def expect_only(pool: Pool, deployment: str) -> None:
    """Wait until the other version's Deployment is gone."""

    def alone(body: Json) -> bool:
        status: dict[str, Any] = body["status"]
        return (status.get("replicas"), status.get("readyReplicas")) == (2, 2)

    await pool.world.until(WORKER_POOL, POOL, alone)

    async def gone() -> bool:
        return set(await pool.deployments()) == {deployment}

    await eventually(gone, seconds=90, what=f"{deployment} alone")
