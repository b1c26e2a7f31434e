"""Live events: the newest state at once, resumed by any replica, for many listeners on one connection."""

import asyncio

import pytest
from eventually import eventually
from gateway_world import Events, Gateway, World
from test_gateway_imports import problem

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.notifications import QUEUE_CHANNEL
from import_core.domain.jobs import JobState
from import_gateway.access.gatekeeper import Gatekeeper
from import_gateway.live import stream

LISTENING = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'gateway-listen' AND datname = current_database()
"""
HEARS_ALL = f"""{LISTENING} AND state = 'idle' AND query = 'LISTEN "{QUEUE_CHANNEL}"'"""
"""The last of its channels is listened to."""


async def test_job_is_followed_to_its_end(gateway: Gateway, world: World) -> None:
    job_id = await world.job("followed")
    path = gateway.one("followed", "/events")
    async with gateway.events(path) as events:
        assert events.response.headers["content-type"].startswith("text/event-stream")
        first = await events.next()
        assert (first.name, first.data["phase"]) == ("import", "Queued")
        await world.set(job_id, "IN_PROGRESS")
        assert (await events.next()).data["phase"] == "Running"
        await world.checkpoint(job_id, products_total=10, products_imported=4)
        shown = (await events.next()).data
        assert (shown["progress"]["percent"], shown["message"]) == (40, "4 of 10 products done")
        await world.set(job_id, "COMPLETED")
        last = await events.next()
        assert last.data["phase"] == "Succeeded"
        await events.until_ended()
    async with gateway.events(path, last_id=last.id) as events:
        assert events.response.status_code == 204, "a browser's EventSource stops for good"
    async with gateway.events(path) as events:
        assert (await events.next()).id == last.id


async def test_change_that_nobody_told_of_is_found(gateway: Gateway, world: World) -> None:
    await world.row("silent")
    async with gateway.events(gateway.one("silent", "/events")) as events:
        await events.next()
        await world.set("silent", "IN_PROGRESS", notify=False)
        assert (await events.next()).data["phase"] == "Running"


async def test_cancelled_and_recorded_jobs_are_told_of(gateway: Gateway, world: World) -> None:
    await world.row("stopped")
    async with gateway.events(gateway.one("stopped", "/events")) as events:
        await events.next()
        await world.jobs.cancel(["stopped"], message="by a test")
        assert (await events.next()).data["phase"] == "Cancelled"
    spec = {"companyId": "acme", "providerRef": {"name": "acme-shopify"}}
    body = await world.cluster.kube.create(
        IMPORT_JOB, world.cluster.namespace, {"metadata": {"name": "new"}, "spec": spec}
    )
    async with gateway.events(gateway.one("new", "/events")) as events:
        assert (await events.next()).data["phase"] == "Pending"
        await world.record(body)
        assert (await events.next()).data["phase"] == "Queued"


async def test_stream_goes_on_at_another_replica(world: World) -> None:
    """As after a restart: nothing is remembered but what PostgreSQL has."""
    await world.row("moving")
    await world.set("moving", "IN_PROGRESS")
    async with world.gateway() as gateway, gateway.events(gateway.one("moving", "/events")) as events:
        known = await events.next()
        gateway.services.hub.close()
        await events.until_ended()
    async with world.gateway(heartbeat_seconds=0.1) as gateway:
        path = gateway.one("moving", "/events")
        async with gateway.events(path, last_id=known.id) as events:
            lines = [await events.line() for _ in range(6)]
            assert "retry: 2000" in lines
            assert ": " in lines
            assert not [line for line in lines if line.startswith("data")], "it has the newest state"
            await world.checkpoint("moving", products_total=2, products_imported=1)
            assert (await events.next()).data["progress"]["percent"] == 50
        async with gateway.events(path, last_id=known.id) as events:
            assert (await events.next()).data["progress"]["percent"] == 50, "what was missed"
        async with gateway.events(path, last_id="from another time") as events:
            assert (await events.next()).data["progress"]["percent"] == 50


async def test_all_listeners_share_one_connection_and_one_read(world: World) -> None:
    await world.row("shared")
    begun = ended = 0
    async with world.gateway(reread_seconds=600) as gateway:
        read = gateway.services.jobs.jobs.read

        async def counted(ids: list[str]) -> object:
            nonlocal begun, ended
            begun += 1
            found = await read(ids)
            ended += 1
            return found

        async def listens() -> bool:
            return await world.execute(HEARS_ALL) == [(1,)]

        async def quiet() -> bool:
            hub = gateway.services.hub
            return not hub._changed and not hub._wake_jobs.is_set() and begun == ended

        async def one(started: asyncio.Semaphore) -> str:
            async with gateway.events(gateway.one("shared", "/events")) as events:
                await events.next()
                started.release()
                return str((await events.next()).data["phase"])

        # Where it begins to listen, everything is read once more.
        await eventually(listens)
        gateway.services.jobs.jobs.read = counted  # type: ignore[method-assign, assignment]
        started = asyncio.Semaphore(0)
        listeners = [asyncio.create_task(one(started)) for _ in range(50)]
        for _ in listeners:
            await started.acquire()
        await eventually(quiet)
        before = begun
        await world.set("shared", "IN_PROGRESS")
        assert set(await asyncio.gather(*listeners)) == {"Running"}
        assert begun - before == 1
        assert await world.execute(LISTENING) == [(1,)]

        async def all_gone() -> bool:
            return gateway.services.hub.listeners == 0

        # The server hears of a closed connection after the one who closes it.
        await eventually(all_gone)


async def test_listen_connection_that_is_lost_is_made_again(gateway: Gateway, world: World) -> None:
    await world.row("cut")
    async with gateway.events(gateway.one("cut", "/events")) as events:
        await events.next()
        await world.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'gateway-listen' AND datname = current_database()"
        )
        await world.set("cut", "IN_PROGRESS", notify=False)
        assert (await events.next()).data["phase"] == "Running"


async def test_listeners_are_bounded_and_make_room_when_they_go(world: World) -> None:
    await world.row("popular")
    async with world.gateway(listeners_limit=2) as gateway:
        path = gateway.one("popular", "/events")
        async with gateway.events(path) as first, gateway.events("/v1/events") as second:
            await first.next()
            await second.next()
            answer = await gateway.call("GET", path)
            problem(answer, 503, "busy")
            assert answer.headers["retry-after"]

        async def gone() -> bool:
            return gateway.services.hub.listeners == 0

        await eventually(gone)
        async with gateway.events(path) as events:
            await events.next()


async def test_one_caller_leaves_room_for_others(world: World) -> None:
    await world.row("greedy")
    async with world.gateway(caller_listeners_limit=1) as gateway:
        path = gateway.one("greedy", "/events")
        async with gateway.events(path) as first:
            await first.next()
            answer = await gateway.call("GET", path, caller="viewer")
            problem(answer, 429, "too-many-requests")
            assert answer.headers["retry-after"]
            async with gateway.events(path, caller="operations") as other:
                await other.next()


async def test_slow_listener_gets_the_newest_state_and_no_queue(world: World) -> None:
    await world.row("busy")
    await world.set("busy", "IN_PROGRESS")
    async with world.gateway(reread_seconds=600) as gateway:
        view = (await gateway.services.jobs.read(["busy"]))["busy"]
        with gateway.services.hub.follow(view) as (job, news):
            for done in range(1, 6):
                news.clear()
                await world.checkpoint("busy", products_total=5, products_imported=done)
                await news.wait()
            assert job.view.progress.percent == 100
            assert b'"percent":100' in job.message


async def test_overview_tells_everything_then_what_changes(gateway: Gateway, world: World) -> None:
    await world.row("a")
    await world.execute(
        """INSERT INTO imports.worker (worker_id, queue, namespace, pod_name, pod_uid, concurrency)
        VALUES ('w1', 'product-imports', %s, 'pod-1', 'u', 5)""",
        (world.cluster.namespace,),
    )
    async with gateway.events("/v1/events") as events:
        first = await events.next()
        assert first.name == "overview"
        assert [job["id"] for job in first.data["jobs"]] == ["a"]
        assert [worker["pod"] for worker in first.data["workers"]] == ["pod-1"]
        assert first.data["queues"][0]["depth"] == 1
        await world.row("b")
        await world.set("b", "FAILED")
        await world.execute("DELETE FROM imports.worker")
        seen: dict[str, object] = {}
        gone: list[str] = []
        while "b" not in seen or not gone:
            change = await events.next()
            assert change.name == "change"
            seen |= {job["id"]: job["phase"] for job in change.data["jobs"]}
            gone += change.data["gone"]
        assert gone == ["worker/w1"]


async def test_overview_is_resumed_by_any_replica(world: World) -> None:
    await world.row("kept")
    async with world.gateway() as gateway, gateway.events("/v1/events") as events:
        known = await events.next()
    async with world.gateway(heartbeat_seconds=0.1) as gateway, gateway.events("/v1/events") as events:
        assert (await events.next()).id == known.id
        async with gateway.events("/v1/events", last_id=known.id) as resumed:
            assert await only_heartbeats(resumed, 10)
            await world.set("kept", "FAILED")
            change = await resumed.next()
            assert (change.name, change.data["jobs"][0]["phase"]) == ("change", "Failed")


async def only_heartbeats(events: Events, lines: int) -> bool:
    return {await events.line() for _ in range(lines)} <= {"retry: 2000", "", ": "}


async def test_stream_ends_when_its_caller_loses_the_right(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_words: object, **_named: object) -> bool:
        return False

    monkeypatch.setattr(stream, "CHECK_SECONDS", 0.05)
    await world.row("secret")
    async with (
        world.gateway(heartbeat_seconds=0.05) as gateway,
        gateway.events(gateway.one("secret", "/events")) as events,
    ):
        await events.next()
        monkeypatch.setattr(Gatekeeper, "may", refuse)
        await events.until_ended()


async def test_states_of_the_overview_are_bounded(gateway: Gateway, world: World) -> None:
    await world.execute(
        """INSERT INTO "ProductImportJob" (id, "companyId", provider)
        SELECT 'many-' || n, 'acme', 'shop' FROM generate_series(1, 3000) n"""
    )
    views = gateway.services.jobs.views
    assert len(await views.newest(world.cluster.namespace, JobState.PENDING, limit=50)) == 50
    await world.execute(
        """UPDATE "ProductImportJob" SET "createdAt" = now() - interval '1 day' - n * interval '1 minute',
            suspended = n = 3 FROM generate_series(1, 3) n WHERE id = 'many-' || (1000 + n)"""
    )
    oldest = await views.waiting(world.cluster.namespace, limit=50)
    assert oldest[:2] == ["many-1002", "many-1001"], "what waits longest is next"
    assert "many-1003" not in oldest, "what is held back is not"
    async with gateway.events("/v1/events") as events:
        assert len((await events.next()).data["jobs"]) == 50
