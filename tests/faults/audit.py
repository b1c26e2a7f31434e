"""A record of all that is written, kept by PostgreSQL itself: triggers that only these tests install.

Every claim, hand-over, change of state, page and catalogue row leaves a line with the server's time, the
transaction and the connection that wrote it. What a process says of itself is never asked: a process that
was killed says nothing, and one that is wrong says what it believes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

INSTALL = """
CREATE SCHEMA IF NOT EXISTS audit;
CREATE TABLE IF NOT EXISTS audit.claim (
    at timestamptz NOT NULL DEFAULT clock_timestamp(), taken boolean NOT NULL, job_id text NOT NULL,
    claim_id uuid NOT NULL, worker_id text NOT NULL, pod text, dispatch integer NOT NULL,
    suspected boolean NOT NULL, writer text NOT NULL);
CREATE TABLE IF NOT EXISTS audit.hand_over (
    at timestamptz NOT NULL DEFAULT clock_timestamp(), job_id text NOT NULL, dispatch integer NOT NULL);
CREATE TABLE IF NOT EXISTS audit.state (
    at timestamptz NOT NULL DEFAULT clock_timestamp(), job_id text NOT NULL, before text NOT NULL,
    after text NOT NULL, dispatch integer, attempt integer, deaths integer, writer text NOT NULL, message text);
CREATE TABLE IF NOT EXISTS audit.page (
    at timestamptz NOT NULL DEFAULT clock_timestamp(), job_id text NOT NULL, pages integer NOT NULL,
    progress jsonb NOT NULL, claim_id uuid, transaction xid8 NOT NULL, writer text NOT NULL);
CREATE TABLE IF NOT EXISTS audit.item (
    at timestamptz NOT NULL DEFAULT clock_timestamp(), entity text NOT NULL, id text NOT NULL, company text,
    operation text NOT NULL, transaction xid8 NOT NULL, writer text NOT NULL);
CREATE INDEX IF NOT EXISTS claim_job ON audit.claim (job_id);
CREATE INDEX IF NOT EXISTS page_job ON audit.page (job_id);
CREATE INDEX IF NOT EXISTS item_company ON audit.item (company);

CREATE OR REPLACE FUNCTION audit.on_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO audit.claim (taken, job_id, claim_id, worker_id, dispatch, suspected, writer)
        VALUES (false, OLD.job_id, OLD.claim_id, OLD.worker_id, OLD.dispatch, OLD.suspected,
                current_setting('application_name'));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO audit.claim (taken, job_id, claim_id, worker_id, pod, dispatch, suspected, writer)
        VALUES (true, NEW.job_id, NEW.claim_id, NEW.worker_id,
                (SELECT pod_name FROM imports.worker WHERE worker_id = NEW.worker_id), NEW.dispatch,
                NEW.suspected, current_setting('application_name'));
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF claim_id ON imports.claim
    FOR EACH ROW EXECUTE FUNCTION audit.on_claim();

CREATE OR REPLACE FUNCTION audit.on_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW."dispatchedAt" IS NOT NULL AND NEW.dispatch IS DISTINCT FROM OLD.dispatch THEN
        INSERT INTO audit.hand_over (job_id, dispatch) VALUES (NEW.id, NEW.dispatch);
    END IF;
    IF NEW.status IS DISTINCT FROM OLD.status THEN
        INSERT INTO audit.state (job_id, before, after, dispatch, attempt, deaths, writer, message)
        VALUES (NEW.id, OLD.status, NEW.status, NEW.dispatch, NEW.attempt, NEW.deaths,
                current_setting('application_name'), NEW."errorMessage");
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER audit AFTER UPDATE ON "ProductImportJob"
    FOR EACH ROW EXECUTE FUNCTION audit.on_job();

CREATE OR REPLACE FUNCTION audit.on_page() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.page (job_id, pages, progress, claim_id, transaction, writer)
    VALUES (NEW.job_id, NEW.pages, NEW.progress,
            (SELECT claim_id FROM imports.claim WHERE job_id = NEW.job_id AND expires_at > clock_timestamp()),
            pg_current_xact_id(), current_setting('application_name'));
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER audit AFTER INSERT OR UPDATE ON imports.checkpoint
    FOR EACH ROW EXECUTE FUNCTION audit.on_page();

CREATE OR REPLACE FUNCTION audit.on_item() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    item record;
    company text;
BEGIN
    IF TG_OP = 'DELETE' THEN item := OLD; ELSE item := NEW; END IF;
    IF TG_TABLE_NAME = 'Product' THEN
        company := item."companyId";
    ELSE
        SELECT "companyId" INTO company FROM "Product" WHERE id = item."productId";
    END IF;
    INSERT INTO audit.item (entity, id, company, operation, transaction, writer)
    VALUES (TG_TABLE_NAME, item.id, company, TG_OP, pg_current_xact_id(), current_setting('application_name'));
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON "Product"
    FOR EACH ROW EXECUTE FUNCTION audit.on_item();
CREATE OR REPLACE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON "ProductImage"
    FOR EACH ROW EXECUTE FUNCTION audit.on_item();
"""

CLAIMS = """
SELECT t.job_id, t.claim_id::text, t.worker_id, coalesce(t.pod, ''), t.dispatch, t.at, e.at, coalesce(e.writer, ''),
       coalesce(e.suspected, false)
FROM audit.claim t LEFT JOIN audit.claim e ON e.claim_id = t.claim_id AND e.job_id = t.job_id AND NOT e.taken
WHERE t.taken AND t.job_id = ANY(%s) ORDER BY t.at
"""
HAND_OVERS = "SELECT job_id, dispatch, at FROM audit.hand_over WHERE job_id = ANY(%s) ORDER BY at"
STATES = """
SELECT job_id, before, after, at, writer, message FROM audit.state WHERE job_id = ANY(%s) ORDER BY at
"""
PAGES = """
SELECT p.job_id, p.pages, p.progress, p.at, p.claim_id::text, p.transaction::text, p.writer,
       (SELECT c.pod FROM audit.claim c WHERE c.claim_id = p.claim_id AND c.taken LIMIT 1)
FROM audit.page p WHERE p.job_id = ANY(%s) ORDER BY p.at
"""
ITEMS = """
SELECT entity, id, company, operation, transaction::text, writer, at FROM audit.item
WHERE company = ANY(%s) ORDER BY at
"""


@dataclass(frozen=True, slots=True)
class ClaimRecord:
    """A claim from its taking to its end; `ended_by` is the connection's name, `ended_at` None while it stands.

    `suspected`: it was marked, when it ended, as one whose job ran alone on its worker.
    """

    job_id: str
    claim_id: str
    worker_id: str
    pod: str
    dispatch: int
    taken_at: datetime
    ended_at: datetime | None
    ended_by: str
    suspected: bool = False

    @property
    def was_cut(self) -> bool:
        """Whether somebody else than its worker ended it."""
        return self.ended_at is not None and not self.ended_by.startswith("import-worker")

    def stood(self, moment: datetime) -> bool:
        """Whether it stood at that moment."""
        return self.taken_at <= moment and (self.ended_at is None or self.ended_at > moment)


@dataclass(frozen=True, slots=True)
class StateRecord:
    """A job's change of state."""

    job_id: str
    before: str
    after: str
    at: datetime
    writer: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class PageRecord:
    """A committed checkpoint; `claim_id` is the claim that stood then, `pod` the one of its worker."""

    job_id: str
    pages: int
    progress: dict[str, Any]
    at: datetime
    claim_id: str | None
    transaction: str
    writer: str
    pod: str | None


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """A product or image row that was written."""

    entity: str
    id: str
    company: str
    operation: str
    transaction: str
    writer: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Audit:
    """All that was written for some jobs and companies, in the order of the server's clock."""

    claims: Sequence[ClaimRecord]
    hand_overs: Sequence[tuple[str, int, datetime]]
    states: Sequence[StateRecord]
    pages: Sequence[PageRecord]
    items: Sequence[ItemRecord]


async def install_audit(connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
    """Install the triggers; nothing changes where they are there already."""
    await connection.execute(INSTALL)


async def read_audit(
    connection: psycopg.AsyncConnection[tuple[Any, ...]], job_ids: Sequence[str], companies: Sequence[str]
) -> Audit:
    """Read what was written for these jobs and companies."""

    async def rows(statement: str, keys: Sequence[str]) -> list[tuple[Any, ...]]:
        cursor = await connection.execute(statement, (list(keys),))
        return await cursor.fetchall()

    return Audit(
        claims=[ClaimRecord(*row) for row in await rows(CLAIMS, job_ids)],
        hand_overs=[(row[0], row[1], row[2]) for row in await rows(HAND_OVERS, job_ids)],
        states=[StateRecord(*row) for row in await rows(STATES, job_ids)],
        pages=[PageRecord(*row) for row in await rows(PAGES, job_ids)],
        items=[ItemRecord(*row) for row in await rows(ITEMS, companies)],
    )
