"""What the operator does without Kubernetes, on a real database: workers by their own word, schedules as rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from import_core.adapters.folder import declarations as folder_module
from import_core.adapters.folder.declarations import Declarations
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.connections import ConnectionStore
from import_core.adapters.postgres.fleet import FleetStore, ReadyWorkers
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.postgres.repairs import RepairStore
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.adapters.postgres.workers import WorkerProcess, WorkerStore
from import_core.domain.errors import LeaseUncertainError
from import_core.domain.jobs import DEFAULT_QUEUE, JobRequest, JobState, Message
from import_core.domain.notifications import Endpoint
from import_operator.loops.notify import NotifyLoop
from import_operator.loops.reap import ReapLoop
from import_operator.standalone.connections import ConnectionLoop
from import_operator.standalone.fleet import LEAST_JOBS, FleetLoop
from import_operator.standalone.process import LogTeller
from import_operator.standalone.schedules import ScheduleLoop
from import_operator.state import OperatorState

API = "imports.avnz.io/v1alpha1"
NOON = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, application="standalone-test", maximum=4)
    await database.open()
    yield database
    await database.close()


async def execute(database: Database, statement: str, *parameters: Any) -> None:
    async with database.connection() as connection:
        await connection.execute(statement, parameters or None)


async def enter(database: Database, worker_id: str, pod: str, *, started: int, queue: str = "q") -> None:
    at = NOON + timedelta(seconds=started)
    await WorkerStore(database).register(WorkerProcess(worker_id, queue, "imports", pod, pod, 5, at))


async def test_workers_count_by_their_own_word_of_late(database: Database) -> None:
    fleet = FleetStore(database)
    assert await fleet.ready() == {}
    for number in range(3):
        await enter(database, f"w{number}", f"pod-{number}", started=number)
    await enter(database, "other", "pod-9", started=0, queue="step")
    await WorkerStore(database).seen("w1", state="draining")
    await execute(
        database, "UPDATE imports.worker SET seen_at = now() - interval '1 minute' WHERE worker_id = 'w2'"
    )
    assert await fleet.ready() == {"q": ReadyWorkers(1, 5), "step": ReadyWorkers(1, 5)}
    assert await fleet.replaced() == {}
    loop = FleetLoop(OperatorState("imports"), fleet, JobStore(database), WorkerStore(database))
    assert {queue: each.jobs for queue, each in loop.capacities().items()} == {DEFAULT_QUEUE: LEAST_JOBS}
    await loop.round()
    await execute(database, "DELETE FROM imports.worker WHERE queue = 'step'")
    await loop.round()
    # A queue that lost its workers is served on: they may come back.
    assert loop.queues() == {DEFAULT_QUEUE, "q", "step"} == set(loop.policies())


async def test_the_jobs_of_a_replaced_process_are_free_at_once(database: Database) -> None:
    state, jobs, claims = OperatorState("imports"), JobStore(database), ClaimStore(database)
    for name in ("old", "kept"):
        await jobs.record([JobRequest(f"of-{name}", "acme", "shop", "imports", {}, queue="q")])
        await execute(
            database,
            'UPDATE "ProductImportJob" SET dispatch = 1, "dispatchedAt" = now() WHERE id = %s',
            f"of-{name}",
        )
    await enter(database, "old", "pod-1", started=0)
    await enter(database, "kept", "pod-2", started=0)
    for name in ("old", "kept"):
        assert await claims.claim(Message(f"of-{name}", 1), worker_id=name) is not None
    await enter(database, "new", "pod-1", started=1)
    fleet = FleetLoop(state, FleetStore(database), jobs, WorkerStore(database))
    await fleet.round()
    assert state.workers_ended.is_set()
    await ReapLoop(state, claims, WorkerStore(database), RepairStore(database)).round()
    found = await jobs.read(["of-old", "of-kept"])
    assert (found["of-old"].state, found["of-old"].deaths) == (JobState.PENDING, 1)
    assert found["of-kept"].state is JobState.IN_PROGRESS
    assert await FleetStore(database).replaced() == {}


class Scheduled:
    """A folder with one schedule, a loop on it, and a clock."""

    def __init__(self, folder: Path, database: Database, **spec: Any) -> None:
        self.now = NOON
        self.jobs = JobStore(database)
        self.state = OperatorState("imports")
        self.folder = folder
        self._declarations = Declarations(str(folder), namespace="imports")
        self.write(**spec)
        self._declarations.load()
        self.sure = True
        self.loop = self.new_leader()

    def write(self, **spec: Any) -> None:
        provider = {
            "companyId": "acme",
            "type": "shopify",
            "baseUrl": "https://acme.myshopify.com",
            "credentialsSecretRef": {"name": "acme-shop"},
        }
        job = {"companyId": "acme", "providerRef": {"name": "acme-shop"}}
        schedule = {"schedule": "*/10 * * * *", "jitterSeconds": 0, "jobTemplate": {"spec": job}, **spec}
        bodies = [
            {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": each}
            for kind, name, each in (
                ("ImportProvider", "acme-shop", provider),
                ("ImportSchedule", "often", schedule),
            )
        ]
        (self.folder / "acme.yaml").write_text(yaml.safe_dump_all(bodies))

    def new_leader(self) -> ScheduleLoop:
        return ScheduleLoop(
            self.state, self._declarations, self.jobs, check=self._check, clock=lambda: self.now
        )

    def _check(self) -> None:
        if not self.sure:
            raise LeaseUncertainError

    async def after(self, minutes: float) -> list[str]:
        """The minutes whose runs have rows, a time later."""
        self.now += timedelta(minutes=minutes)
        await self.loop.round()
        return await self.runs()

    async def runs(self) -> list[str]:
        names = {f"often-{int(NOON.timestamp()) // 60 + each}": f"+{each}" for each in range(-20, 60)}
        return [names[job_id] for job_id in sorted(await self.jobs.read(list(names)))]


async def queue_is_known(database: Database, state: OperatorState) -> None:
    state.queues[DEFAULT_QUEUE] = await QueueStateStore(database).health(DEFAULT_QUEUE)


async def end(database: Database, status: str = "COMPLETED") -> None:
    await execute(database, 'UPDATE "ProductImportJob" SET status = %s', status)


async def test_a_run_is_a_row_and_comes_once(database: Database, tmp_path: Path) -> None:
    often = Scheduled(tmp_path, database)
    # What was due before the schedule was seen is past; and without a word of the queue nothing starts.
    assert await often.after(0) == []
    assert await often.after(10) == []
    await queue_is_known(database, often.state)
    often.sure = False
    with pytest.raises(LeaseUncertainError):
        await often.after(0.1)
    often.sure = True
    assert await often.after(0.1) == ["+10"]
    (row,) = (await often.jobs.read([f"often-{int(NOON.timestamp()) // 60 + 10}"])).values()
    assert (row.company_id, row.provider, row.namespace) == ("acme", "acme-shop", "imports")
    # Forbid: the next one waits for it; a new leader knows of both by the rows.
    assert await often.after(10) == ["+10"]
    often.loop = often.new_leader()
    assert await often.after(1) == ["+10"]
    await end(database)
    assert await often.after(0.2) == ["+10", "+20"]
    await end(database)
    assert await often.after(0.2) == ["+10", "+20"]
    often.loop = often.new_leader()
    assert await often.after(0.2) == ["+10", "+20"]


async def test_a_run_that_is_too_late_is_missed_and_a_newer_one_replaces(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "LOOK_SECONDS", 0.0)
    often = Scheduled(tmp_path, database, startingDeadlineSeconds=60, concurrencyPolicy="Replace")
    await queue_is_known(database, often.state)
    await often.after(0)
    assert await often.after(15) == []
    assert await often.after(5) == ["+20"]
    assert await often.after(10) == ["+20", "+30"]
    rows = await often.jobs.read([f"often-{int(NOON.timestamp()) // 60 + each}" for each in (20, 30)])
    assert [rows[each].state for each in sorted(rows)] == [JobState.CANCELLED, JobState.PENDING]
    often.write(suspend=True)
    assert await often.after(20) == ["+20", "+30"]
    (often.folder / "acme.yaml").unlink()
    assert await often.after(20) == ["+20", "+30"]


async def test_new_and_changed_connections_are_checked_and_gone_ones_forgotten(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "LOOK_SECONDS", 0.0)
    often = Scheduled(tmp_path, database)
    state, store = OperatorState("imports"), ConnectionStore(database)
    loop = ConnectionLoop(state, often._declarations, store, BreakerStore(database))
    await loop.round()
    due = await store.take_due("imports")
    assert due is not None
    assert due[0] == "acme-shop"
    await loop.round()
    assert await store.take_due("imports") is None
    assert [body["metadata"]["name"] for body in state.providers] == ["acme-shop"]
    (tmp_path / "acme.yaml").unlink()
    await loop.round()
    assert (list(state.providers), await store.read("imports", ["acme-shop"])) == ([], [])


async def test_webhooks_are_kept_as_the_folder_names_them(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "LOOK_SECONDS", 0.0)
    often = Scheduled(tmp_path, database)
    body = next(yaml.safe_load_all((tmp_path / "acme.yaml").read_text()))
    body["metadata"]["name"] = "bolt-shop"
    body["spec"]["notifications"] = {"url": "https://bolt.example/hooks", "secretRef": {"name": "bolt-hooks"}}
    (tmp_path / "bolt.yaml").write_text(yaml.safe_dump(body))
    state, webhooks = OperatorState("imports"), WebhookStore(database, namespace="imports")
    connections = ConnectionLoop(
        state, often._declarations, ConnectionStore(database), BreakerStore(database)
    )
    notify = NotifyLoop(state, webhooks, LogTeller())
    # A leader that knows no file yet forgets nothing.
    await webhooks.put(Endpoint("gone", "uid", "acme", "https://acme.example", "hooks", ["import.failed"]))
    await notify.round()
    assert [each.endpoint.provider for each in await webhooks.read()] == ["gone"]
    await connections.round()
    await notify.round()
    (kept,) = await webhooks.read()
    assert (kept.endpoint.provider, kept.endpoint.url) == ("bolt-shop", "https://bolt.example/hooks")
    (tmp_path / "bolt.yaml").unlink()
    await connections.round()
    await notify.round()
    assert await webhooks.read() == []
