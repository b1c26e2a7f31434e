"""One operator's schedule loop on a real cluster, at times that the test says."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from operator_world import Cluster

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_SCHEDULE
from import_core.adapters.postgres.queue_state import QueueState
from import_core.domain.backpressure import Intake
from import_core.domain.jobs import DEFAULT_QUEUE
from import_operator.handlers.handle_cancel_import_job import handle_cancel_import_job
from import_operator.handlers.handle_record_import_job import handle_record_import_job
from import_operator.handlers.handle_run_import_schedule import handle_run_import_schedule
from import_operator.loops.schedule import ScheduleLoop
from import_operator.loops.tell import TellLoop
from import_operator.state import OperatorState, uid_of

TWO = (datetime.now(UTC) + timedelta(days=1)).replace(hour=2, minute=0, second=0, microsecond=0)
"""Tomorrow, 02:00: after every object of this test was made."""
DAY = timedelta(days=1)
LATER = timedelta(minutes=10)


def text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def as_led() -> None:
    """This replica leads."""


class Scheduler:
    """One operator's schedule loop, with the operator's own rights, and what it saw of the cluster so far."""

    def __init__(self, cluster: Cluster, kube: KubeClient) -> None:
        self.cluster = cluster
        self.kube = kube
        self.now = TWO
        self.state = OperatorState(cluster.namespace)
        self.state.jobs_listed = True
        self.state.queues[DEFAULT_QUEUE] = QueueState()
        self.tell = TellLoop(kube, namespace=cluster.namespace, instance="test")
        self.loop = self.another_loop()

    def another_loop(self) -> ScheduleLoop:
        return ScheduleLoop(self.state, self.kube, self.tell, check=as_led, clock=lambda: self.now)

    async def see(self) -> None:
        """Learn what there is now, as the watch tells it."""
        namespace, seen = self.cluster.namespace, set()
        async for body in self.cluster.kube.list(IMPORT_JOB, namespace):
            handle_record_import_job(self.state, body)
            seen.add(uid_of(body))
        for uid in set(self.state.jobs.uids()) - seen:
            handle_cancel_import_job(self.state, self.state.jobs.get(uid) or {})
        async for body in self.cluster.kube.list(IMPORT_SCHEDULE, namespace):
            handle_run_import_schedule(self.state, body)

    async def at(self, now: datetime) -> None:
        """Look at everything at that moment."""
        self.now = now
        await self.see()
        await self.loop.round()

    def stop_intake(self, *, stopped: bool) -> None:
        queue = self.state.queues[DEFAULT_QUEUE]
        intake = replace(queue.intake, intake=Intake(stopped=stopped, reason="full"))
        self.state.queues[DEFAULT_QUEUE] = replace(queue, intake=intake)

    async def schedule(self, name: str = "nightly", **spec: Any) -> dict[str, Any]:
        template = {"spec": {"companyId": "acme", "providerRef": {"name": "acme-shopify"}}}
        wanted = {"schedule": "0 2 * * *", "jitterSeconds": 0, "jobTemplate": template}
        return await self.cluster.create(IMPORT_SCHEDULE, name, {**wanted, **spec})

    async def jobs(self) -> list[str]:
        return sorted(
            [body["metadata"]["name"] async for body in self.kube.list(IMPORT_JOB, self.cluster.namespace)]
        )

    async def end(self, name: str, phase: str = "Succeeded") -> None:
        status = {"phase": phase, "completedAt": text(self.now)}
        await self.cluster.kube.patch_status(
            IMPORT_JOB, self.cluster.namespace, name, status, resource_version=None
        )

    async def status(self, name: str = "nightly") -> dict[str, Any]:
        return await self.cluster.status(name, IMPORT_SCHEDULE)

    async def held(self) -> tuple[str, str]:
        conditions = (await self.status())["conditions"]
        condition = next(each for each in conditions if each["type"] == "Held")
        return condition["status"], condition["reason"]

    async def events(self) -> list[str]:
        """Reasons of all Events so far, posted now."""
        await self.tell.round()
        listed = json.loads(await self.cluster.kubectl("get", "events.events.k8s.io", "-o", "json"))
        return sorted(item["reason"] for item in listed["items"])
