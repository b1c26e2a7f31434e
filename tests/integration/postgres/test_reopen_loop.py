"""What one object asks for is done whatever becomes of the others that ask at the same moment."""

from typing import Any

import psycopg
import pytest
from postgres_rows import NAMESPACE, PROVIDER, keep_failed

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.errors import LeaseUncertainError
from import_core.domain.jobs import JobState
from import_core.domain.reopening import RETRY_ANNOTATION
from import_operator.loops.reopen import ReopenLoop
from import_operator.loops.tell import TellLoop
from import_operator.state import OperatorState


class BadObjectStore(ReopeningStore):
    """PostgreSQL refuses one of the jobs."""

    async def retry(self, tokens: Any, **rest: Any) -> list[str]:
        if "bad" in tokens:
            raise psycopg.DataError("invalid input")
        return await super().retry(tokens, **rest)


async def asking(database: Database, names: list[str]) -> OperatorState:
    """Failed jobs whose objects ask for another run."""
    state = OperatorState(NAMESPACE)
    state.providers.put(PROVIDER)
    await keep_failed(
        database,
        state,
        names,
        completed_at="2026-01-01T00:00:00Z",
        annotations={RETRY_ANNOTATION: "1"},
    )
    return state


def loop_of(state: OperatorState, store: ReopeningStore) -> ReopenLoop:
    return ReopenLoop(
        state, store, TellLoop(KubeClient.__new__(KubeClient), namespace=NAMESPACE, instance="tests")
    )


async def states(database: Database, names: list[str]) -> list[JobState]:
    rows = await JobStore(database).read(names)
    return [rows[name].state for name in names]


async def test_one_that_is_refused_keeps_no_other_from_running_again(database: Database) -> None:
    names = ["a", "bad", "c"]
    state = await asking(database, names)
    await loop_of(state, BadObjectStore(database)).round()
    assert await states(database, names) == [JobState.PENDING, JobState.FAILED, JobState.PENDING]
    assert len(state.to_reopen) == 0, "it is looked at again when it changes, or with all objects"


async def test_who_may_not_lead_any_more_tries_again_later(database: Database) -> None:
    state = await asking(database, ["a"])

    def leads_no_more() -> None:
        raise LeaseUncertainError

    with pytest.raises(LeaseUncertainError):
        await loop_of(state, ReopeningStore(database, check=leads_no_more)).round()
    assert await states(database, ["a"]) == [JobState.FAILED]
    await loop_of(state, ReopeningStore(database)).round()
    assert await states(database, ["a"]) == [JobState.PENDING]
