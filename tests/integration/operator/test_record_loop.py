"""Recording in batches: one bad object does not keep the others from being recorded."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from import_core.adapters.postgres import Database, step_control
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.origins import OriginStore
from import_core.adapters.postgres.queue_state import QueueState, QueueStateStore
from import_core.adapters.postgres.step_control import CANCELLED_AT_ONCE, StepControl
from import_core.adapters.postgres.workers import WorkerStore
from import_core.domain.admission import DATABASE_UNAVAILABLE, Refusal, Verdict
from import_core.domain.backpressure import Intake, IntakeState, QueueHealth, Thresholds
from import_core.domain.errors import DatabaseUnavailableError
from import_core.domain.holding import BACKPRESSURE, Held
from import_core.domain.jobs import DEFAULT_QUEUE, JobState, Tier
from import_operator.holding import Holding
from import_operator.loops import record
from import_operator.loops.reconcile import ReconcileLoop
from import_operator.loops.record import RecordLoop
from import_operator.loops.steps import StepLoop
from import_operator.loops.tell import TellLoop
from import_operator.state import OperatorState
from import_operator.vanishing import VanishedJobs


def job(uid: str, *, generation: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": uid,
            "namespace": "imports",
            "uid": uid,
            "generation": generation,
            "resourceVersion": str(generation),
        },
        "spec": {"companyId": "acme", "providerRef": {"name": "acme-shopify"}, **spec},
    }


PROVIDER = {
    "metadata": {"name": "acme-shopify", "namespace": "imports", "uid": "p", "resourceVersion": "1"},
    "spec": {
        "companyId": "acme",
        "type": "shopify",
        "baseUrl": "https://acme.myshopify.com",
        "credentialsSecretRef": {"name": "acme-shopify"},
    },
}


@pytest.fixture
def state() -> OperatorState:
    state = OperatorState("imports")
    state.providers.put(PROVIDER)
    return state


def new_loop(state: OperatorState, database: Database) -> RecordLoop:
    holding = Holding(state, QueueStateStore(database), OriginStore(database))
    return RecordLoop(state, JobStore(database), holding)


async def reconcile_jobs(state: OperatorState, database: Database) -> None:
    """A round of the reconcile loop, with the objects that the operator knows."""

    class Objects:
        async def namespace_uid(self, _namespace: str) -> str:
            return "here"

        async def list(self, *_arguments: Any) -> AsyncIterator[Any]:
            for body in state.jobs:
                yield body

    kube: Any = Objects()
    origins = OriginStore(database)
    tell = TellLoop(kube, namespace="imports", instance="tests")
    vanishing = VanishedJobs(state, origins, JobStore(database), GuardStore(database), tell)
    loop = ReconcileLoop(
        state,
        kube,
        origins=origins,
        vanishing=vanishing,
        workers=WorkerStore(database),
        breakers=BreakerStore(database),
    )
    await loop._reconcile_jobs()


def submit(state: OperatorState, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        state.jobs.put(body)
        state.to_record.add(body["metadata"]["uid"])


async def test_batch_is_recorded_and_told(state: OperatorState, database: Database) -> None:
    submit(state, *(job(f"job-{number:03}") for number in range(501)))
    loop = new_loop(state, database)
    await loop.round()
    assert len(state.to_record) == 1, "one batch a round"
    await loop.round()
    rows = await JobStore(database).read([f"job-{number:03}" for number in range(501)])
    assert len(rows) == 501
    assert len(state.to_project) == 501
    assert state.dispatch_wanted.is_set()


async def test_another_operator_writes_nothing_of_what_is_recorded(
    state: OperatorState, database: Database
) -> None:
    bodies = [job("a"), job("b"), job("asleep", suspend=True)]
    submit(state, *bodies)
    await new_loop(state, database).round()

    async def versions() -> dict[str, tuple[str, str]]:
        async with database.connection() as connection:
            cursor = await connection.execute(
                """SELECT id, xmin::text, xmax::text FROM "ProductImportJob" WHERE id <> 'asleep'"""
            )
            return {row[0]: row[1:] for row in await cursor.fetchall()}

    before = await versions()
    next_state = OperatorState("imports")
    next_state.providers.put(PROVIDER)
    submit(next_state, *bodies, job("new"))
    await new_loop(next_state, database).round()
    after = await versions()
    assert after.pop("new")
    assert after == before, "locking a row writes to it"
    assert next_state.verdicts.keys() == {"a", "b", "asleep", "new"}
    assert len(next_state.to_project) == 4


async def test_newer_spec_replaces_that_of_a_waiting_job(state: OperatorState, database: Database) -> None:
    loop = new_loop(state, database)
    submit(state, job("a"))
    await loop.round()
    submit(state, job("a", generation=2, images={"enabled": False}))
    await loop.round()
    row = (await JobStore(database).read(["a"]))["a"]
    assert (row.generation, row.spec["images"]) == (2, {"enabled": False})


async def test_object_that_breaks_the_code_is_left_out(
    state: OperatorState, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = record.admit

    def admit(body: Any, provider: Any, **options: Any) -> Any:
        if body["metadata"]["uid"] == "bad":
            raise ZeroDivisionError
        return judge(body, provider, **options)

    monkeypatch.setattr(record, "admit", admit)
    submit(state, job("a"), job("bad"), job("b"))
    await new_loop(state, database).round()
    assert set(await JobStore(database).read(["a", "bad", "b"])) == {"a", "b"}


async def test_object_that_the_database_refuses_is_left_out(
    state: OperatorState, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if admission had let it pass.
    monkeypatch.setattr("import_core.domain.admission._holds_nul", lambda _value: False)
    submit(state, job("a"), job("bad", fieldMapping={"title": "'x\0y'"}), job("b"))
    await new_loop(state, database).round()
    assert set(await JobStore(database).read(["a", "bad", "b"])) == {"a", "b"}


async def test_held_job_whose_write_failed_is_taken_up_again(
    state: OperatorState, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queues, jobs = QueueStateStore(database), JobStore(database)
    await queues.set_intake(DEFAULT_QUEUE, stopped=True, reason=None, changed_by="ada")
    submit(state, job("a"))
    loop = new_loop(state, database)
    await loop.round()
    assert set(state.held) == {"a"}
    await queues.set_intake(DEFAULT_QUEUE, stopped=False, reason=None, changed_by="ada")

    async def fail(_self: JobStore, _requests: Any) -> list[str]:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(JobStore, "record", fail)
        state.to_record.add("a")
        await loop.round()
    assert state.held == {}
    await reconcile_jobs(state, database)
    await loop.round()
    assert set(await jobs.read(["a"])) == {"a"}


async def test_room_is_given_once_when_the_queue_is_measured_meanwhile(
    state: OperatorState, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def intake(depth: int) -> IntakeState:
        now = datetime.now(UTC)
        return IntakeState(QueueHealth(depth=depth, measured_at=now), Intake(), Thresholds(critical_above=1))

    queues = QueueStateStore(database)
    async with queues.locked(DEFAULT_QUEUE) as locked:
        await locked.save(replace(locked.state, intake=intake(0)), tell=False)
    holding = Holding(state, queues, OriginStore(database))
    loop = RecordLoop(state, JobStore(database), holding)
    submit(state, job("first"))
    await loop.round()
    read = queues.health

    async def overtaken(queue: str) -> QueueState:
        before = await read(queue)
        holding.release(intake(1))
        return before

    submit(state, job("second"))
    monkeypatch.setattr(queues, "health", overtaken)
    state.held["second"] = Held("second", "acme", Tier.BASIC, datetime.now(UTC))
    await loop.round()
    assert set(await JobStore(database).read(["first", "second"])) == {"first"}
    assert set(state.held) == {"second"}


async def test_held_job_that_is_refused_later_takes_no_room_of_others(
    state: OperatorState, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queues = QueueStateStore(database)
    await queues.set_intake(DEFAULT_QUEUE, stopped=True, reason=None, changed_by="ada")
    submit(state, job("changed"), job("broken"), job("fine"))
    loop = new_loop(state, database)
    await loop.round()
    assert set(state.held) == {"changed", "broken", "fine"}
    judge = record.admit

    def admit(body: Any, provider: Any) -> Any:
        if body["metadata"]["uid"] == "broken":
            raise ZeroDivisionError
        return judge(body, provider)

    monkeypatch.setattr(record, "admit", admit)
    submit(state, job("changed", generation=2, companyId="another"))
    state.to_record.add("broken")
    await loop.round()
    assert set(state.held) == {"fine"}


@pytest.mark.parametrize("reason", [BACKPRESSURE, DATABASE_UNAVAILABLE])
async def test_job_that_nothing_remembers_is_recorded_at_the_next_comparison(
    state: OperatorState, database: Database, reason: str
) -> None:
    for uid in ("forgotten", "held"):
        state.jobs.put(job(uid))
        state.verdicts[uid] = Verdict(1, Refusal(reason, "m"))
    state.held["held"] = Held("held", "acme", Tier.BASIC, datetime.now(UTC))
    await reconcile_jobs(state, database)
    assert state.to_record.take(9) == ["forgotten"]


async def test_database_away_keeps_what_it_did_not_take(state: OperatorState) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none", application="tests")
    submit(state, job("a"))
    state.to_cancel.add("gone")
    loop = new_loop(state, away)
    with pytest.raises(DatabaseUnavailableError):
        await loop.round()
    assert state.to_cancel.take(9) == ["gone"]
    with pytest.raises(DatabaseUnavailableError):
        await loop.round()
    assert state.to_record.take(9) == ["a"]
    refusal = state.verdicts["a"].refusal
    assert refusal is not None
    assert refusal.reason == DATABASE_UNAVAILABLE
    assert state.to_project.take(9) == ["a"]


MANY_BATCHES = """
INSERT INTO "ProductImportJob" (id, "companyId", provider, queue, "parentId", status)
SELECT 'batch-' || n, 'acme', 'index-product', 'index-product', 'many', 'PENDING' FROM generate_series(1, %s) n
"""
HELD_BATCHES = """
SELECT count(*) FROM "ProductImportJob" WHERE "parentId" = 'many' AND suspended
"""


async def test_new_jobs_are_told_though_not_all_steps_of_another_one_can_be_held(
    state: OperatorState, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, steps = new_loop(state, database), StepLoop(state, StepControl(database))
    submit(state, job("many"))
    await loop.round()
    async with database.connection() as connection:
        await connection.execute(MANY_BATCHES, (CANCELLED_AT_ONCE + 1,))

    async def away(*_arguments: Any, **_values: Any) -> None:
        raise DatabaseUnavailableError

    async def held_batches() -> int:
        async with database.connection() as connection:
            row = await (await connection.execute(HELD_BATCHES)).fetchone()
        assert row is not None
        return int(row[0])

    # The row of the new one was there before: that it was made anew is a repair, counted where it is told.
    submit(state, job("many", generation=2, suspend=True), {**job("new"), "status": {"jobId": "new"}})
    with monkeypatch.context() as patched:
        patched.setattr(step_control, "hold_all_steps", away)
        with capture_logs() as logs:
            await loop.round()
        assert [each["jobId"] for each in logs if each["event"] == "job.repaired"] == ["new"]
        assert await held_batches() == CANCELLED_AT_ONCE
        with pytest.raises(DatabaseUnavailableError):
            await steps.round()
    await steps.round()
    assert await held_batches() == CANCELLED_AT_ONCE + 1
    assert not state.steps_to_hold


async def test_deleted_before_it_was_recorded(state: OperatorState, database: Database) -> None:
    submit(state, job("a"))
    state.forget_job("a")
    state.to_cancel.add("a")
    await new_loop(state, database).round()
    assert await JobStore(database).read(["a"]) == {}


async def test_deleted_after_it_was_recorded(state: OperatorState, database: Database) -> None:
    loop = new_loop(state, database)
    submit(state, job("a"))
    await loop.round()
    state.to_cancel.add("a")
    await loop.round()
    row = (await JobStore(database).read(["a"]))["a"]
    assert (row.state, row.message) == (JobState.CANCELLED, "The ImportJob was deleted")
