"""What is known and wished of each queue: health, intake, pauses. Written by the guard and by people's commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from psycopg.types.json import Jsonb

from import_core.adapters.postgres.notifications import QUEUE_CHANNEL
from import_core.adapters.postgres.pool import Connection, Database
from import_core.domain.backpressure import HealthLevel, Intake, IntakeState, QueueHealth, Thresholds
from import_core.domain.emergency import Emergency, EmergencyPhase
from import_core.domain.jobs import Tier, known_tier

TEXT_LIMIT = 500

COLUMNS = """
    paused, reason, changed_by, changed_at, health_level, health_since, depth, measured_at, starts_per_minute,
    thresholds, intake_stopped, intake_by, intake_reason, intake_since, intake_improved_since,
    emergency_phase, emergency_reason, emergency_since, emergency_counted_from
"""
READ = f"SELECT queue, {COLUMNS} FROM imports.queue_state WHERE queue = ANY(%s)"
MAKE_ROW = "INSERT INTO imports.queue_state (queue) VALUES (%s) ON CONFLICT (queue) DO NOTHING"
LOCK = f"SELECT queue, {COLUMNS} FROM imports.queue_state WHERE queue = %s FOR UPDATE"
SAVE = """
UPDATE imports.queue_state SET
    health_level = %(health_level)s, health_since = %(health_since)s, depth = %(depth)s,
    measured_at = %(measured_at)s, starts_per_minute = %(starts_per_minute)s, thresholds = %(thresholds)s,
    intake_stopped = %(intake_stopped)s, intake_by = %(intake_by)s, intake_reason = %(intake_reason)s,
    intake_since = %(intake_since)s, intake_improved_since = %(intake_improved_since)s,
    emergency_phase = %(emergency_phase)s, emergency_reason = %(emergency_reason)s,
    emergency_since = %(emergency_since)s, emergency_counted_from = %(emergency_counted_from)s
WHERE queue = %(queue)s
"""
# The time is that of the last change: saying the same once more changes only its reason.
SET_PAUSED = """
INSERT INTO imports.queue_state AS s (queue, paused, reason, changed_by)
VALUES (%(queue)s, %(paused)s, %(reason)s, %(by)s)
ON CONFLICT (queue) DO UPDATE SET paused = excluded.paused, reason = excluded.reason,
    changed_by = excluded.changed_by,
    changed_at = CASE WHEN s.paused = excluded.paused THEN s.changed_at ELSE clock_timestamp() END
RETURNING pg_notify(%(channel)s, queue)
"""
SET_INTAKE = """
INSERT INTO imports.queue_state AS s (queue, intake_stopped, intake_reason, intake_by, intake_since)
VALUES (%(queue)s, %(stopped)s, %(reason)s, %(by)s, clock_timestamp())
ON CONFLICT (queue) DO UPDATE SET intake_stopped = excluded.intake_stopped,
    intake_reason = excluded.intake_reason, intake_by = excluded.intake_by, intake_improved_since = NULL,
    intake_since = CASE WHEN s.intake_stopped = excluded.intake_stopped AND s.intake_since IS NOT NULL
        THEN s.intake_since ELSE excluded.intake_since END
RETURNING pg_notify(%(channel)s, queue)
"""
# Failures before a person's word are no more evidence.
END_EMERGENCY = """
UPDATE imports.queue_state SET emergency_phase = NULL, emergency_reason = NULL,
    emergency_since = clock_timestamp(), emergency_counted_from = clock_timestamp()
WHERE queue = %(queue)s AND emergency_phase IS NOT NULL
RETURNING pg_notify(%(channel)s, queue)
"""
PAUSES = "SELECT scope, namespace, name, reason, paused_by, paused_at FROM imports.pause ORDER BY 1, 2, 3"
PAUSE = """
INSERT INTO imports.pause (scope, namespace, name, reason, paused_by)
VALUES (%(scope)s, %(namespace)s, %(name)s, %(reason)s, %(by)s)
ON CONFLICT (scope, namespace, name) DO UPDATE SET reason = excluded.reason, paused_by = excluded.paused_by
RETURNING pg_notify(%(channel)s, scope)
"""
RESUME = """
DELETE FROM imports.pause WHERE scope = %(scope)s AND namespace = %(namespace)s AND name = %(name)s
RETURNING pg_notify(%(channel)s, scope)
"""
# By index import_job_company_status; the platform may not have told of every company.
KNOWN_COMPANY = """
SELECT EXISTS (SELECT FROM "Company" WHERE id = %(company)s)
    OR EXISTS (SELECT FROM "ProductImportJob" WHERE "companyId" = %(company)s)
"""
TIERS = 'SELECT id, tier::text FROM "Company" WHERE id = ANY(%s)'

Scope = Literal["company", "provider"]
COMPANY: Scope = "company"
PROVIDER: Scope = "provider"


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue; one that nobody ever paused or measured has no times."""

    paused: bool = False
    reason: str | None = None
    changed_by: str | None = None
    changed_at: datetime | None = None
    intake: IntakeState = field(default_factory=IntakeState)
    starts_per_minute: float | None = None
    """Jobs started in the last minute, as last measured; None: never."""
    emergency: Emergency = field(default_factory=Emergency)

    @property
    def level(self) -> HealthLevel:
        """How healthy the queue is."""
        return self.intake.health.level

    @property
    def basic_delay_seconds(self) -> float:
        """How much later jobs of BASIC companies are due at present."""
        degraded = self.level.is_at_least(HealthLevel.DEGRADED)
        return self.intake.thresholds.basic_delay_seconds if degraded else 0.0

    @property
    def dispatch_paused(self) -> bool:
        """Whether nothing is handed out: by a person's word, or in an emergency."""
        return self.paused or self.emergency.phase is EmergencyPhase.PAUSED


@dataclass(frozen=True, slots=True)
class Pause:
    """A company, or a connection of a namespace, whose jobs are not handed out."""

    scope: Scope
    namespace: str
    """Of the connection; empty for a company."""
    name: str
    reason: str | None = None
    paused_by: str = ""
    paused_at: datetime | None = None


class QueueStateStore:
    """Every method raises DatabaseUnavailableError when the database is away.

    Whatever people would notice is told on QUEUE_CHANNEL: a queue's name, or `company` or `provider`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, queues: Sequence[str]) -> dict[str, QueueState]:
        """The state of each of these queues."""
        async with self._database.connection() as connection:
            return await read_states(connection, queues)

    async def health(self, queue: str) -> QueueState:
        """The state of one queue, for admission: `decide_intake(tier, state.intake, …)`."""
        return (await self.read([queue]))[queue]

    async def knows_company(self, company: str) -> bool:
        """Whether the company, or any job of it, is known."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(KNOWN_COMPANY, {"company": company})).fetchone()
        return row == (True,)

    async def tier(self, company: str) -> Tier:
        """A company's tier; an unknown company is BASIC."""
        return (await self.tiers([company]))[company]

    async def tiers(self, companies: Sequence[str]) -> dict[str, Tier]:
        """The tier of each of these companies."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(TIERS, (list(companies),))
            known = {row[0]: known_tier(row[1]) for row in await cursor.fetchall()}
        return {company: known.get(company, Tier.BASIC) for company in companies}

    async def pauses(self) -> list[Pause]:
        """All paused companies and connections; people made each, so they are few."""
        async with self._database.connection() as connection:
            return [Pause(*row) for row in await (await connection.execute(PAUSES)).fetchall()]

    async def set_paused(self, queue: str, paused: bool, *, reason: str | None, changed_by: str) -> None:
        """Pause a queue, or let it go on, an emergency included. The dispatcher sees it within a second."""
        values = {"queue": queue, "paused": paused, **_words(reason, changed_by)}
        async with self._database.transaction() as connection:
            await connection.execute(SET_PAUSED, values)
            if not paused:
                await connection.execute(END_EMERGENCY, values)

    async def set_intake(self, queue: str, *, stopped: bool, reason: str | None, changed_by: str) -> None:
        """Stop or open intake by hand: stopped until somebody opens it, or open until the queue is below critical."""
        values = {"queue": queue, "stopped": stopped, **_words(reason, changed_by)}
        async with self._database.connection() as connection:
            await connection.execute(SET_INTAKE, values)

    async def pause(
        self, scope: Scope, name: str, *, namespace: str = "", reason: str | None, changed_by: str
    ) -> None:
        """Hand out no more jobs of a company, or of a connection of `namespace`."""
        values = {"scope": scope, "namespace": namespace, "name": name, **_words(reason, changed_by)}
        async with self._database.connection() as connection:
            await connection.execute(PAUSE, values)

    async def resume(self, scope: Scope, name: str, *, namespace: str = "") -> bool:
        """Hand them out again; False where they were not paused."""
        values = {"scope": scope, "namespace": namespace, "name": name, "channel": QUEUE_CHANNEL}
        async with self._database.connection() as connection:
            return await (await connection.execute(RESUME, values)).fetchone() is not None

    @asynccontextmanager
    async def locked(self, queue: str) -> AsyncIterator[LockedState]:
        """Look and decide while nobody else changes the queue's state; `save` before the end."""
        async with self._database.transaction(timeout_seconds=10) as connection:
            await connection.execute(MAKE_ROW, (queue,))
            row = await (await connection.execute(LOCK, (queue,))).fetchone()
            yield LockedState(connection, queue, _state(row[1:]) if row else QueueState())


@dataclass(frozen=True, slots=True)
class LockedState:
    """A queue's state inside the transaction that may change it."""

    connection: Connection
    queue: str
    state: QueueState

    async def save(self, state: QueueState, *, tell: bool) -> None:
        """Write health, intake and emergency; a person's pause is not touched. `tell` wakes those who listen."""
        health, intake = state.intake.health, state.intake.intake
        emergency = state.emergency
        phase = None if emergency.phase is EmergencyPhase.NONE else emergency.phase.value
        values = {
            "queue": self.queue,
            "health_level": health.level.value,
            "health_since": health.since,
            "depth": health.depth,
            "measured_at": health.measured_at,
            "starts_per_minute": state.starts_per_minute,
            "thresholds": Jsonb(asdict(state.intake.thresholds)),
            "intake_stopped": intake.stopped,
            "intake_by": intake.by,
            "intake_reason": intake.reason,
            "intake_since": intake.since,
            "intake_improved_since": intake.improved_since,
            "emergency_phase": phase,
            "emergency_reason": emergency.reason,
            "emergency_since": emergency.since,
            "emergency_counted_from": emergency.counted_from,
        }
        await self.connection.execute(SAVE, values)
        if tell:
            await self.connection.execute("SELECT pg_notify(%s, %s)", (QUEUE_CHANNEL, self.queue))


async def read_states(connection: Connection, queues: Sequence[str]) -> dict[str, QueueState]:
    """The state of each of these queues, on a connection that may be inside a transaction."""
    cursor = await connection.execute(READ, (list(queues),))
    known = {row[0]: _state(row[1:]) for row in await cursor.fetchall()}
    return {queue: known.get(queue, QueueState()) for queue in queues}


_THRESHOLDS = frozenset(each.name for each in fields(Thresholds))
_LEVELS = frozenset(HealthLevel)


def _state(row: Sequence[Any]) -> QueueState:
    level = HealthLevel(row[4]) if row[4] in _LEVELS else HealthLevel.HEALTHY
    return QueueState(
        paused=row[0],
        reason=row[1],
        changed_by=row[2],
        changed_at=row[3],
        intake=IntakeState(
            QueueHealth(level, row[5], row[6], row[7]), Intake(*row[10:15]), _thresholds(row[9])
        ),
        starts_per_minute=row[8],
        emergency=Emergency(EmergencyPhase(row[15] or EmergencyPhase.NONE), *row[16:19]),
    )


def _thresholds(value: Mapping[str, Any] | None) -> Thresholds:
    """Those of this version; what a newer one wrote beside them is left out."""
    return Thresholds(**{name: number for name, number in (value or {}).items() if name in _THRESHOLDS})


def _words(reason: str | None, changed_by: str) -> dict[str, str | None]:
    return {
        "reason": reason[:TEXT_LIMIT] if reason else None,
        "by": changed_by[:TEXT_LIMIT],
        "channel": QUEUE_CHANNEL,
    }
