"""Workers of the limit's proof in a process of their own: call every connection as often as the limiter lets them.

Run as `python limit_caller.py JSON`: says that it is ready, begins when a line tells it to, and ends when its standard
input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from import_core.adapters.redis.limiter import SlidingWindowLimiter
from import_core.adapters.redis.queue import connect
from import_core.domain.addresses import parse_allow_list
from import_worker.providers.base import CatalogueFilter, Connection
from import_worker.providers.registry import PROVIDERS

MINUTE = 60.0


async def call_for_ever(redis_url: str, account: str, delay: float, order: dict[str, Any]) -> None:
    """One worker's calls of one connection."""
    client = connect(redis_url, client_name="limit-caller")
    limiter = SlidingWindowLimiter(
        client,
        key=f"imports/{account}",
        requests=order["requests"],
        per_seconds=MINUTE,
        clock_scale=order["scale"],
        max_wait=10 * MINUTE,
    )
    connection = Connection(
        key=f"imports/{account}",
        type="roastify",
        company_id=account,
        base_url=f"{order['roastify_url']}/{account}/v1",
        credentials={"apiKey": "rty_test_example"},
        allow=parse_allow_list("127.0.0.1"),
    )
    provider = PROVIDERS["roastify"](connection, limiter, CatalogueFilter())
    await asyncio.sleep(delay)
    while True:
        await provider.check()


async def main(order: dict[str, Any]) -> None:
    """Until there is nobody who wants it any more; a call that fails ends all."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    async with asyncio.TaskGroup() as group:
        calling = [
            group.create_task(call_for_ever(order["redis_url"], account, delay, order))
            for account, delay in order["accounts"].items()
            for _ in range(order["workers"])
        ]
        await asyncio.to_thread(sys.stdin.read)
        for task in calling:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
