"""Which queues worker pools serve, and how many workers they want."""

from collections.abc import AsyncIterator
from typing import Any

from import_core.domain.errors import KubernetesUnavailableError
from import_gateway.live.queues import POOLS_SECONDS, QueueReports, Served, served_queues


def test_without_a_pool_there_is_the_default_queue() -> None:
    assert served_queues([]) == [Served("product-imports")]


def test_pools_of_one_queue_count_together_and_an_unknown_wish_is_not_zero() -> None:
    pools = [
        {"spec": {"queue": "b"}, "status": {"desiredReplicas": 3}},
        {"spec": {"queue": "b"}},
        {"spec": {"queue": "b"}, "status": {"desiredReplicas": 2}},
        {"spec": {}, "status": {}},
        {"spec": {"queue": "zero"}, "status": {"desiredReplicas": 0}},
    ]
    assert served_queues(pools) == [Served("b", 5), Served("product-imports", None), Served("zero", 0)]


class Away:
    """An API server that does not answer."""

    def __init__(self) -> None:
        self.asked = 0

    async def list(self, *_what: Any, **_options: Any) -> AsyncIterator[dict[str, Any]]:
        self.asked += 1
        raise KubernetesUnavailableError
        yield {}


async def test_api_server_that_is_away_is_asked_once_in_a_while() -> None:
    now, kube, database = 0.0, Away(), None
    reports = QueueReports(database, kube, namespace="shop", clock=lambda: now)  # type: ignore[arg-type]
    for _ in range(3):
        assert await reports.served() == ["product-imports"]
    assert kube.asked == 1
    now = POOLS_SECONDS
    await reports.served()
    assert kube.asked == 2
