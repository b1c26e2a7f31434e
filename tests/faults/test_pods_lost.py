"""Workers that are evicted, and workers that stop for longer than their lease and then wake up."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import UTC, datetime

import pytest
from e2e.world import NAMESPACE

from faults.recovery import after_kills, after_standstill
from faults.report import FaultReport
from faults.scenario import scenario
from faults.world import Fault, FaultWorld, PodProcess
from import_core.adapters.postgres.claims import LEASE_SECONDS

EVICTIONS = 3
BUDGET_SECONDS = 120.0
"""So long an eviction may wait for evicted workers' successors to be ready."""
MOVED_ON = """
SELECT count(*) FROM unnest(%s::text[]) AS held (job_id) JOIN "ProductImportJob" j ON j.id = held.job_id
LEFT JOIN imports.claim k ON k.job_id = j.id
WHERE j.status IN ('COMPLETED', 'FAILED') OR k.claim_id::text <> ALL(%s)
"""


async def evict(world: FaultWorld, pod: str) -> Fault:
    """Evict a pod as a node's drain does: asking again while the disruption budget does not let it go."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    async with asyncio.timeout(BUDGET_SECONDS):
        while True:
            fault = Fault("worker evicted", datetime.now(UTC), pod)
            outcome = await world.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
            # Gone meanwhile, by another fault or a scale-in: that is what was wanted.
            if outcome.code == 0 or "NotFound" in outcome.err:
                return fault
            assert "TooManyRequests" in outcome.err, outcome.err
            await asyncio.sleep(0.5)  # as `kubectl drain` waits: nothing tells when the budget has room


@pytest.mark.long
async def test_pods_go_on_without_the_nodes_agent_and_hand_back_what_they_have_when_evicted(
    world: FaultWorld, fault_report: FaultReport
) -> None:
    async with scenario(world, fault_report, "pods", latency_seconds=1.0) as running:
        async with running.submitting():
            await running.until_running(10)
            before = {worker.process for worker in world.workers()}
            agent = Fault("node agent killed", datetime.now(UTC))
            running.faults.append(agent)
            await world.faults.node.kill_and_restart()
            assert {worker.process for worker in world.workers()} == before, "a worker was started anew"
            await running.until_running(10)
            source = world.random_for("pods/evictions")
            for target in source.sample(world.workers(), EVICTIONS):
                running.faults.append(await evict(world, target.pod))
        await running.settle()
        checked = await running.check()
        running.tell("node agent killed", after_standstill(checked.audit, agent), times=1)
        running.tell("worker evicted", after_kills(checked.audit, running.faults), times=EVICTIONS)
        checked.assert_clean()
        assert all(job.deaths == 0 for job in checked.jobs), "nobody died, so no death may be counted"


@pytest.mark.long
async def test_a_worker_that_sleeps_past_its_lease_changes_nothing_when_it_wakes(
    world: FaultWorld, fault_report: FaultReport
) -> None:
    async with scenario(world, fault_report, "asleep", latency_seconds=1.0) as running:
        await running.submit()
        worker = await world.busiest()
        running.faults.append(world.signal(worker, signal.SIGSTOP, "worker stopped"))
        try:
            held = await world.held_by(worker)
            assert held, "the worker had just finished all it had"

            async def moved_on() -> bool:
                rows = await world.rows(MOVED_ON, list(held), list(held.values()))
                return int(rows[0][0]) == len(held)

            await world.eventually(moved_on, "its jobs run elsewhere", seconds=LEASE_SECONDS + 60)
        finally:
            world.signal(worker, signal.SIGCONT, "worker woken")
        await woken(world, worker, list(held))
        await running.settle()
        checked = await running.check()
        recovery = after_kills(checked.audit, running.faults)
        running.tell("worker stopped", recovery, bound=f"max ≤ {LEASE_SECONDS + 15:g}")
        checked.assert_clean()
        assert recovery.seconds
        assert max(recovery.seconds) <= LEASE_SECONDS + 15


async def woken(world: FaultWorld, worker: PodProcess, job_ids: list[str]) -> None:
    """Wait until the worker has noticed for each of these jobs that it is not its own any more, or has ended."""

    async def look() -> bool:
        if not worker.is_alive:
            return True
        log = await asyncio.to_thread(worker.read_log)
        lost = {line.get("jobId") for line in log if line.get("event") == "job.lost"}
        return lost >= set(job_ids)

    await world.eventually(look, "the woken worker gives its jobs up", seconds=60)
