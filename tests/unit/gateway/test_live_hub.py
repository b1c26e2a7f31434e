"""The hub of live events with stand-ins for what it reads: what fails delays, and ends nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from import_core.domain.errors import (
    DatabaseUnavailableError,
    KubernetesUnavailableError,
    ObjectForbiddenError,
)
from import_core.domain.resources.import_job import JobPhase
from import_gateway.api.models import Import
from import_gateway.live import hub as hub_module
from import_gateway.live import stream as stream_module
from import_gateway.live.hub import LiveHub, Watched
from import_gateway.live.messages import HEARTBEAT
from import_gateway.live.places import TooManyListenersError, TooManyOwnListenersError
from import_gateway.live.reading import MOST_OBJECTS
from import_gateway.live.stream import EventStream, Terms, job_events, overview_events
from import_gateway.metrics import GatewayMetrics


class NoDatabase:
    """Nobody can listen there."""

    async def dedicated(self, **_options: Any) -> Any:
        raise DatabaseUnavailableError


class Jobs:
    """Rows and objects by id; `fails` are raised first, one at each read."""

    def __init__(self) -> None:
        self.rows: dict[str, Import] = {}
        self.objects: dict[str, Import] = {}
        self.fails: list[Exception] = []
        self.objects_fail: Exception | None = None

    async def read(self, job_ids: Sequence[str], **_options: Any) -> dict[str, Import]:
        if self.fails:
            raise self.fails.pop(0)
        return {job_id: self.rows[job_id] for job_id in job_ids if job_id in self.rows}

    async def read_objects(self, views: Sequence[Import]) -> dict[str, Import]:
        if self.objects_fail is not None:
            raise self.objects_fail
        return {view.id: self.objects[view.id] for view in views if view.id in self.objects}


class Overviews:
    def __init__(self) -> None:
        self.entries: dict[str, Any] = {"queue/a": {"depth": 0}}
        self.release = asyncio.Event()
        self.release.set()
        self.fails: list[Exception] = []

    async def read(self) -> dict[str, Any]:
        await self.release.wait()
        if self.fails:
            raise self.fails.pop(0)
        return dict(self.entries)


class Stage:
    """A hub with its stand-ins."""

    def __init__(self) -> None:
        self.jobs = Jobs()
        self.overviews = Overviews()
        self.metrics = GatewayMetrics()
        database: Any = NoDatabase()
        jobs: Any = self.jobs
        overviews: Any = self.overviews
        self.hub = LiveHub(
            database, jobs, overviews, self.metrics, most=100, most_each=2, reread_seconds=0.01
        )

    def failures(self, part: str) -> float:
        return self.metrics.registry.get_sample_value("imports_live_failures_total", {"part": part}) or 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.hub.run())
        try:
            yield task
        finally:
            self.hub.close()
            await task


def view(job_id: str, phase: JobPhase = JobPhase.QUEUED, **fields: Any) -> Import:
    values: dict[str, Any] = {
        "namespace": "shop",
        "name": job_id,
        "id": job_id,
        "company_id": "acme",
        "provider": "p",
    }
    return Import(**values, phase=phase, **fields)


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if check():
                return
            await asyncio.sleep(0.005)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    for name in ("COALESCE_SECONDS", "RETRY_SECONDS", "OVERVIEW_SECONDS"):
        monkeypatch.setattr(hub_module, name, 0.001)
    return Stage()


async def test_errors_that_nobody_thought_of_end_neither_reading_nor_the_process(stage: Stage) -> None:
    stage.jobs.fails = [ValueError("'HELD' is not a valid JobState"), LookupError()]
    stage.overviews.fails = [ValueError()]
    stage.jobs.rows["a"] = view("a", JobPhase.RUNNING)
    async with stage.running() as running:
        with stage.hub.follow(view("a")) as (job, _), stage.hub.follow_overview():
            await until(lambda: job.view.phase is JobPhase.RUNNING and stage.hub.overview_read.is_set())
        assert not running.done()
    assert stage.failures("jobs") == 2
    assert stage.failures("overview") == 1


async def test_rows_are_told_while_the_api_server_is_away(stage: Stage) -> None:
    stage.jobs.objects_fail = KubernetesUnavailableError()
    stage.jobs.rows["recorded"] = view("recorded", JobPhase.RUNNING)
    async with stage.running():
        with (
            stage.hub.follow(view("new", JobPhase.PENDING)) as (new, _),
            stage.hub.follow(view("recorded")) as (recorded, _),
        ):
            await until(lambda: recorded.view.phase is JobPhase.RUNNING and stage.failures("objects") > 1)
            assert new.view.phase is JobPhase.PENDING
            stage.jobs.objects_fail = None
            stage.jobs.objects["new"] = view("new", JobPhase.PENDING, reason="Backpressure")
            await until(lambda: new.view.reason == "Backpressure")


async def test_slow_overview_delays_no_job(stage: Stage) -> None:
    stage.overviews.release.clear()
    stage.jobs.rows["a"] = view("a", JobPhase.RUNNING)
    async with stage.running():
        with stage.hub.follow_overview(), stage.hub.follow(view("a")) as (job, _):
            await until(lambda: job.view.phase is JobPhase.RUNNING)
            assert not stage.hub.overview_read.is_set()


async def test_unrecorded_jobs_take_turns(stage: Stage) -> None:
    ids = [f"job-{number}" for number in range(3 * MOST_OBJECTS)]
    stage.jobs.objects = {job_id: view(job_id, JobPhase.PENDING, reason="Backpressure") for job_id in ids}
    async with stage.running():
        with ExitStack() as followed:
            jobs = [followed.enter_context(stage.hub.follow(view(i, JobPhase.PENDING)))[0] for i in ids]
            await until(lambda: all(job.view.reason == "Backpressure" for job in jobs))


async def test_job_that_is_deleted_before_it_is_recorded_ends_as_cancelled(stage: Stage) -> None:
    stage.jobs.objects["held"] = view("held", JobPhase.PENDING, reason="Backpressure")
    async with stage.running():
        terms = Terms(None, 1000.0, stage_check)
        events = job_events(stage.hub, view("held", JobPhase.PENDING), terms)
        told = [await anext(events), await anext(events)]
        assert b"Backpressure" in told[1]
        del stage.jobs.objects["held"]
        async with asyncio.timeout(10):
            told += [message async for message in events]
        assert b'"phase":"Cancelled"' in told[-1].replace(b" ", b"")


async def stage_check() -> None:
    """Everybody may listen."""


async def test_one_read_that_finds_nothing_ends_no_stream() -> None:
    job = Watched(view("a", JobPhase.PENDING))
    phases = []
    for found in (None, view("a"), None, None):
        job.take(found)
        phases.append(job.view.phase)
    assert phases == [JobPhase.PENDING, JobPhase.QUEUED, JobPhase.QUEUED, JobPhase.CANCELLED]


async def test_places_are_bounded_for_each_caller_and_for_all(stage: Stage) -> None:
    own = [stage.hub.take_place("a") for _ in range(2)]
    with pytest.raises(TooManyOwnListenersError):
        stage.hub.take_place("a")
    others = [stage.hub.take_place(f"other-{number}") for number in range(98)]
    with pytest.raises(TooManyListenersError):
        stage.hub.take_place("b")
    own[0].free()
    own[0].free()
    assert stage.hub.listeners == 99
    stage.hub.take_place("a").free()
    for place in [own[1], *others]:
        place.free()
    assert stage.hub.listeners == 0


async def test_place_of_an_answer_that_can_not_begin_is_free_again(stage: Stage) -> None:
    stream = EventStream(overview_events(stage.hub, Terms(None, 1.0, stage_check)), stage.hub.take_place("a"))

    async def gone(_message: Any) -> None:
        raise OSError

    with pytest.raises(Exception):  # noqa: B017 - whatever the server raises
        await stream({"type": "http"}, asyncio.Event().wait, gone)  # type: ignore[arg-type]
    assert stage.hub.listeners == 0


async def test_silent_stream_asks_for_its_right(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "CHECK_SECONDS", 0.01)
    asked = 0

    async def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise KubernetesUnavailableError
        raise ObjectForbiddenError

    async with asyncio.timeout(10):
        told = [message async for message in overview_events(stage.hub, Terms(None, 1000.0, check))]
    assert asked == 2, "that nobody can be asked says nothing about the caller"
    assert told[1:] == [HEARTBEAT] * (len(told) - 1)
