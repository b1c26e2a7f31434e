"""The worker's small parts without any outside system: gate, outages, leases, side tasks, settings."""

import asyncio

import pytest

from import_core.domain.errors import CredentialsError, DatabaseUnavailableError, ProviderThrottledError
from import_core.domain.leases import sort_renewal
from import_core.domain.resources.import_job import parse_import_job_spec
from import_worker.checks import judge
from import_worker.consumer import connection_options
from import_worker.gate import JobGate
from import_worker.importing import read_filter
from import_worker.outages import through_outages
from import_worker.settings import WorkerSettings
from import_worker.supervision import SideTasks


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Visitor:
    """A job at the gate that leaves when told."""

    def __init__(self, gate: JobGate, *, alone: bool = False) -> None:
        self.inside = self.runs = False
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._visit(gate, alone))

    async def _visit(self, gate: JobGate, alone: bool) -> None:
        async with gate.shared() as place:
            self.inside = True
            if alone:
                await place.become_alone()
            self.runs = True
            await self.leave.wait()
            self.runs = False

    async def go(self) -> None:
        self.leave.set()
        await self.task
        await settle()


async def test_jobs_share_the_worker() -> None:
    gate = JobGate()
    visitors = [Visitor(gate) for _ in range(3)]
    await settle()
    assert all(visitor.runs for visitor in visitors)
    for visitor in visitors:
        await visitor.go()


async def test_a_suspect_waits_for_all_and_holds_up_the_next() -> None:
    gate = JobGate()
    first = Visitor(gate)
    await settle()
    suspect = Visitor(gate, alone=True)
    await settle()
    later = Visitor(gate)
    await settle()
    assert (first.runs, suspect.inside, suspect.runs, later.inside) == (True, True, False, False)
    await first.go()
    assert (suspect.runs, later.inside) == (True, False)
    await suspect.go()
    assert later.runs
    await later.go()


async def test_two_suspects_run_one_after_the_other() -> None:
    gate = JobGate()
    suspects = [Visitor(gate, alone=True) for _ in range(2)]
    await settle()
    assert [suspect.runs for suspect in suspects].count(True) == 1
    running = next(suspect for suspect in suspects if suspect.runs)
    await running.go()
    other = next(suspect for suspect in suspects if suspect is not running)
    assert other.runs
    await other.go()


async def test_a_suspect_that_gives_up_waiting_opens_the_gate() -> None:
    gate = JobGate()
    first = Visitor(gate)
    await settle()
    suspect = Visitor(gate, alone=True)
    await settle()
    suspect.task.cancel()
    await settle()
    later = Visitor(gate)
    await settle()
    assert later.runs
    for visitor in (first, later):
        await visitor.go()


async def test_an_outage_is_waited_out() -> None:
    answers = [DatabaseUnavailableError(), DatabaseUnavailableError(), "done"]

    async def operation() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await through_outages(operation, what="test") == "done"


async def test_a_long_outage_is_given_up() -> None:
    async def operation() -> None:
        raise DatabaseUnavailableError

    with pytest.raises(DatabaseUnavailableError):
        await through_outages(operation, what="test", seconds=0.3)


async def test_other_errors_are_not_repeated() -> None:
    calls = []

    async def operation() -> None:
        calls.append(1)
        raise CredentialsError

    with pytest.raises(CredentialsError):
        await through_outages(operation, what="test")
    assert calls == [1]


def test_a_renewal_sorts_what_was_asked_for() -> None:
    outcome = sort_renewal(["a", "b", "busy"], {"b", "made-meanwhile"}, {"busy"})
    assert (outcome.confirmed, outcome.lost) == ({"b"}, {"a"})


@pytest.mark.parametrize("fails", [True, False])
async def test_the_end_of_a_side_task_is_noticed(fails: bool) -> None:
    async def work() -> None:
        if fails:
            raise RuntimeError("broken")

    tasks = SideTasks()
    tasks.start("work", work())
    await asyncio.wait_for(tasks.died.wait(), 5)
    await tasks.close()


async def test_side_tasks_that_are_closed_have_not_died() -> None:
    tasks = SideTasks()
    tasks.start("work", asyncio.Event().wait())  # type: ignore[arg-type]
    await settle()
    await tasks.close()
    assert not tasks.died.is_set()


def test_a_throttled_check_proves_reachability_only() -> None:
    result = judge(ProviderThrottledError(), asked=True)
    assert (result.reachable, result.credentials_valid) == (True, None)


def test_tls_to_redis_is_kept() -> None:
    options = connection_options("rediss://user:p%40ss@queue.example:6380/2")
    assert options["ssl"] is True
    assert (options["host"], options["port"], options["db"]) == ("queue.example", 6380, 2)
    assert (options["username"], options["password"]) == ("user", "p@ss")
    assert "ssl" not in connection_options("redis://h:1/0")


def test_settings_hide_their_secrets() -> None:
    settings = WorkerSettings(
        database_url="postgresql://u:hush@h/d", redis_url="redis://:hush@h/0", image_allow="127.0.0.1:80"
    )
    assert "hush" not in repr(settings)
    assert settings.allowed_networks[0].port == 80


@pytest.mark.parametrize(("action", "is_current"), [("Archive", True), ("Keep", False)])
def test_only_a_job_that_archives_needs_a_listing_of_its_own(action: str, is_current: bool) -> None:
    spec = {"companyId": "acme", "providerRef": {"name": "shop"}, "removed": {"action": action}}
    assert read_filter(parse_import_job_spec(spec)).is_current is is_current
