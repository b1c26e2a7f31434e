"""The endpoints that imports are told to: kept as the ImportProviders say; progress messages; old messages go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from import_core.adapters.postgres.notifications_outbox import WAITING_PROVIDERS
from import_core.adapters.postgres.pool import Database
from import_core.domain.notifications import Endpoint
from import_core.domain.resources.import_provider import NotificationEvent

AT_ONCE = 500
PRUNED_AT_ONCE = 5_000
KEPT_SECONDS = 7 * 86_400.0
"""Messages that were sent or given up can be looked at for so long."""

_COLUMNS = """provider, uid, company_id, url, secret_name, events, state, reason, message, changed_at,
    failures, failing_since, succeeded_at"""
READ = f"SELECT {_COLUMNS} FROM imports.webhook WHERE namespace = %s ORDER BY provider"
READ_SOME = f"SELECT {_COLUMNS} FROM imports.webhook WHERE namespace = %s AND provider = ANY(%s)"
# What is sent elsewhere, or signed otherwise, begins anew: enabled, and with no failures.
PUT = """
INSERT INTO imports.webhook AS w (namespace, provider, uid, company_id, url, secret_name, events)
VALUES (%(namespace)s, %(provider)s, %(uid)s, %(company)s, %(url)s, %(secret)s, %(events)s)
ON CONFLICT (namespace, provider) DO UPDATE SET
    uid = excluded.uid, company_id = excluded.company_id, url = excluded.url,
    secret_name = excluded.secret_name, events = excluded.events, state = 'Active', reason = NULL, message = NULL,
    changed_at = clock_timestamp(), next_at = clock_timestamp(), failures = 0, failing_since = NULL
"""
FORGET = "DELETE FROM imports.webhook WHERE namespace = %s AND provider = ANY(%s)"
ENABLE = """
UPDATE imports.webhook SET state = 'Active', reason = NULL, message = NULL, changed_at = clock_timestamp(),
    next_at = clock_timestamp(), failures = 0, failing_since = NULL
WHERE namespace = %s AND provider = %s RETURNING 1
"""
# Running jobs are few (workers x concurrency). The claim is held while it is written, so that no progress comes after
# the end. A message of progress that still waits is enough: the next one tells the newer counters.
PROGRESS = """
WITH running AS (
    SELECT c.job_id, coalesce(c.live_progress, k.progress) AS progress, w.namespace, w.provider
    FROM imports.claim c
    JOIN "ProductImportJob" j ON j.id = c.job_id
    JOIN imports.webhook w ON w.namespace = %(namespace)s AND w.provider = j.provider AND w.company_id = j."companyId"
    LEFT JOIN imports.checkpoint k ON k.job_id = c.job_id
    WHERE coalesce(j.namespace, %(namespace)s) = %(namespace)s AND w.state = 'Active'
      AND %(event)s = ANY(w.events) AND to_jsonb(j) ->> 'parentId' IS NULL
      AND coalesce(c.live_progress, k.progress) IS NOT NULL
    ORDER BY c.job_id LIMIT %(limit)s FOR SHARE OF c SKIP LOCKED
)
INSERT INTO imports.notification (namespace, provider, job_id, event, data)
SELECT r.namespace, r.provider, r.job_id, %(event)s,
    imports.job_facts(j.id, r.namespace, j."objectName", j."companyId", j.provider, j.status, NULL, NULL,
        j."createdAt", j."startedAt", NULL, r.progress)
FROM running r JOIN "ProductImportJob" j ON j.id = r.job_id
LEFT JOIN LATERAL (
    SELECT n.state, n.created_at, n.event, n.data -> 'progress' AS progress FROM imports.notification n
    WHERE n.job_id = r.job_id ORDER BY n.id DESC LIMIT 1) last ON true
WHERE last.state IS NULL OR (
    last.state <> 'Waiting' AND last.created_at < clock_timestamp() - %(seconds)s * interval '1 second'
    AND (last.event <> %(event)s OR last.progress IS DISTINCT FROM r.progress))
"""
# What waits for an endpoint that is gone or disabled is given up, some at a time.
ABANDON = f"""{WAITING_PROVIDERS}, lost AS (
    SELECT n.id FROM waiting, LATERAL (
        SELECT id FROM imports.notification
        WHERE namespace = %(namespace)s AND provider = waiting.provider AND state = 'Waiting'
        LIMIT %(limit)s FOR UPDATE SKIP LOCKED) n
    WHERE NOT EXISTS (SELECT FROM imports.webhook w
        WHERE w.namespace = %(namespace)s AND w.provider = waiting.provider AND w.state = 'Active')
    LIMIT %(limit)s)
UPDATE imports.notification n SET state = 'Abandoned', ended_at = clock_timestamp(), leased_until = NULL,
    error = coalesce(n.error, 'the endpoint is disabled or gone')
FROM lost WHERE n.id = lost.id
"""
# By index notification_ended, the oldest first.
PRUNE = """
DELETE FROM imports.notification WHERE id = ANY(ARRAY(
    SELECT id FROM imports.notification
    WHERE state <> 'Waiting' AND ended_at < clock_timestamp() - %s * interval '1 second'
    ORDER BY ended_at LIMIT %s))
"""
# The oldest message of each endpoint that has any: how long it waits, beyond what its endpoint's backoff asks.
OLDEST = f"""{WAITING_PROVIDERS}
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - oldest.created_at)), 0)::float8
FROM waiting, LATERAL (
    SELECT created_at FROM imports.notification
    WHERE namespace = %(namespace)s AND provider = waiting.provider AND state = 'Waiting'
    ORDER BY due_at, id LIMIT 1) oldest
"""


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint as the database knows it."""

    endpoint: Endpoint
    state: str
    reason: str | None = None
    message: str | None = None
    changed_at: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None
    succeeded_at: datetime | None = None


class WebhookStore:
    """Every method raises DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database, *, namespace: str) -> None:
        self._database = database
        self._namespace = namespace

    async def read(self, providers: Sequence[str] | None = None) -> list[Webhook]:
        """All endpoints of the namespace, or those of some connections."""
        statement, values = (
            (READ, (self._namespace,))
            if providers is None
            else (READ_SOME, (self._namespace, list(providers)))
        )
        async with self._database.connection() as connection:
            rows = await (await connection.execute(statement, values)).fetchall()
        return [Webhook(Endpoint(*row[:6]), *row[6:]) for row in rows]

    async def put(self, endpoint: Endpoint) -> None:
        """Keep an endpoint; one that was there is enabled again."""
        async with self._database.connection() as connection:
            await connection.execute(
                PUT,
                {
                    "namespace": self._namespace,
                    "provider": endpoint.provider,
                    "uid": endpoint.uid,
                    "company": endpoint.company_id,
                    "url": endpoint.url,
                    "secret": endpoint.secret_name,
                    "events": list(endpoint.events),
                },
            )

    async def forget(self, providers: Sequence[str]) -> None:
        """Tell these no more."""
        async with self._database.connection() as connection:
            await connection.execute(FORGET, (self._namespace, list(providers)))

    async def enable(self, provider: str) -> bool:
        """Send again, from now on; False where there is no such endpoint."""
        async with self._database.connection() as connection:
            return (
                await (await connection.execute(ENABLE, (self._namespace, provider))).fetchone() is not None
            )

    async def add_progress(self, *, every_seconds: float) -> int:
        """Add a message for each running job whose counters have changed since the last; returns their number."""
        values = {
            "namespace": self._namespace,
            "event": NotificationEvent.PROGRESS.value,
            "seconds": every_seconds,
            "limit": AT_ONCE,
        }
        return await self._run(PROGRESS, values)

    async def abandon(self) -> int:
        """Give up what waits for endpoints that are disabled or gone; returns the number, at most 500 a call."""
        return await self._run(ABANDON, {"namespace": self._namespace, "limit": AT_ONCE})

    async def prune(self) -> int:
        """Delete messages that ended over a week ago; returns the number, at most 5,000 a call."""
        async with self._database.connection() as connection:
            return (await connection.execute(PRUNE, (KEPT_SECONDS, PRUNED_AT_ONCE))).rowcount

    async def oldest_seconds(self) -> float:
        """How long the oldest message waits; 0 where none does."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(OLDEST, {"namespace": self._namespace})).fetchone()
            return float(row[0]) if row else 0.0

    async def _run(self, statement: str, values: Mapping[str, object]) -> int:
        async with self._database.connection() as connection:
            return (await connection.execute(statement, values)).rowcount


__all__ = ["Webhook", "WebhookStore"]
