"""Schedules make each run's ImportJob once, whoever dies, and say why a run waits. Their clock is the test's."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
import pytest_asyncio
from eventually import eventually
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster as Server
from lightkube.config.models import User
from operator_world import Cluster, Operators, TakingWorker
from prometheus_client import REGISTRY
from schedule_world import DAY, LATER, TWO, Scheduler, as_led, text

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_SCHEDULE
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.errors import KubernetesUnavailableError, LeaseUncertainError
from import_core.domain.schedules import job_name
from import_operator.loops import schedule as schedule_loop
from import_operator.loops.schedule import ScheduleLoop
from import_operator.loops.sweep import SweepLoop
from import_operator.scheduled_jobs import SCHEDULE_LABEL, SCHEDULED_AT, get_scheduled_job


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest_asyncio.fixture(loop_scope="session")
async def first(cluster: Cluster) -> AsyncIterator[Scheduler]:
    async with KubeClient(KubeConfig.from_file(cluster.operator_kubeconfig)) as kube:
        yield Scheduler(cluster, kube)


@pytest_asyncio.fixture(loop_scope="session")
async def second(cluster: Cluster) -> AsyncIterator[Scheduler]:
    async with KubeClient(KubeConfig.from_file(cluster.operator_kubeconfig)) as kube:
        yield Scheduler(cluster, kube)


async def test_run_makes_one_job_of_the_schedule(first: Scheduler) -> None:
    created = await first.schedule()
    await first.at(TWO - timedelta(seconds=1))
    assert await first.jobs() == []
    assert (await first.status())["nextScheduleTime"] == text(TWO)
    await first.at(TWO)
    await first.at(TWO + LATER)
    assert await first.jobs() == [job_name("nightly", TWO)]
    job = await first.cluster.get(IMPORT_JOB, job_name("nightly", TWO))
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (created["metadata"]["uid"], True)
    assert job["metadata"]["labels"] == {SCHEDULE_LABEL: "nightly"}
    assert job["metadata"]["annotations"] == {SCHEDULED_AT: text(TWO)}
    assert job["spec"]["companyId"] == "acme"
    status = await first.status()
    assert (status["lastScheduleTime"], status["nextScheduleTime"]) == (text(TWO), text(TWO + DAY))
    assert status["active"] == 1
    await first.end(job_name("nightly", TWO))
    await first.at(TWO + LATER)
    status = await first.status()
    assert (status["active"], status["lastSuccessfulTime"]) == (0, text(TWO + LATER))


async def test_two_operators_at_the_same_moment_make_one_job(first: Scheduler, second: Scheduler) -> None:
    for number in range(5):
        await first.schedule(f"nightly-{number}")
    before = metric("imports_schedule_runs_total")
    await asyncio.gather(first.at(TWO), second.at(TWO))
    await asyncio.gather(first.at(TWO), second.at(TWO))
    assert await first.jobs() == [job_name(f"nightly-{number}", TWO) for number in range(5)]
    assert metric("imports_schedule_runs_total") - before == 5
    for number in range(5):
        assert (await first.status(f"nightly-{number}"))["lastScheduleTime"] == text(TWO)


async def test_operator_that_died_between_job_and_status_is_followed(
    first: Scheduler, second: Scheduler
) -> None:
    body = await first.schedule()
    await second.see()
    await first.cluster.kube.create(IMPORT_JOB, first.cluster.namespace, get_scheduled_job(body, TWO))
    # The one sees the job, the other only learns of it when it can't make it.
    await first.at(TWO)
    assert (await first.status())["lastScheduleTime"] == text(TWO)
    await second.loop.round()
    assert await first.jobs() == [job_name("nightly", TWO)]


async def test_operator_that_may_have_been_replaced_starts_nothing(first: Scheduler) -> None:
    await first.schedule()
    await first.see()

    def uncertain() -> None:
        raise LeaseUncertainError

    loop = ScheduleLoop(first.state, first.kube, first.tell, check=uncertain, clock=lambda: TWO)
    with pytest.raises(LeaseUncertainError):
        await loop.round()
    assert await first.jobs() == []
    await first.loop.round()
    assert await first.jobs() == [job_name("nightly", TWO)], "the run still waits"


async def test_nothing_starts_before_all_jobs_are_known(first: Scheduler) -> None:
    await first.schedule()
    first.state.jobs_listed = False
    await first.at(TWO)
    assert await first.jobs() == []
    first.state.jobs_listed = True
    await first.at(TWO)
    assert await first.jobs() == [job_name("nightly", TWO)]


async def test_forbid_waits_for_the_earlier_run(first: Scheduler) -> None:
    await first.schedule(concurrencyPolicy="Forbid")
    await first.at(TWO)
    await first.at(TWO + DAY)
    assert await first.jobs() == [job_name("nightly", TWO)]
    assert await first.held() == ("True", "PreviousRunActive")
    await first.loop.round()
    assert await first.events() == ["RunHeld"]
    await first.end(job_name("nightly", TWO))
    await first.at(TWO + DAY + LATER)
    assert job_name("nightly", TWO + DAY) in await first.jobs()
    assert await first.held() == ("False", "NothingWaits")


async def test_replace_deletes_the_earlier_run_when_the_new_one_is_there(first: Scheduler) -> None:
    await first.schedule(concurrencyPolicy="Replace")
    await first.at(TWO)
    await first.at(TWO + DAY)
    assert await first.jobs() == [job_name("nightly", TWO + DAY)]


async def test_replacing_is_finished_by_the_next_operator(first: Scheduler, second: Scheduler) -> None:
    body = await first.schedule(concurrencyPolicy="Replace")
    await first.at(TWO)
    await first.cluster.kube.create(IMPORT_JOB, first.cluster.namespace, get_scheduled_job(body, TWO + DAY))
    await second.at(TWO + DAY)
    assert await first.jobs() == [job_name("nightly", TWO + DAY)]


async def test_allow_runs_beside_the_earlier_one(first: Scheduler) -> None:
    await first.schedule(concurrencyPolicy="Allow")
    await first.at(TWO)
    await first.at(TWO + DAY)
    assert len(await first.jobs()) == 2
    await first.at(TWO + DAY)
    assert (await first.status())["active"] == 2


async def test_held_while_intake_is_stopped_and_started_when_it_resumes(first: Scheduler) -> None:
    await first.schedule()
    first.stop_intake(stopped=True)
    await first.at(TWO)
    assert await first.jobs() == []
    assert await first.held() == ("True", "IntakeStopped")
    assert metric("imports_schedules_held", reason="IntakeStopped") == 1
    first.now = TWO + LATER
    first.stop_intake(stopped=False)
    # No event announces it: the round itself looks.
    await first.loop.round()
    assert await first.jobs() == [job_name("nightly", TWO)]
    assert metric("imports_schedules_held", reason="IntakeStopped") == 0


async def test_run_above_its_deadline_is_missed_and_told_once(first: Scheduler) -> None:
    await first.schedule(startingDeadlineSeconds=300)
    first.stop_intake(stopped=True)
    await first.at(TWO)
    before = metric("imports_schedule_missed_total", reason="deadline")
    first.now = TWO + timedelta(seconds=301)
    await first.loop.round()
    await first.at(TWO + LATER)
    status = await first.status()
    assert (status["lastMissedTime"], "lastScheduleTime" in status) == (text(TWO), False)
    assert metric("imports_schedule_missed_total", reason="deadline") - before == 1
    await first.at(TWO + DAY)
    await first.at(TWO + DAY + LATER)
    assert (await first.status())["lastMissedTime"] == text(TWO + DAY)
    assert (await first.events()).count("RunMissed") == 1, "those in a row are only counted"
    first.stop_intake(stopped=False)
    await first.at(TWO + 2 * DAY)
    assert await first.jobs() == [job_name("nightly", TWO + 2 * DAY)]


async def test_name_that_another_job_has_costs_the_run_and_is_told(first: Scheduler) -> None:
    await first.schedule()
    await first.cluster.job(job_name("nightly", TWO))
    await first.at(TWO)
    await first.at(TWO + LATER)
    status = await first.status()
    assert status["lastMissedTime"] == text(TWO)
    assert "NameTaken" in await first.events()
    await first.at(TWO + DAY)
    assert len(await first.jobs()) == 2


async def test_refused_job_is_tried_again_and_says_why(first: Scheduler, cluster: Cluster) -> None:
    await first.schedule()
    role = json.loads(await cluster.kubectl("get", "role", "import-operator", "-o", "json"))
    rights = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if verb != "create"]}
        if rule["resources"] == ["importjobs"]
        else rule
        for rule in role["rules"]
    ]
    await cluster.kubectl("patch", "role", "import-operator", "-p", json.dumps({"rules": rights}))

    async def is_refused() -> bool:
        answer = await cluster.kubectl(
            "auth", "can-i", "--list", "--as", f"system:serviceaccount:{cluster.namespace}:import-operator"
        )
        return not any("importjobs.imports" in line and "create" in line for line in answer.splitlines())

    await eventually(is_refused, what="the right taken away")
    await first.at(TWO)
    assert await first.held() == ("True", "Refused")
    await cluster.kubectl("patch", "role", "import-operator", "-p", json.dumps({"rules": role["rules"]}))

    async def starts() -> bool:
        first.now += timedelta(seconds=11)
        await first.at(first.now)
        return await first.jobs() == [job_name("nightly", TWO)]

    await eventually(starts, what="the run")


async def test_a_crowd_starts_in_bounded_rounds(first: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_loop, "BATCH", 10)
    await asyncio.gather(*(first.schedule(f"nightly-{number}") for number in range(25)))
    await first.at(TWO)
    assert len(await first.jobs()) == 10
    for _ in range(2):
        await first.loop.round()
    assert len(await first.jobs()) == 25


async def test_api_server_that_is_away_loses_no_run(first: Scheduler) -> None:
    await first.schedule()
    await first.see()
    config = KubeConfig.from_one(cluster=Server(server="http://127.0.0.1:9"), user=User(token="any"))
    async with KubeClient(config) as nowhere:
        away = ScheduleLoop(first.state, nowhere, first.tell, check=as_led, clock=lambda: TWO)
        with pytest.raises(KubernetesUnavailableError):
            await away.round()
    await first.loop.round()
    assert await first.jobs() == [job_name("nightly", TWO)]


async def test_history_limits_let_the_oldest_go(first: Scheduler, database: Database) -> None:
    await first.schedule(successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0)
    for day in range(3):
        await first.at(TWO + day * DAY)
        await first.end(job_name("nightly", TWO + day * DAY), "Failed" if day == 1 else "Succeeded")
    await first.at(TWO + 2 * DAY + LATER)
    sweep = SweepLoop(first.state, first.kube, ReopeningStore(database), finished_objects_limit=5000)
    await sweep.round()
    assert await first.jobs() == [job_name("nightly", TWO + 2 * DAY)]


async def test_spec_that_only_we_know_to_be_wrong_is_told(first: Scheduler) -> None:
    await first.schedule(timeZone="Mars/Olympus")
    await first.at(TWO)
    (ready,) = (await first.status())["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "InvalidSpec")
    assert "spec.timeZone" in ready["message"]
    assert await first.events() == ["InvalidSpec"]
    assert await first.jobs() == []


async def test_whole_operator_follows_a_schedule_and_its_jobs(
    cluster: Cluster, operators: Operators, worker: TakingWorker, first: Scheduler
) -> None:
    operator = await operators.leading()
    await cluster.provider()
    await cluster.pool()
    await first.schedule(jitterSeconds=300)

    async def next_run() -> str | None:
        return (await first.status()).get("nextScheduleTime")

    # It may be tomorrow's or today's, as the clock on the wall says.
    shown = datetime.fromisoformat(await eventually(next_run, what="the next run"))
    assert timedelta() <= (shown - TWO) % DAY < timedelta(minutes=5)
    await first.at(TWO + LATER)
    claim = await worker.take()
    await worker.finish(claim)

    async def done() -> bool:
        status = await first.status()
        return status.get("active") == 0 and "lastSuccessfulTime" in status

    await eventually(done, what="the run's end in the schedule's status")
    await cluster.kubectl("patch", "isc", "nightly", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    condition = await cluster.condition(IMPORT_SCHEDULE, "nightly", "Ready", "False")
    assert condition["reason"] == "Suspended"
    assert "nextScheduleTime" not in await first.status()
    assert operator.logged("loop.failed") == []
    await cluster.kubectl("delete", "isc", "nightly")

    async def gone() -> bool:
        return await first.jobs() == []

    # The garbage collector learns of new kinds every 30 s.
    await eventually(gone, seconds=90, what="the schedule's jobs gone")
