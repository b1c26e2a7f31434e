"""An operator's readiness follows its neighbours, and its liveness does not."""

import json
from itertools import pairwise

import httpx2
from eventually import eventually
from operator_world import Cluster, Operator, Operators
from test_operator_outages import door

from import_core.adapters.kube.resources import DEPLOYMENT, WORKER_POOL


async def probe(operator: Operator, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{operator.health_port}{path}", timeout=5)


async def ready(operator: Operator, reason: str | None, *, seconds: float = 30) -> None:
    async def is_so() -> bool:
        try:
            answer = await probe(operator, "/readyz")
        except httpx2.TransportError:
            return False  # not listening yet
        assert answer.status_code == (200 if answer.json()["ready"] else 503)
        return bool(answer.json() == {"ready": reason is None, "reason": reason})

    await eventually(is_so, seconds=seconds, what=f"readiness: {reason}")
    assert (await probe(operator, "/healthz")).status_code == 200


async def test_readiness_says_who_is_away(
    cluster: Cluster, operators: Operators, database_url: str, redis_url: str
) -> None:
    async with door(database_url) as database, door(redis_url) as redis:
        operator = await operators.leading(
            DATABASE_URL=database.through(database_url), REDIS_URL=redis.through(redis_url)
        )
        standby = await operators.start(
            DATABASE_URL=database.through(database_url), REDIS_URL=redis.through(redis_url)
        )
        await ready(operator, None)
        await ready(standby, None)
        await cluster.pool("steady", scaling={"minReplicas": 3, "maxReplicas": 5})
        await cluster.condition(WORKER_POOL, "steady", "ScalingActive", "True")
        await redis.cut()
        await ready(operator, "no answer from Redis")
        await ready(standby, "no answer from Redis")
        await database.cut()
        await ready(operator, "no answer from PostgreSQL and Redis")
        assert (await cluster.get(DEPLOYMENT, "steady-workers"))["spec"]["replicas"] == 3
        await redis.heal()
        await ready(operator, "no answer from PostgreSQL")
        await database.heal()
        await ready(operator, None)
        await ready(standby, None)
        assert operator.process.returncode is None
        assert standby.process.returncode is None
        told: dict[str, list[str]] = {}
        for line in map(json.loads, operator.logged("neighbour.away", "neighbour.there")):
            told.setdefault(line["neighbour"], []).append(line["event"])
        # A line for each change, and not for each question: a machine that stands still may add an absence.
        assert {name for name, events in told.items() if "neighbour.away" in events} == {
            "PostgreSQL",
            "Redis",
        }
        assert all(one != following for events in told.values() for one, following in pairwise(events))
