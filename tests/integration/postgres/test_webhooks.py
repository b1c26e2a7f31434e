"""Webhooks end to end: a job's end writes a message, workers send it to a real server, the operator looks after it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import pytest_asyncio
from eventually import eventually
from postgres_rows import execute
from webhook_receiver import SECRET, Receiver, Reply, receiving

from import_core.adapters.postgres import Database, migrate
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.inspection import inspect_database
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.notifications_outbox import NotificationOutbox, add_in
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.adapters.tasks import end_tasks
from import_core.domain.addresses import parse_allow_list
from import_core.domain.errors import KubernetesUnavailableError
from import_core.domain.jobs import JobState, Progress
from import_core.domain.notifications import Attempt, Endpoint
from import_core.domain.resources.import_provider import NotificationEvent
from import_core.observability.metrics import WorkerMetrics
from import_local.parts.postgres import PostgresServer
from import_operator.loops.notify import NotifyLoop
from import_operator.state import OperatorState
from import_worker.webhook_sender import WebhookSender, decide
from import_worker.webhooks import WebhookClient

EVENTS = [event.value for event in NotificationEvent]
PROVIDER = "acme-shopify"
WAITING = "SELECT job_id, event, state, attempts, status, error FROM imports.notification ORDER BY id"


class Secrets:
    def __init__(self, **secrets: dict[str, str] | Exception) -> None:
        self.secrets = secrets

    async def get_secret(self, _namespace: str, name: str) -> dict[str, str] | None:
        found = self.secrets.get(name)
        if isinstance(found, Exception):
            raise found
        return found


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def outbox(database: Database) -> NotificationOutbox:
    return NotificationOutbox(database, namespace="imports")


@pytest.fixture
def webhooks(database: Database) -> WebhookStore:
    return WebhookStore(database, namespace="imports")


@asynccontextmanager
async def sending(
    database: Database,
    receiver: Receiver,
    *,
    secrets: Secrets | None = None,
    senders: int = 1,
    allow: str | None = None,
    seconds: float = 15.0,
) -> AsyncIterator[WorkerMetrics]:
    metrics = WorkerMetrics()
    client = WebhookClient(
        parse_allow_list(f"127.0.0.1:{receiver.port}" if allow is None else allow), attempt_seconds=seconds
    )
    tasks = [
        asyncio.create_task(
            WebhookSender(
                NotificationOutbox(database, namespace="imports"),
                client,
                secrets or Secrets(hooks={"webhookSecret": SECRET}),
                metrics,
                namespace="imports",
                poll_seconds=0.02,
            ).run()
        )
        for _ in range(senders)
    ]
    try:
        yield metrics
    finally:
        await end_tasks(tasks)
        await client.aclose()


async def keep(webhooks: WebhookStore, url: str, *, provider: str = PROVIDER, company: str = "acme") -> None:
    await webhooks.put(Endpoint(provider, "u", company, url, "hooks", EVENTS))


async def until_rows(database: Database, condition: Any) -> list[tuple[Any, ...]]:
    async def look() -> list[tuple[Any, ...]] | None:
        rows = await execute(database, WAITING)
        return rows if condition(rows) else None

    return await eventually(look)


async def end(database: Database, claim: Any, state: JobState = JobState.COMPLETED) -> None:
    await ClaimStore(database).finish(claim, state, reason=None, message=None)


async def test_every_way_to_end_a_job_writes_its_message_with_it(
    database: Database, webhooks: WebhookStore, claimed: Any, dispatched: Any
) -> None:
    await keep(webhooks, "https://a.example")
    await end(database, await claimed("completed"))
    await end(database, await claimed("failed", worker_id="w2"), JobState.FAILED)
    await dispatched("cancelled")
    await JobStore(database).cancel(["cancelled"], message="no more")
    await claimed("died", worker_id="w3")
    await execute(database, "UPDATE imports.claim SET suspected = true WHERE job_id = 'died'")
    await ClaimStore(database).end_of_workers(["w3"])
    # Somebody else's, another connection's, a step's, and the platform's own.
    await end(database, await claimed("other-company", worker_id="w4", company_id="zeta"))
    await end(database, await claimed("other-connection", worker_id="w5", provider="else"))
    await execute(
        database,
        """INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES ('row', 'acme', %s)""",
        (PROVIDER,),
    )
    await execute(database, """UPDATE "ProductImportJob" SET status = 'CANCELLED' WHERE id = 'row'""")
    assert [row[:2] for row in await execute(database, WAITING)] == [
        ("completed", "import.completed"),
        ("failed", "import.failed"),
        ("cancelled", "import.cancelled"),
        ("died", "import.failed"),
        ("row", "import.cancelled"),
    ]
    [(data,)] = await execute(database, "SELECT data FROM imports.notification WHERE job_id = 'died'")
    assert (data["companyId"], data["name"], data["status"]) == ("acme", "object-died", "FAILED")
    assert data["reason"] == "WorkerKilled"


async def test_whoever_may_end_a_job_needs_no_right_to_write_messages(
    postgres_server: PostgresServer,
    database_url: str,
    database: Database,
    webhooks: WebhookStore,
    dispatched: Any,
) -> None:
    await keep(webhooks, "https://a.example")
    await dispatched("one")
    role = f"platform_{database_url.rsplit('/', 1)[1]}"
    async with await postgres_server.superuser_connection() as superuser:
        await superuser.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'".encode())
        await execute(database, f'GRANT SELECT, UPDATE ON "ProductImportJob" TO {role}')
        parts = urlsplit(database_url)
        url = urlunsplit(parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}"))
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as platform:
            await platform.execute("""UPDATE "ProductImportJob" SET status = 'CANCELLED'""")
        await execute(database, f'REVOKE ALL ON "ProductImportJob" FROM {role}')
        await superuser.execute(f"DROP ROLE {role}".encode())
    assert [row[1] for row in await execute(database, WAITING)] == ["import.cancelled"]


async def test_a_trigger_that_was_lost_is_seen_and_put_back(database_url: str, database: Database) -> None:
    await execute(database, 'DROP TRIGGER imports_note_job_end ON "ProductImportJob"')
    seen, _ = await inspect_database(database_url)
    assert seen.missing_triggers == ["imports_note_job_end"]
    await migrate(database_url)
    seen, _ = await inspect_database(database_url)
    assert seen.missing_triggers == []


async def end_and_fail(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("""UPDATE "ProductImportJob" SET status = 'COMPLETED'""")
        raise ZeroDivisionError


async def test_a_transaction_that_is_taken_back_tells_nothing(
    database: Database, webhooks: WebhookStore, claimed: Any
) -> None:
    await keep(webhooks, "https://a.example")
    await claimed("one")
    with pytest.raises(ZeroDivisionError):
        await end_and_fail(database)
    assert await execute(database, WAITING) == []


async def test_messages_arrive_signed_in_order_and_progress_never_after_the_end(
    database: Database, webhooks: WebhookStore, claimed: Any, receiver: Receiver
) -> None:
    await keep(webhooks, receiver.url("/hook"))
    claim = await claimed("one")
    assert await webhooks.add_progress(every_seconds=10) == 0  # there is nothing to tell yet
    claims = ClaimStore(database)
    for done, added in ((1, 1), (2, 0)):
        await claims.renew([("one", claim.claim_id, Progress(products_total=3, products_imported=done))])
        assert await webhooks.add_progress(every_seconds=0) == added
    async with sending(database, receiver, senders=3):
        await receiver.until(lambda: len(receiver.received) == 1)
        await until_rows(database, lambda rows: rows[0][2] == "Delivered")
        assert await webhooks.add_progress(every_seconds=3600) == 0
        assert await webhooks.add_progress(every_seconds=0) == 1
        await receiver.until(lambda: len(receiver.received) == 2)
        await until_rows(database, lambda rows: rows[-1][2] == "Delivered")
        assert await webhooks.add_progress(every_seconds=0) == 0  # nothing has changed
        await end(database, claim)
        await receiver.until(lambda: len(receiver.received) == 3)
    assert not receiver.refused
    assert receiver.told("/hook") == [
        ("one", "import.progress"),
        ("one", "import.progress"),
        ("one", "import.completed"),
    ]
    assert [body["data"]["progress"]["productsImported"] for _, _, body in receiver.received[:2]] == [1, 2]
    assert receiver.received[2][2]["data"]["phase"] == "Succeeded"


async def test_the_end_takes_the_place_of_progress_that_nobody_was_told(
    database: Database, webhooks: WebhookStore, claimed: Any
) -> None:
    await keep(webhooks, "https://a.example")
    claim = await claimed("one")
    await ClaimStore(database).renew([("one", claim.claim_id, Progress(products_imported=1))])
    await webhooks.add_progress(every_seconds=0)
    await end(database, claim)
    assert [row[1:3] for row in await execute(database, WAITING)] == [
        ("import.progress", "Superseded"),
        ("import.completed", "Waiting"),
    ]


async def test_what_fails_is_tried_again_under_the_same_id_and_keeps_its_order(
    database: Database, webhooks: WebhookStore, outbox: NotificationOutbox, claimed: Any, receiver: Receiver
) -> None:
    answers = iter(
        [Reply(500, body=b"<html>hush</html>" * 10_000), Reply(302, ("location: http://10.0.0.1/",))]
    )
    receiver.replies["/hook"] = lambda _: next(answers, Reply())
    await keep(webhooks, receiver.url("/hook"))
    await end(database, await claimed("one"))
    async with database.transaction() as connection:
        assert await add_in(
            connection,
            namespace="imports",
            provider=PROVIDER,
            company_id="acme",
            job_id="one",
            event="catalogue.live",
            data={"id": "one", "products": 3},
        )
    async with sending(database, receiver, senders=2) as metrics:
        for attempts, status in ((1, 500), (2, 302)):
            rows = await until_rows(database, lambda rows: rows[0][4] == status)  # noqa: B023
            assert [row[3] for row in rows] == [attempts, 0]
            [(paused, failing)] = await execute(
                database, "SELECT next_at > now(), failures FROM imports.webhook"
            )
            assert (paused, failing) == (True, attempts)
            assert len(receiver.received) == attempts
            await execute(database, "UPDATE imports.notification SET due_at = now()")
            await execute(database, "UPDATE imports.webhook SET next_at = now()")
        await receiver.until(lambda: len(receiver.received) == 4)
        await until_rows(database, lambda rows: all(row[2] == "Delivered" for row in rows))
        assert metrics.webhook_deliveries.labels("failed")._value.get() == 2
    assert [event for _, event in receiver.told("/hook")] == ["import.completed"] * 3 + ["catalogue.live"]
    assert len({message for _, message, _ in receiver.received}) == 2
    assert [row.error for row in await outbox.deliveries(PROVIDER, limit=10)] == [None, None]
    assert await execute(database, "SELECT failures, failing_since FROM imports.webhook") == [(0, None)]


async def test_a_slow_endpoint_holds_up_nobody_else_and_gets_few_at_once(
    database: Database, webhooks: WebhookStore, claimed: Any, receiver: Receiver
) -> None:
    receiver.replies["/slow"] = lambda _: Reply(hangs=True)
    await keep(webhooks, receiver.url("/slow"), provider="slow")
    await keep(webhooks, receiver.url("/quick"), provider="quick")
    for number in range(8):
        await end(database, await claimed(f"slow-{number}", provider="slow", worker_id=f"s{number}"))
    async with sending(database, receiver, senders=2):
        await receiver.until(lambda: len(receiver.told("/slow")) == 4)
        for number in range(8):
            await end(database, await claimed(f"quick-{number}", provider="quick", worker_id=f"q{number}"))
        await receiver.until(lambda: len(receiver.told("/quick")) == 8)
        assert len(receiver.told("/slow")) == 4
    # What was being sent when its senders stopped is sent again when their leases have ended.
    await execute(database, "UPDATE imports.notification SET leased_until = now() - interval '1 second'")
    receiver.replies.clear()
    async with sending(database, receiver):
        await receiver.until(lambda: len(set(receiver.told("/slow"))) == 8)


async def test_time_limits_forbidden_addresses_and_bad_secrets_are_failures(
    database: Database, webhooks: WebhookStore, claimed: Any, receiver: Receiver
) -> None:
    receiver.replies["/hangs"] = lambda _: Reply(hangs=True)
    urls = {
        "hangs": receiver.url("/hangs"),
        "private": "https://10.0.0.1/hook",
        "metadata": "https://169.254.169.254/latest",
        "plain": "http://[2606:4700::1]/hook",
        "own": f"https://localhost:{receiver.port + 1}/",
    }
    for name, url in urls.items():
        await keep(webhooks, url, provider=name)
    await webhooks.put(Endpoint("unsigned", "u", "acme", receiver.url("/"), "no-such", EVENTS))
    await webhooks.put(Endpoint("unclear", "u", "acme", receiver.url("/"), "away", EVENTS))
    for name in (*urls, "unsigned", "unclear"):
        await end(database, await claimed(name, provider=name, worker_id=name))
    away = KubernetesUnavailableError("The API server is away")
    secrets = Secrets(hooks={"webhookSecret": SECRET}, away=away)
    async with sending(database, receiver, secrets=secrets, seconds=2.0):
        await until_rows(database, lambda rows: sum(bool(row[5]) for row in rows) == 6)
    errors = {row[0]: row[5] for row in await execute(database, WAITING)}
    assert errors["hangs"] == "no answer within 2 s"
    assert "private and not in the allow-list" in errors["private"]
    assert "allow-list" in errors["metadata"]
    assert "WEBHOOK_ALLOW" in errors["plain"]
    assert "loopback" in errors["own"]
    assert "there is no Secret no-such" in errors["unsigned"]
    # Ours, not the endpoint's: nothing is held against it.
    assert errors["unclear"] is None
    assert await execute(database, "SELECT failures FROM imports.webhook WHERE provider = 'unclear'") == [
        (0,)
    ]
    assert [body["data"]["id"] for _, _, body in receiver.received] == ["hangs"]


async def test_gone_ends_an_endpoint_and_the_operator_tells(
    database: Database, webhooks: WebhookStore, claimed: Any, receiver: Receiver
) -> None:
    receiver.replies["/hook"] = lambda _: Reply(410)
    state, tell = OperatorState("imports"), Mock()
    body = {
        "metadata": {"name": PROVIDER, "uid": "u", "resourceVersion": "1"},
        "spec": {
            "companyId": "acme",
            "type": "shopify",
            "baseUrl": "https://acme.example",
            "credentialsSecretRef": {"name": "s"},
            "notifications": {"url": receiver.url("/hook"), "secretRef": {"name": "hooks"}},
        },
    }
    state.providers.put(body)
    loop = NotifyLoop(state, webhooks, tell)
    await loop.round()
    [kept] = await webhooks.read()
    assert (kept.endpoint.url, kept.state) == (receiver.url("/hook"), "Active")
    for number in range(3):
        await end(database, await claimed(f"job-{number}", worker_id=f"w{number}"))
    async with sending(database, receiver):
        await until_rows(database, lambda rows: any(row[2] == "Abandoned" for row in rows))
    await loop.round()
    assert {row[2] for row in await execute(database, WAITING)} == {"Abandoned"}
    assert tell.tell.call_args.kwargs["reason"] == "WebhookDisabled"
    assert "410" in tell.tell.call_args.kwargs["note"]
    assert PROVIDER in state.to_check
    # Nothing more is written for it, until somebody enables it; a round does not.
    await end(database, await claimed("unheard", worker_id="w9"))
    await loop.round()
    assert len(await execute(database, WAITING)) == len({"job-0", "job-1", "job-2"})
    receiver.replies.clear()
    assert await webhooks.enable(PROVIDER)
    await end(database, await claimed("heard", worker_id="w10"))
    async with sending(database, receiver):
        await receiver.until(lambda: ("heard", "import.completed") in receiver.told("/hook"))
    # Gone from the object, gone from the database; an unread list of objects says nothing.
    state.providers.remove("u")
    await loop.round()
    assert len(await webhooks.read()) == 1
    state.jobs_listed = True
    state.providers.put(
        {"metadata": {"name": "other", "uid": "o", "resourceVersion": "1"}, "spec": body["spec"]}
    )
    await loop.round()
    assert [webhook.endpoint.provider for webhook in await webhooks.read()] == ["other"]


async def test_an_endpoint_without_success_for_a_day_is_disabled(
    database: Database, webhooks: WebhookStore, outbox: NotificationOutbox, claimed: Any
) -> None:
    await keep(webhooks, "https://a.example")
    await end(database, await claimed("one"))
    for days, state, message in (("1 hour", "Active", "Waiting"), ("25 hours", "Disabled", "Abandoned")):
        await execute(
            database,
            f"UPDATE imports.webhook SET next_at = now(), failing_since = now() - interval '{days}', failures = 5",
        )
        await execute(database, "UPDATE imports.notification SET due_at = now()")
        [taken] = await outbox.take(10, each=4)
        assert await outbox.take(10, each=4) == []
        attempt = Attempt(500)
        await outbox.failed(taken, attempt, lambda known: decide(attempt, known))  # noqa: B023
        assert await execute(database, "SELECT state FROM imports.webhook") == [(state,)]
        assert [row[2] for row in await execute(database, WAITING)] == [message]
    # A late word of a sender whose lease is not the message's any more changes nothing.
    assert await outbox.failed(taken, Attempt(500), lambda known: decide(Attempt(500), known)) is None


async def test_old_messages_go(database: Database, webhooks: WebhookStore, claimed: Any) -> None:
    await keep(webhooks, "https://a.example")
    for name in ("old", "waiting"):
        await end(database, await claimed(name, worker_id=name))
    await execute(
        database,
        """UPDATE imports.notification SET state = 'Delivered', ended_at = now() - interval '8 days'
        WHERE job_id = 'old'""",
    )
    assert await webhooks.oldest_seconds() > 0
    assert await webhooks.prune() == 1
    assert [row[0] for row in await execute(database, WAITING)] == ["waiting"]


PRODUCT_STEP = """
CREATE TABLE IF NOT EXISTS imports.product_step (
    product_id text NOT NULL, step text NOT NULL, company_id text NOT NULL, job_id text, batch_id text,
    content_hash text NOT NULL, state text NOT NULL, reason text, message text, PRIMARY KEY (product_id, step));
ALTER TABLE "ProductImportJob" ADD COLUMN IF NOT EXISTS "parentId" text
"""


async def put_step(connection: Any, product: str, state: str, *, step: str = "quality-control") -> None:
    await connection.execute(
        """INSERT INTO imports.product_step (product_id, step, company_id, job_id, content_hash, state, reason, message)
        VALUES (%s, %s, 'acme', 'parent', 'h', %s, 'Invalid', 'no picture')
        ON CONFLICT (product_id, step) DO UPDATE SET state = excluded.state""",
        (product, step, state),
    )


async def end_batch(connection: Any, batch: str) -> None:
    await connection.execute("""UPDATE "ProductImportJob" SET status = 'COMPLETED' WHERE id = %s""", (batch,))


@pytest_asyncio.fixture(loop_scope="session")
async def parent(database: Database, webhooks: WebhookStore, claimed: Any) -> AsyncIterator[Any]:
    """An import with two batches of a step, of three products."""
    for statement in PRODUCT_STEP.split(";"):
        await execute(database, statement)
    await keep(webhooks, "https://a.example")
    claim = await claimed("parent")
    await execute(
        database,
        """INSERT INTO "ProductImportJob" (id, "companyId", provider, queue, namespace, "parentId", status)
        SELECT b, 'acme', 'quality-control', 'quality-control', 'imports', 'parent', 'IN_PROGRESS'
        FROM unnest(ARRAY['batch-1', 'batch-2']) b""",
    )
    async with database.connection() as connection:
        for product in ("a", "b", "c"):
            await put_step(connection, product, "Due")
    yield claim


async def test_products_that_are_given_up_are_told_with_their_batch_and_the_catalogue_once_when_it_is_live(
    database: Database, parent: Any
) -> None:
    async with database.transaction() as connection:
        await put_step(connection, "a", "Dead")
        await put_step(connection, "b", "Done")
        await end_batch(connection, "batch-1")
    await end(database, parent)
    async with database.transaction() as connection:
        await put_step(connection, "c", "Done")
        await end_batch(connection, "batch-2")
    rows = await execute(database, "SELECT event, job_id, data FROM imports.notification ORDER BY id")
    assert [row[:2] for row in rows] == [
        ("product.dead_lettered", "parent"),
        ("import.completed", "parent"),
        ("catalogue.live", "parent"),
    ]
    assert rows[0][2]["products"] == [
        {"productId": "a", "step": "quality-control", "reason": "Invalid", "message": "no picture"}
    ]
    assert rows[2][2]["products"] == {"processed": 3, "halted": 0, "deadLettered": 1}
    # A batch of products that a person let try again says nothing twice.
    await execute(database, """UPDATE "ProductImportJob" SET status = 'IN_PROGRESS' WHERE id = 'batch-2'""")
    await execute(database, """UPDATE "ProductImportJob" SET status = 'COMPLETED' WHERE id = 'batch-2'""")
    assert len(await execute(database, WAITING)) == len(rows)


async def test_of_two_last_batches_that_end_at_the_same_time_one_tells(
    database: Database, parent: Any
) -> None:
    await end(database, parent)
    async with database.transaction() as one:
        for product in ("a", "b"):
            await put_step(one, product, "Done")
        await end_batch(one, "batch-1")

        async def end_other() -> None:
            async with database.transaction() as other:
                await put_step(other, "c", "Done")
                await end_batch(other, "batch-2")

        ending = asyncio.create_task(end_other())

        async def waits() -> bool:
            found = await execute(
                database, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            )
            return bool(found)

        await eventually(waits)
    await ending
    events = [row[1] for row in await execute(database, WAITING)]
    assert events == ["import.completed", "catalogue.live"]


async def test_an_import_whose_steps_were_done_before_is_live_with_its_end(
    database: Database, parent: Any
) -> None:
    async with database.transaction() as connection:
        for product in ("a", "b", "c"):
            await put_step(connection, product, "Done")
        await end_batch(connection, "batch-1")
    await end(database, parent)
    events = [row[1] for row in await execute(database, WAITING)]
    assert events == ["import.completed", "catalogue.live"]
