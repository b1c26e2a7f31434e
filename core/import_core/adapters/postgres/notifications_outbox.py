"""The outbox of webhooks: messages are taken under a lease, and what became of each is written back.

They are written by the trigger on the jobs' table, by the operator (progress), and by `add_in`, `note_steps_of` and
`note_items_of` where a transaction has something else to tell. Of a job's messages to an endpoint the oldest that waits
is sent, alone: they arrive in order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from import_core.adapters.postgres.failed_item_choice import PRODUCT_FAILED
from import_core.adapters.postgres.pool import Connection, Database
from import_core.domain.notifications import AfterFailure, Attempt, next_slots

LEASE_SECONDS = 60.0
"""An attempt takes less; a message whose sender died is sent again after that."""

# One step for each endpoint that has something waiting, by index notification_due: not all endpoints, nor all messages.
WAITING_PROVIDERS = """
WITH RECURSIVE waiting AS (
    (SELECT provider FROM imports.notification
     WHERE namespace = %(namespace)s AND state = 'Waiting' ORDER BY provider LIMIT 1)
    UNION ALL
    SELECT (SELECT n.provider FROM imports.notification n
            WHERE n.namespace = %(namespace)s AND n.state = 'Waiting' AND n.provider > waiting.provider
            ORDER BY n.provider LIMIT 1)
    FROM waiting WHERE waiting.provider IS NOT NULL
)"""
# Whoever was served longest ago comes first. An endpoint that another worker looks at right now is passed over.
TAKE_ENDPOINTS = f"""{WAITING_PROVIDERS}
SELECT w.provider, w.url, w.secret_name, w.failures > 0
FROM waiting JOIN imports.webhook w ON w.namespace = %(namespace)s AND w.provider = waiting.provider
WHERE w.state = 'Active' AND w.next_at <= clock_timestamp() AND EXISTS (
    SELECT FROM imports.notification n WHERE n.namespace = w.namespace AND n.provider = w.provider
      AND n.state = 'Waiting' AND n.due_at <= clock_timestamp()
      AND (n.leased_until IS NULL OR n.leased_until < clock_timestamp()))
ORDER BY w.taken_at NULLS FIRST LIMIT %(limit)s FOR UPDATE OF w SKIP LOCKED
"""
# Counted once the endpoints are locked, by a statement of its own: one that locks them counts as of its beginning, and
# misses what another worker has taken until it let go of the lock.
IN_FLIGHT = """
SELECT provider, count(*) FROM imports.notification
WHERE namespace = %(namespace)s AND provider = ANY(%(providers)s) AND state = 'Waiting'
  AND leased_until IS NOT NULL AND leased_until >= clock_timestamp()
GROUP BY provider
"""
TAKE_MESSAGES = """
WITH heads AS (
    SELECT h.id FROM unnest(%(providers)s::text[], %(slots)s::int[]) AS e (provider, slots), LATERAL (
        SELECT n.id FROM imports.notification n
        WHERE n.namespace = %(namespace)s AND n.provider = e.provider AND n.state = 'Waiting'
          AND n.due_at <= clock_timestamp()
          AND (n.leased_until IS NULL OR n.leased_until < clock_timestamp())
          AND NOT EXISTS (
            SELECT FROM imports.notification b WHERE b.job_id = n.job_id AND b.id < n.id AND b.state = 'Waiting'
              AND b.namespace = n.namespace AND b.provider = n.provider)
        ORDER BY n.due_at, n.id LIMIT e.slots FOR UPDATE OF n SKIP LOCKED) h
), told AS (
    UPDATE imports.webhook SET taken_at = clock_timestamp()
    WHERE namespace = %(namespace)s AND provider = ANY(%(providers)s)
)
UPDATE imports.notification n
SET leased_until = clock_timestamp() + %(lease)s * interval '1 second', lease_id = %(lease_id)s,
    attempts = n.attempts + 1, first_at = coalesce(n.first_at, clock_timestamp())
FROM heads WHERE n.id = heads.id
RETURNING n.id, n.message_id, n.provider, n.job_id, n.event, n.data, n.created_at, n.attempts
"""
DELIVERED = """
WITH done AS (
    UPDATE imports.notification SET state = 'Delivered', status = %(status)s, error = NULL,
        ended_at = clock_timestamp(), leased_until = NULL
    WHERE id = %(id)s AND lease_id = %(lease)s AND state = 'Waiting' RETURNING namespace, provider)
UPDATE imports.webhook w SET failures = 0, failing_since = NULL, succeeded_at = clock_timestamp(),
    next_at = least(w.next_at, clock_timestamp())
FROM done WHERE w.namespace = done.namespace AND w.provider = done.provider
"""
# Locks in the order endpoint, message, as in taking.
ENDPOINT_STANDING = """
SELECT failures + 1, coalesce(extract(epoch FROM clock_timestamp() - failing_since), 0)::float8
FROM imports.webhook WHERE namespace = %s AND provider = %s FOR UPDATE
"""
MESSAGE_STANDING = """
SELECT attempts, extract(epoch FROM clock_timestamp() - first_at)::float8
FROM imports.notification WHERE id = %s AND lease_id = %s AND state = 'Waiting' FOR UPDATE
"""
# Later messages of the job wait with it: those that can't be sent must not stand before others that can.
RETRY = """
UPDATE imports.notification n
SET due_at = greatest(n.due_at, clock_timestamp() + %(delay)s * interval '1 second'),
    leased_until = CASE WHEN n.id = %(id)s THEN NULL ELSE n.leased_until END,
    status = CASE WHEN n.id = %(id)s THEN %(status)s ELSE n.status END,
    error = CASE WHEN n.id = %(id)s THEN %(error)s ELSE n.error END
WHERE n.job_id = %(job)s AND n.namespace = %(namespace)s AND n.provider = %(provider)s AND n.state = 'Waiting'
"""
GIVE_UP = """
UPDATE imports.notification SET state = 'Abandoned', status = %(status)s, error = %(error)s,
    ended_at = clock_timestamp(), leased_until = NULL
WHERE id = %(id)s
"""
ENDPOINT_FAILED = """
UPDATE imports.webhook SET failures = failures + 1, failing_since = coalesce(failing_since, clock_timestamp()),
    next_at = clock_timestamp() + %(pause)s * interval '1 second', message = %(error)s,
    state = CASE WHEN %(disable)s::text IS NULL THEN state ELSE 'Disabled' END,
    reason = coalesce(%(disable)s, reason),
    changed_at = CASE WHEN %(disable)s::text IS NULL THEN changed_at ELSE clock_timestamp() END
WHERE namespace = %(namespace)s AND provider = %(provider)s
"""
# It was not the endpoint that failed: the attempt does not count.
POSTPONE = """
UPDATE imports.notification SET leased_until = NULL, attempts = greatest(attempts - 1, 0),
    first_at = CASE WHEN attempts <= 1 THEN NULL ELSE first_at END,
    due_at = clock_timestamp() + %s * interval '1 second'
WHERE id = %s AND lease_id = %s AND state = 'Waiting'
"""
ADD = """
INSERT INTO imports.notification (namespace, provider, job_id, event, data, due_at)
SELECT w.namespace, w.provider, %(job)s, %(event)s, %(data)s,
    coalesce((SELECT max(n.due_at) FROM imports.notification n WHERE n.job_id = %(job)s AND n.state = 'Waiting'),
        clock_timestamp())
FROM imports.webhook w
WHERE w.namespace = %(namespace)s AND w.provider = %(provider)s AND w.company_id = %(company)s
  AND w.state = 'Active' AND %(event)s = ANY(w.events)
"""
# The lock of imports.note_steps, in one order for whoever takes several.
LOCK_LIVE = """
SELECT pg_advisory_xact_lock(hashtextextended('imports.live ' || id, 0)) FROM unnest(%s::text[]) AS t (id)
WHERE EXISTS (SELECT FROM imports.webhook)
"""
NOTE_STEPS = """
SELECT imports.note_steps('"ProductImportJob"'::regclass, id, true) FROM unnest(%s::text[]) AS t (id)
WHERE EXISTS (SELECT FROM imports.webhook)
"""
# In the form of imports.note_steps: products that the import has given up at its end, behind the message of that.
NOTE_ITEMS = f"""
INSERT INTO imports.notification (namespace, provider, job_id, event, data, due_at)
SELECT w.namespace, w.provider, j.id, 'product.dead_lettered',
    imports.job_facts(j.id, w.namespace, j."objectName", j."companyId", j.provider, NULL, NULL, NULL, j."createdAt",
        j."startedAt", j."completedAt", NULL) || jsonb_build_object('products', dead.products),
    coalesce((SELECT max(n.due_at) FROM imports.notification n WHERE n.job_id = j.id AND n.state = 'Waiting'),
        clock_timestamp())
FROM "ProductImportJob" j
JOIN imports.webhook w ON w.provider = j.provider AND w.company_id = j."companyId" AND w.state = 'Active'
    AND (j.namespace IS NULL OR w.namespace = j.namespace) AND 'product.dead_lettered' = ANY(w.events),
LATERAL (
    SELECT jsonb_agg(jsonb_build_object('externalId', e.external_id, 'step', 'import', 'reason', e.reason,
        'message', left(e.message, 300))) AS products
    FROM (SELECT e.external_id, e.reason, e.message FROM imports.item_error e
        WHERE e.job_id = j.id AND {PRODUCT_FAILED} ORDER BY e.external_id LIMIT 100) e) dead
WHERE j.id = %s AND j."parentId" IS NULL AND dead.products IS NOT NULL
"""
# A chain of its own: it waits for no job's messages.
ADD_TEST = """
INSERT INTO imports.notification (namespace, provider, job_id, event, data)
SELECT w.namespace, w.provider, 'test-' || gen_random_uuid(), 'webhook.test', jsonb_build_object(
    'namespace', w.namespace, 'provider', w.provider, 'companyId', w.company_id)
FROM imports.webhook w WHERE w.namespace = %s AND w.provider = %s AND w.state = 'Active' RETURNING message_id
"""
# By index notification_provider, the newest first.
DELIVERIES = """
SELECT message_id, job_id, event, state, attempts, created_at, due_at, ended_at, status, error
FROM imports.notification WHERE namespace = %s AND provider = %s ORDER BY id DESC LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A message under a lease, and where it goes."""

    id: int
    message_id: str
    provider: str
    job_id: str
    event: str
    data: Mapping[str, Any]
    created_at: datetime
    attempts: int
    url: str
    secret_name: str
    lease_id: UUID


@dataclass(frozen=True, slots=True)
class Standing:
    """What a decision after a failure needs to know; see `domain.notifications.after_failure`."""

    attempts: int
    tried_seconds: float
    failures: int
    failing_seconds: float


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A message as people see it."""

    message_id: str
    job_id: str
    event: str
    state: str
    attempts: int
    created_at: datetime
    due_at: datetime
    ended_at: datetime | None
    status: int | None
    error: str | None


class NotificationOutbox:
    """The messages of one namespace. Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database, *, namespace: str) -> None:
        self._database = database
        self._namespace = namespace

    async def take(
        self, free: int, *, each: int, lease_seconds: float = LEASE_SECONDS
    ) -> list[OutboxMessage]:
        """Take at most `free` due messages under a lease, and not more than `each` at a time of one endpoint."""
        async with self._database.transaction() as connection:
            found = await (
                await connection.execute(TAKE_ENDPOINTS, {"namespace": self._namespace, "limit": free})
            ).fetchall()
            if not found:
                return []
            endpoints = {row[0]: (row[1], row[2]) for row in found}
            place = {"namespace": self._namespace, "providers": list(endpoints)}
            in_flight = dict(await (await connection.execute(IN_FLIGHT, place)).fetchall())
            slots = {}
            for provider, _, _, failing in found:
                known = in_flight.get(provider, 0)
                slots[provider] = min(free, next_slots(in_flight=known, failing=failing, most=each))
                free -= slots[provider]
            if not any(slots.values()):
                return []
            lease_id = uuid4()
            cursor = await connection.execute(
                TAKE_MESSAGES,
                {
                    "namespace": self._namespace,
                    "providers": list(slots),
                    "slots": list(slots.values()),
                    "lease": lease_seconds,
                    "lease_id": lease_id,
                },
            )
            return [
                OutboxMessage(*row, *endpoints[row[2]], lease_id)  # type: ignore[call-arg]
                for row in await cursor.fetchall()
            ]

    async def delivered(self, message: OutboxMessage, attempt: Attempt) -> None:
        """The endpoint took it."""
        async with self._database.connection() as connection:
            await connection.execute(
                DELIVERED, {"id": message.id, "lease": message.lease_id, "status": attempt.status}
            )

    async def failed(
        self, message: OutboxMessage, attempt: Attempt, decide: Callable[[Standing], AfterFailure]
    ) -> AfterFailure | None:
        """Write down what `decide` makes of a failed attempt; None where the message is not ours any more."""
        place = {"namespace": self._namespace, "provider": message.provider}
        said = {"id": message.id, "status": attempt.status, "error": attempt.words}
        async with self._database.transaction() as connection:
            endpoint = await _one(connection, ENDPOINT_STANDING, list(place.values()))
            standing = await _one(connection, MESSAGE_STANDING, [message.id, message.lease_id])
            if endpoint is None or standing is None:
                return None
            decision = decide(Standing(*standing, *endpoint))
            if decision.delay is None:
                await connection.execute(GIVE_UP, said)
            else:
                await connection.execute(
                    RETRY, {**said, **place, "job": message.job_id, "delay": decision.delay}
                )
            await connection.execute(
                ENDPOINT_FAILED,
                {**place, "pause": decision.pause, "error": attempt.words, "disable": decision.disable},
            )
            return decision

    async def postpone(self, message: OutboxMessage, seconds: float) -> None:
        """Give it back, as it could not even be tried."""
        async with self._database.connection() as connection:
            await connection.execute(POSTPONE, (seconds, message.id, message.lease_id))

    async def add_test(self, provider: str) -> str | None:
        """Add a message that says nothing; returns its id, None where nobody is to be told."""
        async with self._database.connection() as connection:
            row = await _one(connection, ADD_TEST, [self._namespace, provider])
            return row[0] if row else None

    async def deliveries(self, provider: str, *, limit: int) -> list[DeliveryView]:
        """The newest messages of a connection."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(DELIVERIES, (self._namespace, provider, limit))
            return [DeliveryView(*row) for row in await cursor.fetchall()]


async def add_in(
    connection: Connection,
    *,
    namespace: str,
    provider: str,
    company_id: str,
    job_id: str,
    event: str,
    data: Mapping[str, Any],
) -> bool:
    """Add a message in the transaction that makes it true; whether somebody wants to be told.

    `provider` is the ImportProvider's name. `data` is small, and is sent as it is, absent (None) values left out.
    """
    cursor = await connection.execute(
        ADD,
        {
            "namespace": namespace,
            "provider": provider,
            "company": company_id,
            "job": job_id,
            "event": event,
            "data": Jsonb(dict(data)),
        },
    )
    return cursor.rowcount > 0


async def note_steps_of(
    connection: Connection, job_ids: Collection[str], *, batch_of: str | None = None
) -> None:
    """Tell of ImportJobs whose products' steps have ended in this transaction: what was given up, what is live now.

    The trigger tells of the ImportJob that a batch belongs to (`batch_of`) when the batch's job ends, but not of others
    that had taken over products in it: call this before the job's end.
    """
    others = sorted(set(job_ids) - {batch_of})
    if others:
        locked = sorted({*others, batch_of}) if batch_of is not None else others
        await connection.execute(LOCK_LIVE, (locked,))
        await connection.execute(NOTE_STEPS, (others,))


async def note_items_of(connection: Connection, job_id: str) -> None:
    """Tell of the products that an import has given up, in the transaction that ends it."""
    await connection.execute(NOTE_ITEMS, (job_id,))


async def _one(connection: Connection, statement: str, values: Sequence[object]) -> tuple[Any, ...] | None:
    return await (await connection.execute(statement, values)).fetchone()
