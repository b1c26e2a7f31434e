"""Our indexes on the platform's tables: built one by one without locking writers out, after the migrations."""

from __future__ import annotations

from sqlalchemy import Connection, text

# "suspended IS NOT TRUE" and the coalesced keys appear letter by letter in the queries: the planner
# matches partial and expression indexes by their expression.
INDEXES: dict[str, str] = {
    "import_job_company_status": '"ProductImportJob" ("companyId", status)',
    "import_job_status_created": '"ProductImportJob" (status, "createdAt")',
    "import_job_due": """"ProductImportJob"
        (coalesce(queue, 'product-imports'), coalesce("notBefore", timestamptz '-infinity'))
        WHERE status = 'PENDING' AND suspended IS NOT TRUE""",
    # No other one serves what dispatch asks, as its collation is asked for alone (dispatching.UNDISPATCHED).
    "import_job_next": """"ProductImportJob"
        (coalesce(queue, 'product-imports'), "companyId" COLLATE "C", coalesce(namespace, ''), provider,
         coalesce("queuedAt", "createdAt"), id)
        WHERE status COLLATE "C" = 'PENDING' AND suspended IS NOT TRUE AND "dispatchedAt" IS NULL""",
    "import_job_dispatched": """"ProductImportJob" (coalesce(queue, 'product-imports'), "dispatchedAt")
        WHERE status = 'PENDING' AND "dispatchedAt" IS NOT NULL""",
    "import_job_suspended": """"ProductImportJob" (coalesce(queue, 'product-imports'))
        WHERE status = 'PENDING' AND suspended IS TRUE""",
    "import_job_live": """"ProductImportJob" (namespace, id)
        WHERE "objectUid" IS NOT NULL AND status IN ('PENDING', 'IN_PROGRESS')""",
    "import_job_ended": """"ProductImportJob" (namespace, coalesce("completedAt", "updatedAt"))
        WHERE "objectUid" IS NOT NULL AND status IN ('COMPLETED', 'FAILED', 'CANCELLED')""",
    "import_job_object": """"ProductImportJob" (namespace, "objectName", "createdAt")
        WHERE "objectName" IS NOT NULL""",
    "import_job_finished": """"ProductImportJob" (coalesce(queue, 'product-imports'), "completedAt")
        WHERE status IN ('COMPLETED', 'FAILED')""",
    "import_job_steps": """"ProductImportJob" ("parentId", id)
        WHERE "parentId" IS NOT NULL AND status IN ('PENDING', 'IN_PROGRESS')""",
    "import_job_steps_cancelled": """"ProductImportJob" ("parentId", id)
        WHERE "parentId" IS NOT NULL AND status = 'CANCELLED'""",
    "import_job_shown": """"ProductImportJob" (status, "createdAt", id) WHERE "parentId" IS NULL""",
    "import_job_company_shown": """"ProductImportJob" ("companyId", "createdAt", id)
        WHERE "parentId" IS NULL""",
    "import_job_connection_completed": """"ProductImportJob"
        ("companyId", provider, coalesce(namespace, ''), "createdAt", id)
        WHERE status = 'COMPLETED' AND "parentId" IS NULL""",
    "import_job_in_progress": """"ProductImportJob" ("companyId") WHERE status = 'IN_PROGRESS'""",
}

# Indexes of earlier versions that others have taken the place of.
REPLACED = (
    "import_job_undispatched",
    "import_job_queued",
    "import_job_breaker_open",
    "import_job_company_created",
    "import_job_waiting",
)

# A concurrent build that was interrupted leaves an invalid index, which is never used and always maintained.
INVALID = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relname = ANY(:names) AND c.relnamespace = current_schema()::regnamespace
"""


def build_indexes(connection: Connection) -> None:
    """Build what is missing, then drop what was replaced.

    `connection` must be in autocommit mode, under the migration lock.
    """
    for name in connection.execute(text(INVALID), {"names": list(INDEXES)}).scalars().all():
        connection.execute(text(f"DROP INDEX CONCURRENTLY {name}"))
    for name, definition in INDEXES.items():
        connection.execute(text(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {definition}"))
    for name in REPLACED:
        connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
