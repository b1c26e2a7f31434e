"""Decisions on the numbers of workers with what they were made of, kept for a while so that they can be replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from import_core.adapters.postgres.pool import Database

KEPT_DAYS = 7
KEPT_OF_A_POOL = 2_000
PRUNED_AT_ONCE = 5_000

ADD = """
INSERT INTO imports.scaling_decision
    (namespace, pool, decided_at, version, before, replicas, desired, need, reason, inputs)
SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::integer[], %s::integer[], %s::integer[],
                     %s::integer[], %s::integer[], %s::text[], %s::jsonb[])
"""
# By index scaling_decision_pool, the newest first.
READ = """
SELECT pool, decided_at, version, before, replicas, desired, need, reason, inputs
FROM imports.scaling_decision
WHERE namespace = %s AND pool = %s AND decided_at >= coalesce(%s::timestamptz, '-infinity')
ORDER BY id DESC LIMIT %s
"""
# By index scaling_decision_time.
PRUNE_OLD = """
DELETE FROM imports.scaling_decision WHERE id = ANY(ARRAY(
    SELECT id FROM imports.scaling_decision WHERE decided_at < now() - %s * interval '1 day'
    ORDER BY decided_at LIMIT %s))
"""
# The pools are found by skipping through the index (namespace, pool, id), then each one's oldest row to keep.
PRUNE_SURPLUS = """
WITH RECURSIVE pool (namespace, pool) AS (
    (SELECT namespace, pool FROM imports.scaling_decision ORDER BY namespace, pool LIMIT 1)
    UNION ALL
    SELECT next.* FROM pool p CROSS JOIN LATERAL (
        SELECT namespace, pool FROM imports.scaling_decision
        WHERE (namespace, pool) > (p.namespace, p.pool) ORDER BY namespace, pool LIMIT 1) next
)
DELETE FROM imports.scaling_decision WHERE id = ANY(ARRAY(
    SELECT d.id FROM pool p
    CROSS JOIN LATERAL (
        SELECT id FROM imports.scaling_decision
        WHERE namespace = p.namespace AND pool = p.pool ORDER BY id DESC OFFSET %s LIMIT 1) newest
    JOIN imports.scaling_decision d ON d.namespace = p.namespace AND d.pool = p.pool AND d.id <= newest.id
    LIMIT %s))
"""


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """One decision; `inputs` are those of `pool_scaling` as JSON, in the format `version`."""

    pool: str
    decided_at: datetime
    version: int
    before: int
    """Replicas asked for until then."""
    replicas: int
    desired: int
    need: int | None
    reason: str
    inputs: dict[str, Any]


class DecisionStore:
    """Decisions in PostgreSQL. Methods raise DatabaseUnavailableError when it is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, namespace: str, decisions: Sequence[RecordedDecision]) -> None:
        """Keep decisions, in their order."""
        async with self._database.connection() as connection:
            await connection.execute(
                ADD,
                (
                    [namespace] * len(decisions),
                    [each.pool for each in decisions],
                    [each.decided_at for each in decisions],
                    [each.version for each in decisions],
                    [each.before for each in decisions],
                    [each.replicas for each in decisions],
                    [each.desired for each in decisions],
                    [each.need for each in decisions],
                    [each.reason for each in decisions],
                    [Jsonb(each.inputs) for each in decisions],
                ),
            )

    async def read(
        self, namespace: str, pool: str, *, since: datetime | None, limit: int
    ) -> list[RecordedDecision]:
        """The newest decisions of a pool, in the order of time, at most `limit`."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(READ, (namespace, pool, since, limit))
            return [RecordedDecision(*row) for row in reversed(await cursor.fetchall())]

    async def prune(self, *, days: float = KEPT_DAYS, of_a_pool: int = KEPT_OF_A_POOL) -> int:
        """Forget a bounded number of those that are old, or are more than a pool's share; returns how many."""
        async with self._database.transaction() as connection:
            old = await connection.execute(PRUNE_OLD, (days, PRUNED_AT_ONCE))
            surplus = await connection.execute(PRUNE_SURPLUS, (of_a_pool, PRUNED_AT_ONCE))
            return old.rowcount + surplus.rowcount
