"""What the load test and the soak see of a running installation: every value, of every process."""

from __future__ import annotations

import asyncio

from eventually import eventually

from e2e.world import World
from import_core.adapters.tasks import end_tasks
from import_local.load.sampling import Sampler
from import_local.load.timeline import Sample, read_timeline


async def complete(seen: list[Sample]) -> Sample | None:
    """The first sample that tells something of each server."""
    for sample in seen:
        numbers = (sample.depth, sample.later, sample.completed, sample.failed, sample.redis_keys)
        telling = (sample.postgres_connections, sample.redis_connections, sample.redis_bytes)
        if None not in (*numbers, sample.desired, sample.ready) and all(telling):
            return sample
    return None


async def test_a_sample_tells_everything_of_a_running_installation(world: World, tmp_path) -> None:
    seen: list[Sample] = []
    file = tmp_path / "timeline.jsonl"
    sampler = Sampler(
        world.installation,
        world.kube,
        every_seconds=1.0,
        file=file,
        seen=seen.append,
    )
    task = asyncio.create_task(sampler.run())
    try:
        # A server that a busy machine lets answer too late is missing in a sample, and not in the next.
        sample: Sample = await eventually(
            lambda: complete(seen), seconds=90, what="a sample in which nothing is missing"
        )
    finally:
        await end_tasks([task])
    ours = [each for each in sample.processes if each.role in {"operator", "gateway", "worker"}]
    assert {each.role for each in ours} == {"operator", "gateway", "worker"}
    for process in ours:
        assert process.memory > 2**20
        assert process.files
        assert process.postgres_connections
    assert all(each.redis_connections for each in ours if each.role != "gateway")
    servers = {each.role for each in sample.processes} - {each.role for each in ours}
    assert {"postgres", "valkey", "object-store", "kube-apiserver", "etcd", "samples", "kubelet"} <= servers
    assert sample in await asyncio.to_thread(read_timeline, file)
