"""Which queues worker pools serve, and how many workers they want."""

from import_gateway.live.queues import Served, served_queues


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
