"""One replica leads; another takes over when it dies, stops, or loses the Lease."""

import asyncio
import json

from eventually import eventually
from operator_world import Cluster, Operators, TakingWorker

from import_core.adapters.kube.resources import LEASE


async def holder(cluster: Cluster) -> str:
    body = await cluster.kube.get(LEASE, cluster.namespace, "import-operator")
    return str(body["spec"].get("holderIdentity") or "") if body else ""


async def test_one_of_two_leads_and_the_other_takes_over_after_a_kill(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    first = await operators.leading()
    second = await operators.start()
    await eventually(lambda: _logged(second, "operator.started"), what="the standby")
    await cluster.provider()
    await cluster.pool()
    await cluster.job("one")
    claim = await worker.take()
    assert not await second.leads()

    first.kill()
    await first.process.wait()
    # How soon is shown without a machine's slowness by tests/unit/test_leadership.py, and with it by the fault tests.
    await second.wait_leading()
    await worker.finish(claim)
    await cluster.phase("one", "Succeeded")
    lease = await cluster.get(LEASE, "import-operator")
    assert lease["spec"]["leaseTransitions"] == 1


async def test_replica_that_stops_gives_the_lease_back(cluster: Cluster, operators: Operators) -> None:
    first = await operators.leading()
    assert (await holder(cluster)).startswith("operator-0_")
    assert await first.stop() == 0
    assert await holder(cluster) == ""
    assert first.logged("lease.released")


async def test_replica_that_lost_the_lease_ends(cluster: Cluster, operators: Operators) -> None:
    first = await operators.leading()
    usurper = json.dumps({"spec": {"holderIdentity": "usurper", "leaseDurationSeconds": 3600}})
    await cluster.kubectl("patch", "lease", "import-operator", "--type=merge", "-p", usurper)
    assert await asyncio.wait_for(first.process.wait(), 60) == 1
    assert "SupersededError" in first.log.read_text()
    assert await holder(cluster) == "usurper"


async def _logged(operator: object, event: str) -> bool:
    return bool(operator.logged(event))  # type: ignore[attr-defined]
