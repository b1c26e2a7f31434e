"""Invariant 4 by the sample providers' own counters: 10 workers on 20 connections, through a FLUSHALL."""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis

from import_core.adapters.redis.limiter import SAFETY_MARGIN, declare_no_recent_calls
from import_local.samples.app import RunningSamples, serve_samples
from import_local.samples.counters import most_in_window
from import_local.samples.settings import SampleSettings

CALLER = Path(__file__).parents[2] / "limit_caller.py"
PROCESSES, WORKERS_EACH, CONNECTIONS = 5, 2, 20
MINUTE = 60.0
SHARE = 0.95
"""Of the limit, that has to be used while there is demand."""


@dataclass
class Crowd:
    """Ten workers in five processes that call every connection as often as the limiter lets them."""

    running: RunningSamples
    redis_url: str
    requests: int
    scale: float
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def window(self) -> float:
        return MINUTE / self.scale

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Let all of them call; each connection's first calls come at a time of their own."""
        order = {
            "redis_url": self.redis_url,
            "roastify_url": self.running.roastify_url,
            "requests": self.requests,
            "scale": self.scale,
            "workers": WORKERS_EACH,
            "accounts": {name(n): random.uniform(0, self.window / 2) for n in range(CONNECTIONS)},
        }
        try:
            for _ in range(PROCESSES):
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    str(CALLER),
                    json.dumps(order),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    env={"PATH": os.environ["PATH"]},
                )
                self.processes.append(process)
            # There is demand for the whole limit only once all of them call.
            for process in self.processes:
                assert process.stdout is not None
                assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
            for process in self.processes:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
            yield
        finally:
            for process in self.processes:
                if process.stdin is not None:
                    process.stdin.close()
            codes = [await asyncio.wait_for(process.wait(), 30) for process in self.processes]
        assert codes == [0] * PROCESSES

    def times(self, number: int) -> list[float]:
        """When the provider was called, by its own clock."""
        return sorted(call.at for call in self.running.account("roastify", name(number)).counters.calls)

    async def until_called(self, *, after: float, windows: float) -> list[float]:
        """Wait until every connection was called after a time, and for so many windows; returns the starts."""
        starts: list[float] = []
        async with asyncio.timeout(self.window * 2 + 60):
            while len(starts) < CONNECTIONS:
                assert all(process.returncode is None for process in self.processes), "a call failed"
                await asyncio.sleep(0.05)
                found = [[at for at in self.times(number) if at > after] for number in range(CONNECTIONS)]
                starts = [times[0] for times in found if times]
        # The demand has to last for as long as the use of the limit is measured.
        await asyncio.sleep(max(0.0, max(starts) + windows * self.window - time.monotonic()))
        return starts


def name(number: int) -> str:
    return f"tiny-1-{number}"


def used(times: Sequence[float], start: float, seconds: float) -> int:
    return sum(start <= at < start + seconds for at in times)


async def prove(redis_url: str, *, requests: int, scale: float) -> None:
    settings = SampleSettings(roastify_requests=requests, roastify_window_seconds=MINUTE / scale)
    async with serve_samples(settings) as running, Redis.from_url(redis_url) as redis:
        await declare_no_recent_calls(redis)
        crowd = Crowd(running, redis_url, requests, scale)
        async with crowd.at_work():
            starts = await crowd.until_called(after=0.0, windows=2)
            flushed_at = time.monotonic()
            await redis.flushall()
            again = await crowd.until_called(after=flushed_at + crowd.window / 2, windows=1)
        for number in range(CONNECTIONS):
            times = crowd.times(number)
            assert most_in_window(times, crowd.window) <= requests
            assert running.account("roastify", name(number)).counters.throttled == 0
            assert used(times, starts[number], 2 * crowd.window) >= SHARE * 2 * requests
            # What was granted before the loss is unknown for one window, in which nothing is.
            assert again[number] >= flushed_at + crowd.window
            assert used(times, again[number], crowd.window) >= SHARE * requests
        assert max(again) <= flushed_at + crowd.window + SAFETY_MARGIN + crowd.window / 2


async def test_the_limit_holds_over_all_workers_and_is_used(redis_url: str) -> None:
    """Two minutes, ten times faster; so few calls that a busy machine can make them."""
    await prove(redis_url, requests=10, scale=10)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_the_limit_holds_over_all_workers_in_real_minutes(redis_url: str) -> None:
    await prove(redis_url, requests=100, scale=1)
