"""Empty jobs through procrastinate: ADDRESS CONCURRENCY JOBS, in a new database."""

import os
import sys

import uvloop
from procrastinate import App, PsycopgConnector
from taken import PAYLOAD, Clock


async def main(address: str, concurrency: int, jobs: int) -> None:
    """Enqueue all, then work until nothing is left."""
    app = App(connector=PsycopgConnector(conninfo=address, min_size=1, max_size=concurrency + 4))

    @app.task(name="nothing")
    async def nothing(payload: str) -> None:
        """Do nothing."""

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for start in range(0, jobs, 500):
            number = min(500, jobs - start)
            await nothing.batch_defer_async(*({"payload": PAYLOAD} for _ in range(number)))
        clock = Clock(os.getpid())
        await app.run_worker_async(
            concurrency=concurrency, wait=False, listen_notify=False, install_signal_handlers=False
        )
        clock.show()
        done = await app.job_manager.list_jobs_async(status="succeeded")
        if len(list(done)) != jobs:
            raise SystemExit("not all jobs were completed")


uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
