"""What a WorkerPool's status says."""

from datetime import UTC, datetime
from typing import Any

import pytest

from import_core.adapters.postgres.jobs import Depth
from import_core.domain.resources.worker_pool import parse_worker_pool
from import_core.domain.rollout import RolloutPhase, RolloutReason, RolloutState
from import_core.domain.scaling import ScalingDecision, ScalingHistory, ScalingReason
from import_operator.pool_status import REASON_TEXTS, PoolObservation, get_pool_status

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
TEMPLATE = {"spec": {"containers": [{"name": "worker", "image": "import-worker:1"}]}}


def pool(status: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata = {"name": "fast", "namespace": "imports", "uid": "u", "generation": 3}
    return {"metadata": metadata, "spec": {"template": TEMPLATE}, "status": status or {}}


def deployment(
    replicas: int = 4, updated: int = 4, ready: int = 3, total: int | None = None
) -> dict[str, Any]:
    return {
        "metadata": {"name": "fast-workers", "generation": 2},
        "spec": {"replicas": replicas},
        "status": {
            "observedGeneration": 2,
            "replicas": total or replicas,
            "updatedReplicas": updated,
            "readyReplicas": ready,
        },
    }


def seen(reason: ScalingReason = ScalingReason.STEADY, **values: Any) -> PoolObservation:
    defaults: dict[str, Any] = {
        "generation": 3,
        "decision": ScalingDecision(4, 4, reason, ScalingHistory(), 4),
        "depth": Depth(due=30, claimed=8, busy_workers=2),
        "deployment": deployment(),
        "scaled_at": NOW,
        "scaled_reason": "DepthRose: 2 to 4",
    }
    return PoolObservation(**{**defaults, **values})


def shown(observation: PoolObservation, before: dict[str, Any] | None = None) -> dict[str, Any]:
    patch = get_pool_status(pool(before), observation, NOW) or {}
    status = {key: value for key, value in {**(before or {}), **patch}.items() if value is not None}
    parse_worker_pool({**pool(), "status": status})
    return status


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


def test_numbers_are_shown() -> None:
    status = shown(seen())
    assert {key: status[key] for key in ("replicas", "readyReplicas", "busyReplicas", "queueDepth")} == {
        "replicas": 4,
        "readyReplicas": 3,
        "busyReplicas": 2,
        "queueDepth": 38,
    }
    assert status["desiredReplicas"] == 4
    assert status["lastScaleTime"] == "2026-01-01T12:00:00Z"
    assert conditions(status) == {
        "DepthKnown": ("True", "Measured"),
        "ScalingActive": ("True", "Steady"),
        "RolledOut": ("True", "UpToDate"),
    }


def test_unknown_depth_is_absent_and_not_zero() -> None:
    status = shown(seen(ScalingReason.DEPTH_UNKNOWN, depth=None), shown(seen()))
    assert "queueDepth" not in status
    assert "busyReplicas" not in status
    assert conditions(status)["DepthKnown"] == ("False", "DatabaseUnavailable")
    assert conditions(status)["ScalingActive"] == ("False", "DepthUnknown")


@pytest.mark.parametrize("reason", [ScalingReason.PAUSED, ScalingReason.MANUAL])
def test_held_pool_is_not_scaling(reason: ScalingReason) -> None:
    assert conditions(shown(seen(reason)))["ScalingActive"] == ("False", reason.value)


def test_rollout_under_way_is_told() -> None:
    assert conditions(shown(seen(deployment=deployment(updated=1))))["RolledOut"][0] == "False"
    assert conditions(shown(seen(deployment=deployment(total=5))))["RolledOut"][0] == "False"


def test_rollout_of_a_template_is_told_before_the_deployment() -> None:
    back = RolloutState(
        "old", "fast-workers", phase=RolloutPhase.ROLLED_BACK, reason=RolloutReason.RESTARTS, message="why"
    )
    assert conditions(shown(seen(rollout=back)))["RolledOut"] == ("False", "RolledBackWorkersRestart")
    done = seen(rollout=RolloutState("new", "fast-workers-new"))
    assert conditions(shown(done))["RolledOut"] == ("True", "UpToDate")


def test_problem_is_told_and_the_last_numbers_stay() -> None:
    broken = seen(decision=None, deployment=None, problem=("InvalidSpec", "scaling: maxReplicas"))
    status = shown(broken, shown(seen()))
    assert conditions(status)["ScalingActive"] == ("False", "InvalidSpec")
    assert status["desiredReplicas"] == 4


def test_status_that_is_true_needs_no_patch() -> None:
    assert get_pool_status(pool(shown(seen())), seen(), NOW) is None


def test_every_reason_has_a_text() -> None:
    assert set(REASON_TEXTS) == set(ScalingReason)


def test_the_last_change_says_what_it_was_made_of_and_why_the_depth_is_not_known() -> None:
    status = shown(seen(scaled_from="depth 500, 0 running, 2–50", depth=None, depth_note="held, as I say"))
    assert status["lastScaleReason"] == "DepthRose: 2 to 4 (depth 500, 0 running, 2–50)"
    (known,) = [each for each in status["conditions"] if each["type"] == "DepthKnown"]
    assert known["message"] == "PostgreSQL does not answer; held, as I say"
    long = shown(seen(scaled_from="x" * 500))
    assert len(long["lastScaleReason"]) == 256
