"""What the operator reads of pods and Deployments before anybody drains."""

from typing import Any

import pytest

from import_core.adapters.postgres.draining import RosterEntry
from import_core.domain.draining import (
    DELETION_COST,
    LEAVING_MARKS,
    BusyScaleIn,
    Standing,
)
from import_core.domain.resources.worker_pool import WorkerPool, parse_worker_pool
from import_operator.draining import is_all_seen, is_mixed, marks_of, member_of, missing_of, pods_of
from import_operator.loops.scale import busy_scale_in

POOL = {"imports.avnz.io/pool": "fast"}


def pod(name: str, *, template: str = "abc", owner: str = "fast-workers", **changes: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "uid": name,
        "labels": {**POOL, "pod-template-hash": template},
        "ownerReferences": [{"kind": "ReplicaSet", "name": f"{owner}-{template}"}],
        **changes.pop("metadata", {}),
    }
    return {"metadata": metadata, "status": {"phase": "Running", **changes}}


def deployment(replicas: int, *, pods: int, observed: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"name": "fast-workers", "uid": "d", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": POOL}},
        "status": {"replicas": pods, "observedGeneration": observed},
    }


def entry(**values: Any) -> RosterEntry:
    defaults = {"started": True, "asked": False, "drained": False, "going": False, "jobs": 0, "products": 0}
    return RosterEntry("a", **{**defaults, **values})


def test_pods_of_a_deployment_are_those_of_its_replica_sets_that_live() -> None:
    pods = [
        pod("a"),
        pod("b", template="def"),
        pod("other", owner="fast-workers-canary"),
        pod("told", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        pod("evicted", phase="Failed"),
    ]
    found = pods_of(deployment(2, pods=2), pods)
    assert [item["metadata"]["name"] for item in found] == ["a", "b"]
    assert is_mixed(found)
    assert not is_mixed(found[:1])


def test_workers_without_a_pod_are_counted_only_when_the_controller_has_looked() -> None:
    assert missing_of(deployment(4, pods=1), 1) == 3
    assert missing_of(deployment(4, pods=3), 1) == 1, "pods that are not seen yet exist all the same"
    assert missing_of(deployment(4, pods=1, observed=0), 1) == 0
    assert not is_all_seen(deployment(4, pods=2), {"a": pod("a")})


READY = {"conditions": [{"type": "Ready", "status": "True"}]}


@pytest.mark.parametrize(
    ("known", "status", "standing"),
    [
        (entry(), READY, Standing.WORKING),
        (entry(asked=True), READY, Standing.DRAINING),
        (entry(asked=True, drained=True), READY, Standing.DRAINED),
        (entry(asked=True, drained=True, jobs=1), READY, Standing.DRAINING),
        (entry(asked=True, drained=True, started=False), {}, Standing.DRAINED),
        # Ready, but not entered: nobody knows what it holds.
        (entry(asked=True, drained=True, started=False), READY, Standing.DRAINING),
    ],
)
def test_where_a_pod_stands(known: RosterEntry, status: dict[str, Any], standing: Standing) -> None:
    assert member_of(pod("a", **status), known).standing is standing


def test_marks_are_what_the_pod_is_seen_to_have() -> None:
    leaving = pod("a", metadata={"annotations": {DELETION_COST: "-1000", "other": "x"}})
    assert marks_of(leaving) == LEAVING_MARKS
    assert member_of(leaving, entry(asked=True, drained=True)).marked


def pool(**spec: Any) -> WorkerPool:
    template = {"spec": {"containers": [{"name": "worker", "image": "import-worker:1"}]}}
    metadata = {"name": "fast", "namespace": "imports", "uid": "u", "generation": 1}
    return parse_worker_pool({"metadata": metadata, "spec": {"template": template, **spec}})


def test_only_a_persons_word_drains_busy_workers_where_the_pool_does_not_say_so() -> None:
    assert busy_scale_in(pool(), 5) is BusyScaleIn.WAIT
    assert busy_scale_in(pool(scaling={"scaleInBusy": "DrainLeastWork"}), 5) is BusyScaleIn.DRAIN_LEAST_WORK
    assert busy_scale_in(pool(replicas=1), 5) is BusyScaleIn.DRAIN_LEAST_WORK
    assert busy_scale_in(pool(scaling={"maxReplicas": 4}), 5) is BusyScaleIn.DRAIN_LEAST_WORK
