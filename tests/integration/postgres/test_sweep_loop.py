"""The sweep against real rows: what must stay keeps nothing else, and what is deleted counts no more."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from postgres_rows import NAMESPACE, PROVIDER, keep_failed

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain import sweeping
from import_core.domain.errors import KubernetesUnavailableError, ObjectRefusedError
from import_core.domain.reopening import RETRY_ANNOTATION
from import_operator.loops import sweep
from import_operator.loops.sweep import SweepLoop
from import_operator.state import OperatorState


class ApiServer:
    """Takes deletions; the events that tell of them do not come."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.error: Callable[[], Exception] | None = None

    async def delete(self, _kind: Any, _namespace: str, name: str, **_preconditions: Any) -> None:
        if self.error is not None:
            raise self.error()
        self.deleted.append(name)


class World:
    def __init__(self, database: Database, *, limit: int = 5000) -> None:
        self.database = database
        self.state = OperatorState(NAMESPACE)
        self.api_server = ApiServer()
        self.loop = SweepLoop(
            self.state,
            self.api_server,  # type: ignore[arg-type]
            ReopeningStore(database),
            finished_objects_limit=limit,
        )

    async def finished(
        self, names: list[str], *, company: str = "acme", ago: float = 0.0, **annotations: str
    ) -> None:
        """Objects and rows that failed so many seconds ago, with a minute to live."""
        await keep_failed(
            self.database,
            self.state,
            names,
            completed_at=(datetime.now(UTC) - timedelta(seconds=ago)).isoformat(),
            annotations=annotations,
            companyId=company,
            ttlSecondsAfterFinished=60,
        )


async def test_what_is_deleted_counts_no_more(database: Database) -> None:
    world = World(database, limit=5)
    await world.finished([f"job-{number}" for number in range(9)])
    for _ in range(4):
        await world.loop.round()
    assert len(world.api_server.deleted) == 4, "nine, of which five may stay"


async def test_objects_that_must_stay_do_not_keep_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(sweep, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(sweep, "DELETED_PER_ROUND", 1)
    world = World(database)
    await world.finished([f"stays-{n:02}" for n in range(40)], ago=900, **{RETRY_ANNOTATION: "1"})
    await world.finished(["goes"], ago=600)
    for _ in range(300):
        clock[0] += 1.0
        await world.loop.round()
        if world.api_server.deleted:
            break
    assert world.api_server.deleted == ["goes"]


@pytest.mark.parametrize(("company", "kept"), [("acme", True), ("other", False)])
async def test_request_that_is_refused_keeps_its_object_a_day_longer(
    database: Database, monkeypatch: pytest.MonkeyPatch, company: str, kept: bool
) -> None:
    clock = [0.0]
    monkeypatch.setattr(sweep, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    world = World(database)
    world.state.providers.put(PROVIDER)
    day = sweeping.GIVEN_UP_AFTER.total_seconds()
    await world.finished(["young"], company="other", ago=day, **{RETRY_ANNOTATION: "1"})
    await world.finished(["old"], company=company, ago=day + 61, **{RETRY_ANNOTATION: "1"})
    await world.loop.round()
    assert world.api_server.deleted == [], "its provider may not be known yet"
    for _ in range(10):
        clock[0] += sweeping.LONGEST_HELD_SECONDS
        await world.loop.round()
    assert world.api_server.deleted == ([] if kept else ["old"])


async def test_refused_deletion_does_not_end_the_round(database: Database) -> None:
    world = World(database)
    await world.finished(["a", "b"], ago=600)
    world.api_server.error = ObjectRefusedError
    await world.loop.round()
    world.api_server.error = None
    await world.loop.round()
    assert world.api_server.deleted == [], "held for a while"


async def test_an_api_server_that_is_away_is_told(database: Database) -> None:
    world = World(database)
    await world.finished(["a"], ago=600)
    world.api_server.error = KubernetesUnavailableError
    with pytest.raises(KubernetesUnavailableError):
        await world.loop.round()
    world.api_server.error = None
    await world.loop.round()
    assert world.api_server.deleted == ["a"]
