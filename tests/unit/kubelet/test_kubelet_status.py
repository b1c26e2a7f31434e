"""A pod's status as the kubelet builds it, with a time that the test gives."""

import copy

import pytest

from import_local.kubelet.status import (
    ContainerView,
    PodView,
    Running,
    Terminated,
    Waiting,
    build_status,
    differs,
)

SECOND = 1_000_000_000
API_POD = {"metadata": {"generation": 3}, "spec": {}, "status": {}}


def ended(code, reason=None):
    return Terminated(
        code, reason or ("Error" if code else "Completed"), "", 1 * SECOND, 2 * SECOND, "process://x"
    )


def view(*states, init=(), policy="Always", **kwargs):
    main = [ContainerView(f"c{index}", "i", state) for index, state in enumerate(states)]
    first = [ContainerView(f"i{index}", "i", state) for index, state in enumerate(init)]
    return PodView(
        first, main, policy, "127.64.0.1", "127.0.0.1", started=SECOND, sandbox_ready=True, **kwargs
    )


def status_of(pod, api_pod=API_POD, now=5 * SECOND):
    return build_status(pod, api_pod, now)


def condition(status, kind):
    return next(item for item in status["conditions"] if item["type"] == kind)


@pytest.mark.parametrize(
    ("pod", "phase"),
    [
        (view(Waiting()), "Pending"),
        (view(Running(SECOND)), "Running"),
        (view(ended(0)), "Running"),
        (view(ended(0), policy="Never"), "Succeeded"),
        (view(ended(1), policy="Never"), "Failed"),
        (view(ended(0), policy="OnFailure"), "Succeeded"),
        (view(ended(1), policy="OnFailure"), "Running"),
        (view(ended(1), policy="OnFailure", terminating=True), "Failed"),
        (view(ended(0), terminating=True), "Succeeded"),
        (view(ended(137), terminating=True), "Failed"),
        (view(Running(SECOND), failure=("Evicted", "m")), "Failed"),
        (view(Waiting(), init=[Running(SECOND)]), "Pending"),
        (view(Waiting(), init=[ended(1)], policy="Never"), "Failed"),
        (view(Waiting(), init=[ended(1)]), "Pending"),
    ],
)
def test_phase(pod, phase):
    assert status_of(pod)["phase"] == phase


def test_a_container_in_back_off_keeps_its_pod_running():
    pod = view(Waiting("CrashLoopBackOff", "back-off 10s"))
    pod.main[0].last = ended(1)
    pod.main[0].restarts = 4
    status = status_of(pod)
    assert status["phase"] == "Running"
    container = status["containerStatuses"][0]
    assert container["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert container["lastState"]["terminated"]["exitCode"] == 1
    assert container["restartCount"] == 4


def test_times_and_identity_of_an_ended_container():
    terminated = status_of(view(ended(137, "OOMKilled")))["containerStatuses"][0]["state"]["terminated"]
    assert terminated == {
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": "1970-01-01T00:00:01Z",
        "finishedAt": "1970-01-01T00:00:02Z",
        "containerID": "process://x",
    }


def test_readiness_follows_the_containers():
    pod = view(Running(SECOND))
    unready = status_of(pod)
    assert condition(unready, "Ready")["reason"] == "ContainersNotReady"
    assert condition(unready, "Ready")["message"] == "containers with unready status: [c0]"
    pod.main[0].ready = True
    ready = status_of(pod)
    assert {item["type"]: item["status"] for item in ready["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }


def test_readiness_gates_hold_back_ready_only():
    pod = view(Running(SECOND))
    pod.main[0].ready = True
    api_pod = {"metadata": {}, "spec": {"readinessGates": [{"conditionType": "g"}]}, "status": {}}
    status = status_of(pod, api_pod)
    assert condition(status, "ContainersReady")["status"] == "True"
    assert condition(status, "Ready")["reason"] == "ReadinessGatesNotReady"
    api_pod["status"] = {"conditions": [{"type": "g", "status": "True"}]}
    assert condition(status_of(pod, api_pod), "Ready")["status"] == "True"


def test_unfinished_init_containers_are_named():
    status = status_of(view(Waiting(), init=[ended(0), Running(SECOND)]))
    initialized = condition(status, "Initialized")
    assert initialized["status"] == "False"
    assert initialized["message"] == "containers with incomplete status: [i1]"


def test_a_finished_pod_says_so():
    status = status_of(view(ended(0), policy="Never"))
    assert condition(status, "Ready")["reason"] == "PodCompleted"
    assert condition(status, "PodReadyToStartContainers")["status"] == "False"
    assert condition(status_of(view(ended(1), policy="Never")), "Ready")["reason"] == "PodFailed"


def test_an_unchanged_condition_keeps_its_transition_time():
    pod = view(Running(SECOND))
    first = status_of(pod, now=5 * SECOND)
    api_pod = API_POD | {"status": first}
    pod.main[0].ready = True
    second = status_of(pod, api_pod, now=9 * SECOND)
    assert condition(second, "Initialized")["lastTransitionTime"] == "1970-01-01T00:00:05Z"
    assert condition(second, "Ready")["lastTransitionTime"] == "1970-01-01T00:00:09Z"


def test_a_status_that_the_server_has_is_not_sent_again():
    wanted = status_of(view(Running(SECOND)))
    current = copy.deepcopy(wanted) | {"qosClass": "Burstable"}
    current["conditions"].append({"type": "DisruptionTarget", "status": "True"})
    assert not differs(current, wanted)
    assert differs({}, wanted)
    changed = copy.deepcopy(current)
    changed["containerStatuses"][0]["restartCount"] = 1
    assert differs(changed, wanted)
    overwritten = copy.deepcopy(current)
    condition(overwritten, "Initialized")["status"] = "False"
    assert differs(overwritten, wanted)


def test_an_evicted_pod_keeps_its_reason():
    status = status_of(view(ended(143), failure=("Evicted", "too much")))
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", "too much")
    assert "reason" not in status_of(view(ended(143), failure=("", "")))
