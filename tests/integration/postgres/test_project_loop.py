"""An object's status becomes true in the end, also where the API server refused it at first."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from postgres_rows import PROVIDER, keep_failed

from import_core.adapters.kube.resources import IMPORT_PROVIDER
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.connections import ConnectionStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.domain.breaker import BreakerPolicy
from import_core.domain.errors import ObjectForbiddenError
from import_core.domain.projection import PatchSchedule
from import_operator.loops.breakers import BreakerLoop
from import_operator.loops.project import ProjectLoop
from import_operator.loops.provider_status import ProviderStatusLoop
from import_operator.loops.reconcile import ReconcileLoop
from import_operator.loops.tell import TellLoop
from import_operator.state import OperatorState


class ApiServer:
    """Refuses the first patches, as one does that has just started and does not know its roles yet."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.patches: list[dict[str, Any]] = []

    async def patch_status(
        self, _kind: Any, _namespace: str, _name: str, status: dict[str, Any], **_versions: Any
    ) -> dict[str, Any]:
        if self.refusals:
            self.refusals -= 1
            raise ObjectForbiddenError("cannot patch")
        self.patches.append(status)
        return {
            "metadata": {"name": "a", "namespace": "imports", "uid": "a", "resourceVersion": "2"},
            "status": status,
        }


async def test_a_refused_status_is_written_later(database: Database) -> None:
    state, server = OperatorState("imports"), ApiServer(refusals=1)
    await keep_failed(database, state, ["a"], completed_at="2026-01-01T00:00:00Z", annotations={})
    kube: Any = server
    loop = ProjectLoop(
        state,
        JobStore(database),
        kube,
        TellLoop(kube, namespace="imports", instance="o"),
        schedule=PatchSchedule(object_seconds=0.0),
    )
    loop.again_seconds = 0.0
    state.to_project.add("a")
    state.to_project.wake.clear()
    await loop.round()
    assert not server.patches
    await state.to_project.wake.wait()
    await loop.round()
    assert len(server.patches) == 1


async def test_the_jobs_of_a_breaker_that_opens_or_closes_are_shown_anew(database: Database) -> None:
    state, breakers = OperatorState("imports"), BreakerStore(database)
    for name, provider, phase in (("held", "p", "Queued"), ("done", "p", "Failed"), ("other", "q", "Queued")):
        metadata = {"name": name, "namespace": "imports", "uid": name, "resourceVersion": "1"}
        spec = {"companyId": "acme", "providerRef": {"name": provider}}
        state.jobs.put({"metadata": metadata, "spec": spec, "status": {"phase": phase}})
    loop = BreakerLoop(state, breakers)
    await breakers.open_by_hand("imports", "p", by="ada", reason=None)
    for is_closed in (False, True):
        await loop.round()
        assert state.to_project.take(10) == ["held"]
        assert state.dispatch_wanted.is_set() == is_closed
        await loop.round()
        assert state.to_project.take(10) == []
        await breakers.reset("imports", "p")


class Listing:
    """An API server that lists these providers, and nothing else."""

    def __init__(self, *providers: dict[str, Any]) -> None:
        self.providers = providers

    async def list(self, kind: Any, _namespace: str, **_labels: Any) -> AsyncIterator[dict[str, Any]]:
        for body in self.providers if kind is IMPORT_PROVIDER else ():
            yield body


@pytest.mark.parametrize(("listed", "left"), [((PROVIDER,), {"p"}), ((), {"p", "failing", "opened"})])
async def test_breakers_of_providers_that_nobody_saw_go_are_forgotten(
    database: Database, listed: tuple[dict[str, Any], ...], left: set[str]
) -> None:
    state, breakers = OperatorState("imports"), BreakerStore(database)
    listing: Any = Listing(*listed)
    await breakers.open_by_hand("imports", "p", by="ada", reason=None)
    await breakers.open_by_hand("imports", "opened", by="ada", reason=None)
    await breakers.failed("imports", "failing", holder=None, policy=BreakerPolicy())
    await breakers.failed("elsewhere", "failing", holder=None, policy=BreakerPolicy())
    nothing: Any = None
    await ReconcileLoop(
        state, listing, origins=nothing, vanishing=nothing, workers=nothing, breakers=breakers
    ).prime()
    server: Any = ApiServer(refusals=0)
    tell = TellLoop(server, namespace="imports", instance="o")
    await ProviderStatusLoop(
        state,
        ConnectionStore(database),
        breakers,
        server,
        tell,
        webhooks=WebhookStore(database, namespace="imports"),
    ).round()
    assert set(await breakers.read_many("imports", ["p", "failing", "opened"])) == left
    assert set(await breakers.read_many("elsewhere", ["failing"])) == {"failing"}


async def test_a_refused_status_of_a_provider_is_written_later(database: Database) -> None:
    state, server = OperatorState("imports"), ApiServer(refusals=1)
    state.providers.put(PROVIDER)
    kube: Any = server
    tell = TellLoop(kube, namespace="imports", instance="o")
    loop = ProviderStatusLoop(
        state,
        ConnectionStore(database),
        BreakerStore(database),
        kube,
        tell,
        webhooks=WebhookStore(database, namespace="imports"),
    )
    loop.again_seconds = 0.0
    state.to_check.add("p")
    state.to_check.wake.clear()
    await loop.round()
    assert not server.patches
    await state.to_check.wake.wait()
    await loop.round()
    assert len(server.patches) == 1
