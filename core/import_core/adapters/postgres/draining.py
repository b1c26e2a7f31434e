"""The drain handshake in PostgreSQL: the operator asks pods, their worker processes answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from import_core.adapters.postgres.notifications import DRAIN_CHANNEL, DRAINED_CHANNEL, notify_in
from import_core.adapters.postgres.pool import Database

GOING_SECONDS = 20.0
"""Longer than a call to the API server may take: a pod whose number may just be lowered is not taken back."""
UNKNOWN_PRODUCTS = 20_000
"""What a job counts whose catalogue's size is not known yet: as the largest."""

# A pod's newest process speaks for it; jobs count for all of them, as an earlier one may not be known to be gone.
# Claims are few (workers x concurrency).
ROSTER = f"""
WITH held AS (
    SELECT w.pod_uid, count(*) AS jobs, sum(greatest(0, coalesce(
        (c.live_progress->>'products_total')::bigint
        - (c.live_progress->>'products_imported')::bigint
        - (c.live_progress->>'products_unchanged')::bigint
        - (c.live_progress->>'products_failed')::bigint, {UNKNOWN_PRODUCTS})))::bigint AS products
    FROM imports.claim c JOIN imports.worker w USING (worker_id)
    WHERE w.pod_uid = ANY(%(pods)s) GROUP BY w.pod_uid
)
SELECT p.uid, w.worker_id IS NOT NULL, d.request IS NOT NULL,
    d.request IS NOT NULL AND (w.worker_id IS NULL OR w.drained_request IS NOT DISTINCT FROM d.request),
    coalesce(d.going_at > clock_timestamp() - interval '{GOING_SECONDS} seconds', false),
    coalesce(h.jobs, 0), coalesce(h.products, 0)
FROM unnest(%(pods)s::text[]) AS p (uid)
LEFT JOIN imports.drain d ON d.pod_uid = p.uid
LEFT JOIN LATERAL (
    SELECT worker_id, drained_request FROM imports.worker
    WHERE pod_uid = p.uid ORDER BY started_at DESC LIMIT 1) w ON true
LEFT JOIN held h ON h.pod_uid = p.uid
"""
# Asking twice is asking once.
ASK = """
INSERT INTO imports.drain (pod_uid, namespace)
SELECT uid, %s FROM unnest(%s::text[]) AS p (uid) ORDER BY uid
ON CONFLICT (pod_uid) DO NOTHING RETURNING pod_uid
"""
TAKE_BACK = f"""
DELETE FROM imports.drain WHERE pod_uid = ANY(ARRAY(
    SELECT pod_uid FROM imports.drain WHERE pod_uid = ANY(%s)
      AND coalesce(going_at < clock_timestamp() - interval '{GOING_SECONDS} seconds', true)
    ORDER BY pod_uid FOR UPDATE))
RETURNING pod_uid
"""
# The last look before the number is lowered, and the word that bars the way back, in one statement.
LET_GO = """
UPDATE imports.drain d SET going_at = clock_timestamp()
WHERE d.pod_uid = ANY(ARRAY(
        SELECT pod_uid FROM imports.drain WHERE pod_uid = ANY(%s) ORDER BY pod_uid FOR UPDATE))
  AND NOT EXISTS (
    SELECT FROM imports.claim c JOIN imports.worker w USING (worker_id) WHERE w.pod_uid = d.pod_uid)
  AND (SELECT w.drained_request FROM imports.worker w
       WHERE w.pod_uid = d.pod_uid ORDER BY w.started_at DESC LIMIT 1)
      IS NOT DISTINCT FROM CASE WHEN EXISTS (
        SELECT FROM imports.worker w WHERE w.pod_uid = d.pod_uid) THEN d.request END
RETURNING d.pod_uid
"""
REQUEST = "SELECT request FROM imports.drain WHERE pod_uid = %s"
# The process itself knows that it takes nothing; that it holds nothing is also read.
DRAINED = """
UPDATE imports.worker w SET drained_request = d.request, state = 'drained', seen_at = clock_timestamp()
FROM imports.drain d
WHERE w.worker_id = %s AND d.pod_uid = w.pod_uid AND d.request = %s
  AND NOT EXISTS (SELECT FROM imports.claim c WHERE c.worker_id = w.worker_id)
RETURNING w.pod_uid
"""
# Requests of pods that are gone. One whose process has not started for so long is asked anew when need be.
SWEEP = """
DELETE FROM imports.drain d WHERE asked_at < clock_timestamp() - interval '1 hour'
  AND NOT EXISTS (SELECT FROM imports.worker w WHERE w.pod_uid = d.pod_uid)
"""


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """What is written of a pod."""

    pod_uid: str
    started: bool
    asked: bool
    drained: bool
    """Also a pod without a process: one that starts in it will read the request before it takes anything."""
    going: bool
    jobs: int
    products: int


class DrainStore:
    """Requests to drain and their answers. Methods raise DatabaseUnavailableError when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def roster(self, pod_uids: Sequence[str]) -> dict[str, RosterEntry]:
        """What is written of these pods, by uid; each of them has an entry."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(ROSTER, {"pods": list(pod_uids)})
            return {row[0]: RosterEntry(*row) for row in await cursor.fetchall()}

    async def ask(self, namespace: str, pod_uids: Sequence[str]) -> list[str]:
        """Ask the workers of these pods to drain; returns those that were not asked before."""
        return await self._change(ASK, (namespace, list(pod_uids)), DRAIN_CHANNEL)

    async def take_back(self, pod_uids: Sequence[str]) -> list[str]:
        """Let workers take jobs again; returns those that may, without those whose number may just be lowered."""
        return await self._change(TAKE_BACK, (list(pod_uids),), DRAIN_CHANNEL)

    async def let_go(self, pod_uids: Sequence[str]) -> list[str]:
        """Of these pods, those that are drained at this moment; they are not taken back for GOING_SECONDS."""
        return await self._change(LET_GO, (list(pod_uids),), None)

    async def request_of(self, pod_uid: str) -> int | None:
        """The request that binds a pod's worker, if it is asked to drain."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(REQUEST, (pod_uid,))).fetchone()
            return None if row is None else int(row[0])

    async def drained(self, worker_id: str, request: int) -> bool:
        """A worker's answer; False where the request is not that any more, or a job is held after all."""
        return bool(await self._change(DRAINED, (worker_id, request), DRAINED_CHANNEL))

    async def _change(self, statement: str, parameters: tuple[object, ...], channel: str | None) -> list[str]:
        async with self._database.transaction() as connection:
            cursor = await connection.execute(statement, parameters)
            pods = [str(row[0]) for row in await cursor.fetchall()]
            if pods and channel is not None:
                await notify_in(connection, channel, pods)
            return pods
