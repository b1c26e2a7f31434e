"""Empty jobs through arq: ADDRESS CONCURRENCY JOBS. It looks every millisecond instead of twice a second."""

import asyncio
import os
import sys

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func
from taken import PAYLOAD, Clock


async def nothing(_context: dict[str, object], _payload: str) -> None:
    """Do nothing."""


async def main(address: str, concurrency: int, jobs: int) -> None:
    """Enqueue all, then work until nothing is left."""
    settings = RedisSettings.from_dsn(address)
    pool = await create_pool(settings)
    for start in range(0, jobs, 100):
        numbers = range(start, min(start + 100, jobs))
        await asyncio.gather(*(pool.enqueue_job("nothing", PAYLOAD, _job_id=f"j-{n}") for n in numbers))
    worker = Worker(
        [func(nothing, name="nothing", keep_result=0)],
        redis_settings=settings,
        burst=True,
        max_jobs=concurrency,
        poll_delay=0.001,
        handle_signals=False,
    )
    clock = Clock(os.getpid())
    await worker.main()
    clock.show()
    if worker.jobs_complete != jobs:
        raise SystemExit(f"{worker.jobs_complete} of {jobs} jobs were completed")
    await worker.close()


uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
