"""So many workers of 2 vCPU and 4 GiB always find a place, whatever AWS has left to give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from infra.capacity import (
    AUTOMATIC_CPUS,
    automatic_limits,
    instance_size,
    nodes_for_workers,
    workers_per_node,
)

TYPES = ["c7i.2xlarge", "c7i.4xlarge", "m7i.2xlarge", "m6i.2xlarge", "m7g.4xlarge", "r7i.2xlarge"]


@pytest.mark.parametrize(
    ("instance_type", "cpu", "memory", "workers"),
    [
        ("m7i.2xlarge", 8, 32, 3),
        ("c7i.2xlarge", 8, 16, 3),
        # 7 by CPU; the seventh would take what the kubelet keeps.
        ("c7i.4xlarge", 16, 32, 6),
        ("m7i.4xlarge", 16, 64, 7),
        ("c6gn.xlarge", 4, 8, 1),
    ],
)
def test_workers_of_one_node(instance_type, cpu, memory, workers):
    size = instance_size(instance_type)
    assert (size.cpu, size.memory) == (cpu, memory)
    assert workers_per_node(instance_type) == workers


@pytest.mark.parametrize("instance_type", ["t3.large", "m7i.metal", "large", "x2idn.16xlarge"])
def test_families_with_other_rules_are_refused_by_name(instance_type):
    with pytest.raises(ValueError, match=instance_type.replace(".", r"\.")):
        instance_size(instance_type)


def test_a_type_without_room_for_a_worker_is_refused():
    with pytest.raises(ValueError, match=r"m7i\.large has no room for a worker"):
        workers_per_node("m7i.large")


@given(st.integers(1, 1000), st.lists(st.sampled_from(TYPES), min_size=1, unique=True))
def test_enough_nodes_whichever_type_each_of_them_gets(workers, types):
    nodes = nodes_for_workers(workers, types)
    for each in types:
        assert nodes * workers_per_node(each) >= workers


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.sampled_from(AUTOMATIC_CPUS), st.sampled_from("cm")), min_size=1),
)
def test_an_automatic_pool_grows_until_all_workers_run_whatever_it_buys(workers, choices):
    limits = automatic_limits(workers)
    cpu, memory, room = limits.cpu, limits.memory, 0
    # Types that would pass the limit are passed over; the smallest is bought when nothing else fits.
    for cpus, family in [*choices, *[(8, "c")] * 400]:
        name = f"{family}7i.{cpus // 4}xlarge"
        size = instance_size(name)
        if size.cpu <= cpu and size.memory <= memory:
            cpu, memory, room = cpu - size.cpu, memory - size.memory, room + workers_per_node(name)
    assert room >= workers
