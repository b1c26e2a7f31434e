"""Empty jobs through celery: ADDRESS PROCESSES JOBS WARM_UP. Acknowledged when done, results ignored, as ours are."""

import os
import subprocess
import sys
import time
from pathlib import Path

from celery import Celery
from redis import Redis
from taken import PAYLOAD, Clock

app = Celery("celery_jobs", broker=os.environ["PEER_BROKER"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="nothing")  # type: ignore[untyped-decorator,unused-ignore]
def nothing(_payload: str) -> None:
    """Do nothing."""


def main(processes: str, jobs: int, warm_up: int) -> None:
    """Enqueue all, start a worker, and watch its queue from the end of the warm-up to the last acknowledgement."""
    redis = Redis.from_url(os.environ["PEER_BROKER"])
    with app.pool.acquire(block=True) as connection:
        for _ in range(warm_up + jobs):
            nothing.apply_async((PAYLOAD,), connection=connection)
    command = [sys.executable, "-m", "celery", "-A", "celery_jobs", "worker", "-c", processes, "-l", "ERROR"]
    worker = subprocess.Popen(
        [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"],
        cwd=Path(__file__).parent,
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        while redis.llen("celery") > jobs:
            time.sleep(0.002)
            if worker.poll() is not None:
                raise SystemExit("the worker ended")
        clock = Clock(worker.pid)
        while redis.llen("celery") or redis.hlen("unacked"):
            time.sleep(0.005)
        clock.show()
    finally:
        worker.terminate()
        worker.wait(30)


if __name__ == "__main__":
    main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
