"""Empty jobs through procrastinate: ADDRESS CONCURRENCY JOBS WARM_UP, in a new database."""

import os
import sys

import uvloop
from procrastinate import App, PsycopgConnector
from taken import PAYLOAD, Clock


async def main(address: str, concurrency: int, jobs: int, warm_up: int) -> None:
    """Enqueue, then work until nothing is left; first the jobs of the warm-up, then those that count."""
    app = App(connector=PsycopgConnector(conninfo=address, min_size=1, max_size=concurrency + 4))

    @app.task(name="nothing")
    async def nothing(payload: str) -> None:
        """Do nothing."""

    async def enqueue(jobs: int) -> None:
        for start in range(0, jobs, 500):
            number = min(500, jobs - start)
            await nothing.batch_defer_async(*({"payload": PAYLOAD} for _ in range(number)))

    async def work() -> None:
        await app.run_worker_async(
            concurrency=concurrency, wait=False, listen_notify=False, install_signal_handlers=False
        )

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await enqueue(warm_up)
        await work()
        await enqueue(jobs)
        clock = Clock(os.getpid())
        await work()
        clock.show()
        done = await app.job_manager.list_jobs_async(status="succeeded")
        if len(list(done)) != warm_up + jobs:
            raise SystemExit("not all jobs were completed")


uvloop.run(main(sys.argv[1], *(int(argument) for argument in sys.argv[2:5])))
