"""The care of one pod, from its first sight to its removal: one task per pod."""

import asyncio
import time
from typing import Any

import structlog

from import_local.kubelet.api import KubernetesApi, pod_path
from import_local.kubelet.container_runner import ContainerRunner, make_runners
from import_local.kubelet.errors import ApiError, ApiUnavailableError
from import_local.kubelet.pod_context import HOST_ADDRESS, NodeServices, PodContext
from import_local.kubelet.records import PodRecord
from import_local.kubelet.status import ContainerView, PodView, Terminated, Waiting
from import_local.kubelet.status_reporter import StatusReporter

Json = dict[str, Any]

TERMINAL_PHASES = ("Succeeded", "Failed")
# What Kubernetes grants a pod that was deleted by force, or vanished while the kubelet was away.
VANISHED_GRACE_SECONDS = 1.0
DELETE_RETRY_SECONDS = 1.0
REPORT_SECONDS = 15.0
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"
NOT_FOUND, CONFLICT = 404, 409

logger = structlog.get_logger(__name__)


def find_unsupported(pod: Json) -> str | None:
    """Return why a pod cannot run here as it is meant, or None."""
    spec = pod["spec"]
    if len(spec["containers"]) > 1:
        return "this kubelet runs one container per pod"
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            return f"init container {container['name']}: sidecar containers are not supported"
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        if "postStart" in (container.get("lifecycle") or {}):
            return f"container {container['name']}: postStart hooks are not supported"
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "grpc" in (container.get(kind) or {}):
                return f"container {container['name']}: grpc probes are not supported"
    return None


def get_remaining_seconds(pod: Json, record: PodRecord, now: float) -> float | None:
    """Return how long a pod may still be active (activeDeadlineSeconds); `now` in UNIX seconds."""
    seconds = pod["spec"].get("activeDeadlineSeconds")
    return None if seconds is None else max(0.0, record.created / 1e9 + float(seconds) - now)


def make_view(pod: Json, record: PodRecord) -> PodView:
    """Return a pod's view before anything has been started."""
    spec = pod["spec"]

    def view(container: Json) -> ContainerView:
        return ContainerView(container["name"], container.get("image", ""))

    return PodView(
        init=[view(container) for container in spec.get("initContainers") or ()],
        main=[view(container) for container in spec["containers"]],
        restart_policy=spec.get("restartPolicy", "Always"),
        pod_ip=record.address,
        host_ip=HOST_ADDRESS,
        started=record.created,
        sandbox_ready=True,
    )


class PodWorker:
    """One pod of this node. `known` says whether an earlier kubelet had taken it on already."""

    def __init__(
        self, pod: Json, record: PodRecord, services: NodeServices, limit: asyncio.Semaphore, *, known: bool
    ) -> None:
        self.record = record
        self._services = services
        self._limit = limit
        self._known = known
        self._stopping = asyncio.Event()
        self._vanished = asyncio.Event()
        self._deadline: float | None = None
        self._grace: asyncio.Timeout | None = None
        view = make_view(pod, record)
        self._reporter = StatusReporter(services.api, pod, view, limit)
        self._context = PodContext(pod, record, view, services, self._reporter.mark)
        self._runners: list[ContainerRunner] = []
        phase = (pod.get("status") or {}).get("phase")
        if not known and (phase in TERMINAL_PHASES or pod["metadata"].get("deletionTimestamp")):
            # Nothing is known of how it ended: what an earlier kubelet reported stays.
            self._reporter.gone = True
        self.update(pod)

    @property
    def pod(self) -> Json:
        """The newest object of the API server."""
        return self._context.pod

    def update(self, pod: Json) -> None:
        """Take in a newer object: it may ask for the pod's end, or shorten its grace period."""
        self._context.pod = pod
        self._reporter.observe(pod)
        self._context.updated.set()
        metadata = pod["metadata"]
        if metadata.get("deletionTimestamp"):
            self._order_stop(float(metadata.get("deletionGracePeriodSeconds") or 0))
        elif self._is_ended_by_others(pod):
            status = pod["status"]
            self._context.view.failure = (status.get("reason", ""), status.get("message", ""))
            self._order_stop(float(pod["spec"].get("terminationGracePeriodSeconds") or 0))

    def vanish(self) -> None:
        """Say that the API server no longer has the pod."""
        self._reporter.gone = True
        self._vanished.set()
        self._order_stop(VANISHED_GRACE_SECONDS)

    async def run(self) -> None:
        """Care for the pod until it is gone; being cancelled leaves its processes running."""
        tasks = [asyncio.create_task(self._care()), asyncio.create_task(self._reporter.run())]
        if self._known:
            tasks.append(asyncio.create_task(self._context.resume_volumes()))
        try:
            await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks[:2]:
                if task.done():
                    task.result()
        finally:
            self._context.cancel_tokens()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _care(self) -> None:
        await self._live()
        await self._end()

    @property
    def has_vanished(self) -> bool:
        """Whether the API server no longer has the pod."""
        return self._vanished.is_set()

    def renew(self) -> "PodWorker":
        """Return a worker that takes the pod on from its record, as after a kubelet's restart."""
        worker = PodWorker(self.pod, self.record, self._services, self._limit, known=True)
        if self.has_vanished:
            worker.vanish()
        return worker

    async def stop_processes(self, longest: float) -> None:
        """End the pod's processes for the node's own sake; the API server keeps the pod."""
        grace = min(longest, float(self.pod["spec"].get("terminationGracePeriodSeconds") or 0))
        for runner in self._runners:
            await runner.stop(asyncio.timeout(grace))

    def _is_ended_by_others(self, pod: Json) -> bool:
        """Tell whether someone else (an eviction, the pod collector) declared the running pod failed."""
        ours = all(isinstance(view.state, Terminated) for view in self._context.view.main)
        failed = (pod.get("status") or {}).get("phase") == "Failed"
        return failed and not ours and not self._stopping.is_set()

    def _order_stop(self, grace: float) -> None:
        deadline = asyncio.get_running_loop().time() + grace
        if self._deadline is None or deadline < self._deadline:
            self._deadline = deadline
            if self._grace is not None and not self._grace.expired():
                self._grace.reschedule(deadline)
        self._stopping.set()

    async def _live(self) -> None:
        """Run the containers until they have ended for good, or the pod is to stop."""
        problem = find_unsupported(self.pod)
        init, main = make_runners(self._context, self._reporter.mark)
        self._runners = [*init, *main]
        if problem is not None:
            for view in self._context.view.main:
                view.state = Waiting("CreateContainerConfigError", problem)
            self._reporter.mark()
            await self._stopping.wait()
            return
        running = asyncio.create_task(self._run_containers(init, main))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            remaining = get_remaining_seconds(self.pod, self.record, time.time())
            first = asyncio.FIRST_COMPLETED
            done, _ = await asyncio.wait({running, stopping}, timeout=remaining, return_when=first)
            if running in done:
                running.result()
            if not done:
                self._context.view.failure = ("DeadlineExceeded", DEADLINE_MESSAGE)
                self._order_stop(float(self.pod["spec"].get("terminationGracePeriodSeconds") or 0))
        finally:
            stopping.cancel()
            running.cancel()
            await asyncio.wait([running])
        await self._stopping.wait()

    async def _run_containers(self, init: list[ContainerRunner], main: list[ContainerRunner]) -> None:
        if (self.pod.get("status") or {}).get("phase") in TERMINAL_PHASES:
            return
        for runner in init:
            if (await runner.run()).exit_code != 0:
                return
        for runner in main:
            await runner.run()

    async def _end(self) -> None:
        """Stop the processes, report their end, and let the API server forget the pod."""
        view = self._context.view
        for runner in self._runners:
            self._grace = asyncio.timeout_at(self._deadline)
            await runner.stop(self._grace)
            self._grace = None
        view.terminating = True
        self._context.cancel_tokens()
        if self._known or self.record.list_all_attempts():
            await self._report_end()
        while not self._vanished.is_set() and not self.pod["metadata"].get("deletionTimestamp"):
            self._context.updated.clear()
            await self._wait_for_news()
        if not self._vanished.is_set():
            await delete_pod(self._services.api, self.pod)
        self.record.remove()

    async def _report_end(self) -> None:
        """Report how the pod ended; a status that the API server refuses must not keep the pod for ever."""
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                await self._reporter.flush()
        except TimeoutError:
            logger.warning("pod.end_not_reported", uid=self.record.uid)

    async def _wait_for_news(self) -> None:
        news = [asyncio.create_task(event.wait()) for event in (self._context.updated, self._vanished)]
        try:
            await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in news:
                task.cancel()


async def delete_pod(api: KubernetesApi, pod: Json) -> None:
    """Delete a pod's object for good, unless a successor has taken its name."""
    metadata = pod["metadata"]
    body = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": metadata["uid"]},
    }
    while True:
        try:
            await api.request("DELETE", pod_path(metadata["namespace"], metadata["name"]), body=body)
        except ApiError as problem:
            if problem.status in {NOT_FOUND, CONFLICT}:
                return
            await asyncio.sleep(DELETE_RETRY_SECONDS)
        except ApiUnavailableError:
            await asyncio.sleep(DELETE_RETRY_SECONDS)
        else:
            return
