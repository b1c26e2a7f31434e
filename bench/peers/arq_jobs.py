"""Empty jobs through arq: ADDRESS CONCURRENCY JOBS WARM_UP. It looks every millisecond instead of twice a second."""

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


async def main(address: str, concurrency: int, jobs: int, warm_up: int) -> None:
    """Enqueue, then work until nothing is left; first the jobs of the warm-up, then those that count."""
    settings = RedisSettings.from_dsn(address)
    pool = await create_pool(settings)

    async def enqueue(name: str, number: int) -> None:
        for start in range(0, number, 100):
            ids = (f"{name}-{n}" for n in range(start, min(start + 100, number)))
            await asyncio.gather(*(pool.enqueue_job("nothing", PAYLOAD, _job_id=one) for one in ids))

    worker = Worker(
        [func(nothing, name="nothing", keep_result=0)],
        redis_settings=settings,
        burst=True,
        max_jobs=concurrency,
        poll_delay=0.001,
        handle_signals=False,
    )
    await enqueue("w", warm_up)
    await worker.main()
    await enqueue("j", jobs)
    clock = Clock(os.getpid())
    await worker.main()
    clock.show()
    if worker.jobs_complete != warm_up + jobs:
        raise SystemExit(f"{worker.jobs_complete} of {warm_up + jobs} jobs were completed")
    await worker.close()


uvloop.run(main(sys.argv[1], *(int(argument) for argument in sys.argv[2:5])))
