"""A schedule's run that the webhook has no room for waits, says so, and starts when there is room."""

from datetime import UTC, datetime, timedelta
from typing import Any

from admission_world import World, import_job
from eventually import eventually

from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_SCHEDULE
from import_core.adapters.postgres.queue_state import QueueState
from import_core.domain.backpressure import HealthLevel
from import_core.domain.jobs import DEFAULT_QUEUE
from import_local.kubectl import KubectlError
from import_operator.handlers.handle_run_import_schedule import handle_run_import_schedule
from import_operator.loops.schedule import ScheduleLoop
from import_operator.loops.tell import TellLoop
from import_operator.state import OperatorState

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).replace(hour=2, minute=0, second=0, microsecond=0)


async def until_refused(world: World) -> None:
    async def refused() -> bool:
        try:
            await world.kubectl("apply", "--dry-run=server", "-f", "-", stdin=import_job("asked"))
        except KubectlError:
            return True
        return False

    await eventually(refused, what="a refusal")


async def held(world: World) -> dict[str, Any]:
    body = await world.kube.get(IMPORT_SCHEDULE, world.namespace, "nightly")
    assert body is not None
    return next(each for each in body["status"]["conditions"] if each["type"] == "Held")


async def test_run_waits_for_room_in_the_queue(world: World) -> None:
    await world.queue(HealthLevel.CRITICAL)
    await world.start()
    await until_refused(world)
    state = OperatorState(world.namespace)
    state.jobs_listed = True
    state.queues[DEFAULT_QUEUE] = QueueState()
    clock = [TOMORROW]
    tell = TellLoop(world.kube, namespace=world.namespace, instance="test")
    loop = ScheduleLoop(state, world.kube, tell, check=lambda: None, clock=lambda: clock[0])
    template = {"spec": import_job("unused")["spec"]}
    spec = {"schedule": "0 2 * * *", "jitterSeconds": 0, "jobTemplate": template}
    body = {"metadata": {"name": "nightly"}, "spec": spec}
    handle_run_import_schedule(state, await world.kube.create(IMPORT_SCHEDULE, world.namespace, body))

    await loop.round()
    condition = await held(world)
    assert (condition["status"], condition["reason"]) == ("True", "NoRoom")
    assert "can't add to it now" in condition["message"]

    await world.queue(HealthLevel.HEALTHY)

    async def started() -> bool:
        clock[0] += timedelta(minutes=5)
        await loop.round()
        return await world.kube.count(IMPORT_JOB, world.namespace) == 1

    await eventually(started, what="the run's job")
    assert (await held(world))["status"] == "False"
