"""Webhooks of connections and the messages that wait to be sent to them, written where a job's state changes."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE imports.webhook (
    namespace text NOT NULL,
    provider text NOT NULL,
    uid text NOT NULL,
    company_id text NOT NULL,
    url text NOT NULL,
    secret_name text NOT NULL,
    events text[] NOT NULL,
    state text NOT NULL DEFAULT 'Active',
    reason text,
    message text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    taken_at timestamptz,
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    succeeded_at timestamptz,
    PRIMARY KEY (namespace, provider)
) WITH (fillfactor = 70);
COMMENT ON TABLE imports.webhook IS
    'Where the events of a connection''s imports are told: from its ImportProvider, kept by the operator.';
COMMENT ON COLUMN imports.webhook.next_at IS 'Nothing is sent before: the endpoint failed and is left alone.';
CREATE INDEX webhook_company ON imports.webhook (provider, company_id);
CREATE TABLE imports.notification (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text NOT NULL DEFAULT 'msg_' || replace(gen_random_uuid()::text, '-', ''),
    namespace text NOT NULL,
    provider text NOT NULL,
    job_id text NOT NULL,
    event text NOT NULL,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'Waiting',
    attempts integer NOT NULL DEFAULT 0,
    first_at timestamptz,
    leased_until timestamptz,
    lease_id uuid,
    status integer,
    error text,
    ended_at timestamptz
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE imports.notification IS
    'The outbox of webhooks: of a job, the one with the smallest id that waits is sent first, and alone.';
CREATE INDEX notification_due ON imports.notification (namespace, provider, due_at, id) WHERE state = 'Waiting';
CREATE INDEX notification_job ON imports.notification (job_id, id);
CREATE INDEX notification_provider ON imports.notification (namespace, provider, id);
CREATE INDEX notification_leased ON imports.notification (namespace, provider)
    WHERE state = 'Waiting' AND leased_until IS NOT NULL;
CREATE INDEX notification_ended ON imports.notification (ended_at) WHERE state <> 'Waiting';
"""

# A trigger calls it (triggers.py), and not each statement that ends a job: these are many, some are run by workers of
# an earlier version, and the platform may end a job by itself. It changes nothing of the row. It has its owner's
# rights: whoever may end a job (the platform, somebody on call) need not be able to write messages. Progress that
# nobody was told of yet is worth nothing once the end is known. What follows an earlier message waits as long as that.
FUNCTION = """
CREATE FUNCTION imports.note_job_end() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent text;
    word constant text := CASE NEW.status WHEN 'COMPLETED' THEN 'import.completed' WHEN 'FAILED' THEN 'import.failed'
        ELSE 'import.cancelled' END;
    hook record;
BEGIN
    IF NOT EXISTS (SELECT FROM imports.webhook) THEN
        RETURN NULL;
    END IF;
    parent := to_jsonb(NEW) ->> 'parentId';
    IF parent IS NOT NULL THEN
        PERFORM imports.note_steps(TG_RELID, parent, true);
        RETURN NULL;
    END IF;
    FOR hook IN
        SELECT w.namespace, w.provider FROM imports.webhook w
        WHERE w.provider = NEW.provider AND w.company_id = NEW."companyId" AND w.state = 'Active'
          AND (NEW.namespace IS NULL OR w.namespace = NEW.namespace) AND word = ANY(w.events)
    LOOP
        UPDATE imports.notification SET state = 'Superseded', ended_at = clock_timestamp()
        WHERE job_id = NEW.id AND state = 'Waiting' AND event = 'import.progress'
          AND (leased_until IS NULL OR leased_until < clock_timestamp());
        INSERT INTO imports.notification (namespace, provider, job_id, event, data, due_at)
        SELECT hook.namespace, hook.provider, NEW.id, word,
            imports.job_facts(NEW.id, hook.namespace, NEW."objectName", NEW."companyId", NEW.provider, NEW.status,
                NEW."failureReason", NEW."errorMessage", NEW."createdAt", NEW."startedAt", NEW."completedAt",
                (SELECT c.progress FROM imports.checkpoint c WHERE c.job_id = NEW.id)),
            coalesce((SELECT max(n.due_at) FROM imports.notification n
                      WHERE n.job_id = NEW.id AND n.state = 'Waiting'), clock_timestamp());
    END LOOP;
    IF NEW.status = 'COMPLETED' THEN
        PERFORM imports.note_steps(TG_RELID, NEW.id, false);
    END IF;
    RETURN NULL;
END $$;
"""
# When a batch of a step has ended: products that this very transaction has given up; and when the import and all its
# products' steps are done, once, that its catalogue is live. Two batches that end at the same time take turns, so that
# the second one sees the first's rows.
STEPS = """
CREATE FUNCTION imports.note_steps(jobs regclass, parent text, batch boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    job record;
    hook record;
    dead jsonb;
    facts jsonb;
BEGIN
    -- The platform's table may be in any schema.
    EXECUTE format('SELECT id, "companyId" AS company, provider, namespace, "objectName" AS name, status,
        "createdAt" AS created_at, "startedAt" AS started_at, "completedAt" AS completed_at FROM %s
        WHERE id = $1', jobs)
    INTO job USING parent;
    FOR hook IN
        SELECT w.namespace, w.provider, w.events FROM imports.webhook w
        WHERE w.provider = job.provider AND w.company_id = job.company AND w.state = 'Active'
          AND (job.namespace IS NULL OR w.namespace = job.namespace)
          AND w.events && ARRAY['product.dead_lettered', 'catalogue.live']
    LOOP
        CONTINUE WHEN to_regclass('imports.product_step') IS NULL;
        facts := imports.job_facts(job.id, hook.namespace, job.name, job.company, job.provider, NULL, NULL, NULL,
            job.created_at, job.started_at, job.completed_at, NULL);
        IF batch AND 'product.dead_lettered' = ANY(hook.events) THEN
            SELECT jsonb_agg(d.told) INTO dead FROM (
                SELECT jsonb_build_object('productId', s.product_id, 'step', s.step, 'reason', s.reason,
                    'message', left(s.message, 300)) AS told
                FROM imports.product_step s
                WHERE s.job_id = parent AND s.state = 'Dead' AND s.xmin = pg_current_xact_id()::xid
                ORDER BY s.product_id LIMIT 100) d;
            IF dead IS NOT NULL THEN
                INSERT INTO imports.notification (namespace, provider, job_id, event, data)
                VALUES (hook.namespace, hook.provider, parent, 'product.dead_lettered',
                    facts || jsonb_build_object('products', dead));
            END IF;
        END IF;
        CONTINUE WHEN job.status <> 'COMPLETED' OR NOT 'catalogue.live' = ANY(hook.events);
        PERFORM pg_advisory_xact_lock(hashtextextended('imports.live ' || parent, 0));
        INSERT INTO imports.notification (namespace, provider, job_id, event, data)
        SELECT hook.namespace, hook.provider, parent, 'catalogue.live', facts || jsonb_build_object('products',
            (SELECT jsonb_build_object('processed', count(DISTINCT s.product_id),
                'halted', count(DISTINCT s.product_id) FILTER (WHERE s.state = 'Halted'),
                'deadLettered', count(DISTINCT s.product_id) FILTER (WHERE s.state = 'Dead'))
             FROM imports.product_step s WHERE s.job_id = parent))
        WHERE EXISTS (SELECT FROM imports.product_step s WHERE s.job_id = parent)
          AND NOT EXISTS (
            SELECT FROM imports.product_step s WHERE s.job_id = parent AND s.state IN ('Waiting', 'Due'))
          AND NOT EXISTS (
            SELECT FROM imports.notification n WHERE n.job_id = parent AND n.event = 'catalogue.live'
              AND n.namespace = hook.namespace AND n.provider = hook.provider AND n.created_at >= job.completed_at);
    END LOOP;
END $$;
"""
FACTS = """
CREATE FUNCTION imports.job_facts(
    id text, namespace text, name text, company text, provider text, status text, reason text, message text,
    created_at timestamptz, started_at timestamptz, completed_at timestamptz, progress jsonb
) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('id', id, 'namespace', namespace, 'name', coalesce(name, id), 'companyId', company,
        'provider', provider, 'status', status, 'reason', reason, 'message', left(message, 1000),
        'createdAt', created_at, 'startedAt', started_at, 'completedAt', completed_at, 'progress', progress)
$$;
"""


def upgrade() -> None:
    """Apply."""
    for statements in (TABLES, FACTS, STEPS, FUNCTION):
        op.execute(statements)
