"""A pod's status, built from what is known of its containers: pure functions, time passed in as text."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

CONDITION_TYPES = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def format_time(nanoseconds: int) -> str:
    """Return a time of the UNIX clock as RFC 3339 with whole seconds, as the API server keeps it."""
    moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A container that does not run (yet, or not at this moment)."""

    reason: str = "ContainerCreating"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A container that runs since `started` (UNIX nanoseconds)."""

    started: int


@dataclass(frozen=True, slots=True)
class Terminated:
    """A container that ended; times are UNIX nanoseconds."""

    exit_code: int
    reason: str
    message: str
    started: int
    finished: int
    container_id: str


ContainerState = Waiting | Running | Terminated


@dataclass(slots=True)
class ContainerView:
    """What is known of one container."""

    name: str
    image: str
    state: ContainerState = field(default_factory=Waiting)
    last: Terminated | None = None
    restarts: int = 0
    container_id: str = ""
    started: bool = False
    ready: bool = False


@dataclass(slots=True)
class PodView:
    """What is known of one pod. `failure` (reason, message) marks a pod that failed as a whole."""

    init: list[ContainerView]
    main: list[ContainerView]
    restart_policy: str = "Always"
    pod_ip: str = ""
    host_ip: str = ""
    started: int = 0
    sandbox_ready: bool = False
    terminating: bool = False
    failure: tuple[str, str] | None = None


def build_state(state: ContainerState) -> Json:
    """Return a container state as the API has it."""
    if isinstance(state, Running):
        return {"running": {"startedAt": format_time(state.started)}}
    if isinstance(state, Waiting):
        return {"waiting": {"reason": state.reason, **({"message": state.message} if state.message else {})}}
    ended = {
        "exitCode": state.exit_code,
        "reason": state.reason,
        "startedAt": format_time(state.started),
        "finishedAt": format_time(state.finished),
        "containerID": state.container_id,
    }
    return {"terminated": {**ended, **({"message": state.message} if state.message else {})}}


def build_container_status(view: ContainerView) -> Json:
    """Return one entry of containerStatuses."""
    status = {
        "name": view.name,
        "image": view.image,
        "imageID": f"command://{view.image}",
        "restartCount": view.restarts,
        "ready": view.ready,
        "started": view.started,
        "state": build_state(view.state),
        "lastState": build_state(view.last) if view.last else {},
    }
    if view.container_id:
        status["containerID"] = view.container_id
    return status


def is_succeeded(view: ContainerView) -> bool:
    """Tell whether a container ended with exit code 0."""
    return isinstance(view.state, Terminated) and view.state.exit_code == 0


def get_phase(pod: PodView) -> str:
    """Return the pod's phase, by the rules of the Kubernetes documentation ("Pod phase").

    A terminal phase is reached only when nothing will be started again.
    """
    if pod.failure:
        return "Failed"
    all_ended = all(isinstance(view.state, Terminated) for view in pod.main)
    init_failed = any(isinstance(view.state, Terminated) and not is_succeeded(view) for view in pod.init)
    if init_failed and (pod.restart_policy == "Never" or pod.terminating):
        return "Failed"
    all_succeeded = all(map(is_succeeded, pod.main))
    if all_succeeded and (pod.terminating or pod.restart_policy != "Always"):
        return "Succeeded"
    if all_ended and (pod.terminating or pod.restart_policy == "Never"):
        return "Failed"
    if any(isinstance(view.state, Running | Terminated) or view.last or view.restarts for view in pod.main):
        return "Running"
    return "Pending"


def _condition(kind: str, holds: bool, reason: str = "", message: str = "") -> Json:
    condition: Json = {"type": kind, "status": "True" if holds else "False"}
    if reason and not holds:
        condition |= {"reason": reason, "message": message}
    return condition


def build_conditions(pod: PodView, phase: str, gates: Iterable[tuple[str, bool]]) -> list[Json]:
    """Return the conditions that the kubelet owns, without their transition times.

    `gates` are the pod's readiness gates and whether their conditions are True.
    """
    not_done = [view.name for view in pod.init if not is_succeeded(view)]
    initialized = not not_done or phase == "Succeeded"
    not_ready = [view.name for view in pod.main if not view.ready]
    if phase in {"Succeeded", "Failed"}:
        done = "PodCompleted" if phase == "Succeeded" else "PodFailed"
        containers = _condition("ContainersReady", False, done)
        ready = _condition("Ready", False, done)
    else:
        reason, message = "ContainersNotReady", f"containers with unready status: [{' '.join(not_ready)}]"
        containers = _condition("ContainersReady", not not_ready, reason, message)
        ready = _condition("Ready", not not_ready, reason, message)
        missing = [name for name, holds in gates if not holds]
        if not not_ready and missing:
            text = f"the conditions of these readiness gates are not True: [{' '.join(missing)}]"
            ready = _condition("Ready", False, "ReadinessGatesNotReady", text)
    incomplete = f"containers with incomplete status: [{' '.join(not_done)}]"
    return [
        _condition("PodReadyToStartContainers", pod.sandbox_ready and phase not in {"Succeeded", "Failed"}),
        _condition("Initialized", initialized, "ContainersNotInitialized", incomplete),
        ready,
        containers,
        _condition("PodScheduled", True),
    ]


def build_status(pod: PodView, api_pod: Json, now: int) -> Json:
    """Return the whole status that the kubelet reports; `now` in UNIX nanoseconds.

    A condition keeps its transition time as long as its status stays what the API server has.
    """
    known = {item["type"]: item for item in (api_pod.get("status") or {}).get("conditions") or ()}
    gates = [
        (gate["conditionType"], known.get(gate["conditionType"], {}).get("status") == "True")
        for gate in api_pod["spec"].get("readinessGates") or ()
    ]
    phase = get_phase(pod)
    generation = api_pod["metadata"].get("generation")
    conditions = build_conditions(pod, phase, gates)
    for condition in conditions:
        before = known.get(condition["type"], {})
        same = before.get("status") == condition["status"] and before.get("lastTransitionTime")
        condition["lastTransitionTime"] = before["lastTransitionTime"] if same else format_time(now)
        if generation:
            condition["observedGeneration"] = generation
    status: Json = {
        "phase": phase,
        "conditions": conditions,
        "hostIP": pod.host_ip,
        "hostIPs": [{"ip": pod.host_ip}],
        "podIP": pod.pod_ip,
        "podIPs": [{"ip": pod.pod_ip}],
        "startTime": format_time(pod.started),
        "containerStatuses": [build_container_status(view) for view in pod.main],
    }
    if generation:
        status["observedGeneration"] = generation
    if pod.init:
        status["initContainerStatuses"] = [build_container_status(view) for view in pod.init]
    if pod.failure:
        fields = zip(("reason", "message"), pod.failure, strict=True)
        status |= {key: text for key, text in fields if text}
    return status


def differs(current: Json, wanted: Json) -> bool:
    """Tell whether the API server's status lacks anything of the wanted one (foreign conditions are ignored)."""
    for key, value in wanted.items():
        if key == "conditions":
            known = {item["type"]: item for item in current.get("conditions") or ()}
            if any(
                (known.get(item["type"], {}).get(name) or "") != (item.get(name) or "")
                for item in value
                for name in ("status", "reason", "message")
            ):
                return True
        elif current.get(key) != value:
            return True
    return False
