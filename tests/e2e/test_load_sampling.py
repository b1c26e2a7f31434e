"""What the load test and the soak see of a running installation: every value, of every process."""

from __future__ import annotations

import asyncio

from e2e.world import World
from import_core.adapters.tasks import end_tasks
from import_local.load.sampling import Sampler
from import_local.load.timeline import Sample, read_timeline


async def test_a_sample_tells_everything_of_a_running_installation(world: World, tmp_path) -> None:
    first: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
    file = tmp_path / "timeline.jsonl"
    sampler = Sampler(
        world.installation,
        world.kube,
        every_seconds=1.0,
        file=file,
        seen=lambda sample: None if first.done() else first.set_result(sample),
    )
    task = asyncio.create_task(sampler.run())
    try:
        sample = await asyncio.wait_for(first, 60)
    finally:
        await end_tasks([task])
    assert None not in (sample.depth, sample.later, sample.completed, sample.failed, sample.redis_keys)
    assert (sample.desired, sample.ready) != (None, None)
    assert sample.postgres_connections
    assert sample.redis_connections
    assert sample.redis_bytes
    ours = [each for each in sample.processes if each.role in {"operator", "gateway", "worker"}]
    assert {each.role for each in ours} == {"operator", "gateway", "worker"}
    for process in ours:
        assert process.memory > 2**20
        assert process.files
        assert process.postgres_connections
    assert all(each.redis_connections for each in ours if each.role != "gateway")
    servers = {each.role for each in sample.processes} - {each.role for each in ours}
    assert {"postgres", "valkey", "object-store", "kube-apiserver", "etcd", "samples", "kubelet"} <= servers
    assert (await asyncio.to_thread(read_timeline, file))[0] == sample
