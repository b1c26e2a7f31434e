"""A person's word is for a number of cancellations, and for no more, whatever happens in between."""

from datetime import datetime, timedelta

import pytest

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.origins import OriginStore
from import_core.domain.jobs import JobRequest, JobState, ObjectReference
from import_core.domain.vanished import Guard
from import_operator import vanishing
from import_operator.loops.tell import TellLoop
from import_operator.state import OperatorState
from import_operator.vanishing import VanishedJobs

NAMESPACE, HERE = "imports", "here"


async def record(database: Database, number: int) -> list[str]:
    ids = [f"gone-{index:03}" for index in range(number)]
    await JobStore(database).record(
        [
            JobRequest(i, "acme", "p", NAMESPACE, {}, ObjectReference(NAMESPACE, i, i), generation=1)
            for i in ids
        ]
    )
    return ids


async def cancelled(database: Database, ids: list[str]) -> int:
    rows = (await JobStore(database).read(ids)).values()
    return sum(row.state is JobState.CANCELLED for row in rows)


async def confirm(database: Database, withheld: int, number: int) -> GuardStore:
    store = GuardStore(database)
    await store.withhold(NAMESPACE, cluster_uid=HERE, number=withheld, reason="TooManyAtOnce")
    await store.confirm(NAMESPACE, number=number, confirmed_by="me")
    return store


async def test_each_cancelled_job_uses_up_the_word(database: Database) -> None:
    ids = await record(database, 20)
    store = await confirm(database, 20, 12)
    first = await store.cancel_confirmed(NAMESPACE, ids[:5], cluster_uid=HERE, message="gone")
    assert sorted(first) == ids[:5]
    guard = await store.read(NAMESPACE)
    assert guard is not None
    assert (guard.withheld, guard.is_confirmed) == (7, True), "whoever goes on after a death knows the rest"
    await store.cancel_confirmed(NAMESPACE, ids[:5], cluster_uid=HERE, message="gone")
    second = await store.cancel_confirmed(NAMESPACE, ids[5:], cluster_uid="there", message="gone")
    assert len(second) == 7
    assert await store.read(NAMESPACE) == Guard("there"), "used up"
    assert await store.cancel_confirmed(NAMESPACE, ids, cluster_uid=HERE, message="gone") == []
    assert await cancelled(database, ids) == 12


async def test_without_a_word_nothing_is_cancelled(database: Database) -> None:
    ids = await record(database, 2)
    store = GuardStore(database)
    assert await store.cancel_confirmed(NAMESPACE, ids, cluster_uid=HERE, message="gone") == []
    await store.withhold(NAMESPACE, cluster_uid=HERE, number=2, reason="TooManyAtOnce")
    assert await store.cancel_confirmed(NAMESPACE, ids, cluster_uid=HERE, message="gone") == []
    assert await cancelled(database, ids) == 0


class Comparison:
    """The operator's comparison of rows with a list of no objects at all."""

    def __init__(self, database: Database) -> None:
        self.state = OperatorState(NAMESPACE)
        self._origins = OriginStore(database)
        tell = TellLoop(KubeClient.__new__(KubeClient), namespace=NAMESPACE, instance="tests")
        self._vanished = VanishedJobs(
            self.state, self._origins, JobStore(database), GuardStore(database), tell
        )

    async def run(self) -> None:
        before: datetime = await self._origins.now() + timedelta(seconds=1)
        await self._vanished.compare({}, recorded_before=before, cluster_uid=HERE)


async def test_many_rounds_cancel_no_more_than_was_confirmed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vanishing, "CANCELLED_AT_ONCE", 10)
    ids = await record(database, 60)
    store = await confirm(database, 24, 24)
    comparison = Comparison(database)
    for expected in (10, 20, 24, 24):
        comparison.state.reconcile_wanted.clear()
        await comparison.run()
        assert await cancelled(database, ids) == expected
    guard = await store.read(NAMESPACE)
    assert guard is not None
    assert (guard.withheld, guard.is_confirmed) == (36, False), "the rest is asked about"


async def test_deletions_that_were_seen_are_not_missing(database: Database) -> None:
    ids = await record(database, 40)
    comparison = Comparison(database)
    comparison.state.to_cancel.update(ids[:20])
    comparison.state.cancelling = frozenset(ids[20:38])
    await comparison.run()
    guard = await GuardStore(database).read(NAMESPACE)
    assert guard == Guard(HERE), "no alarm"
    assert await cancelled(database, ids) == 2, "the two that nobody saw go"
    assert comparison.state.reconcile_wanted.is_set(), "looks again soon"
