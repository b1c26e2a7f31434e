"""Jobs, claims, checkpoints, workers, item errors and connections; our columns in the platform's tables.

The platform owns "Company", "ProductImportJob", "Product" and "ProductImage": they are created where
absent, and get nullable columns only. `platform.py` checks the shape of those that were there.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PLATFORM_TABLES = """
CREATE TABLE IF NOT EXISTS "Company" (
    id text PRIMARY KEY,
    name text,
    tier text NOT NULL DEFAULT 'BASIC',
    "createdAt" timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS "ProductImportJob" (
    id text PRIMARY KEY,
    "companyId" text NOT NULL,
    provider text NOT NULL,
    status text NOT NULL DEFAULT 'PENDING',
    "errorMessage" text,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "startedAt" timestamptz,
    "completedAt" timestamptz
);
CREATE TABLE IF NOT EXISTS "Product" (
    id text PRIMARY KEY,
    "companyId" text NOT NULL,
    "externalId" text NOT NULL,
    "importSource" text NOT NULL,
    title text NOT NULL,
    description text,
    handle text,
    sku text,
    barcode text,
    price numeric,
    "compareAtPrice" numeric,
    currency text,
    vendor text,
    "productType" text,
    status text,
    tags text[],
    "inventoryQuantity" bigint,
    variants jsonb NOT NULL DEFAULT '[]',
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    UNIQUE ("companyId", "externalId", "importSource")
);
CREATE TABLE IF NOT EXISTS "ProductImage" (
    id text PRIMARY KEY,
    "productId" text NOT NULL REFERENCES "Product" (id) ON DELETE CASCADE,
    position integer NOT NULL,
    "sourceUrl" text NOT NULL,
    "altText" text,
    key text NOT NULL,
    "contentType" text NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    bytes bigint NOT NULL,
    thumbnails jsonb NOT NULL DEFAULT '{}',
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    UNIQUE ("productId", "sourceUrl")
);
"""

OUR_COLUMNS = """
ALTER TABLE "ProductImportJob"
    ADD COLUMN IF NOT EXISTS queue text,
    ADD COLUMN IF NOT EXISTS namespace text,
    ADD COLUMN IF NOT EXISTS "objectName" text,
    ADD COLUMN IF NOT EXISTS "objectUid" text,
    ADD COLUMN IF NOT EXISTS generation bigint,
    ADD COLUMN IF NOT EXISTS spec jsonb,
    ADD COLUMN IF NOT EXISTS attempt integer,
    ADD COLUMN IF NOT EXISTS deaths integer,
    ADD COLUMN IF NOT EXISTS dispatch integer,
    ADD COLUMN IF NOT EXISTS "dispatchedAt" timestamptz,
    ADD COLUMN IF NOT EXISTS "notBefore" timestamptz,
    ADD COLUMN IF NOT EXISTS suspended boolean,
    ADD COLUMN IF NOT EXISTS "waitingReason" text,
    ADD COLUMN IF NOT EXISTS "failureReason" text;
ALTER TABLE "Product"
    ADD COLUMN IF NOT EXISTS "contentHash" text,
    ADD COLUMN IF NOT EXISTS handle text,
    ADD COLUMN IF NOT EXISTS barcode text,
    ADD COLUMN IF NOT EXISTS "compareAtPrice" numeric,
    ADD COLUMN IF NOT EXISTS currency text,
    ADD COLUMN IF NOT EXISTS vendor text,
    ADD COLUMN IF NOT EXISTS "productType" text,
    ADD COLUMN IF NOT EXISTS status text,
    ADD COLUMN IF NOT EXISTS tags text[],
    ADD COLUMN IF NOT EXISTS "inventoryQuantity" bigint;
ALTER TABLE "ProductImage"
    ADD COLUMN IF NOT EXISTS "altText" text,
    ADD COLUMN IF NOT EXISTS "contentType" text,
    ADD COLUMN IF NOT EXISTS width integer,
    ADD COLUMN IF NOT EXISTS height integer,
    ADD COLUMN IF NOT EXISTS bytes bigint,
    ADD COLUMN IF NOT EXISTS thumbnails jsonb,
    ADD COLUMN IF NOT EXISTS etag text,
    ADD COLUMN IF NOT EXISTS "lastModified" text,
    ADD COLUMN IF NOT EXISTS sha256 text;
"""

OUR_TABLES = """
CREATE TABLE imports.claim (
    job_id text PRIMARY KEY,
    claim_id uuid NOT NULL,
    worker_id text NOT NULL,
    queue text NOT NULL,
    dispatch integer NOT NULL,
    suspected boolean NOT NULL DEFAULT false,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    live_progress jsonb
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE imports.claim IS
    'Leases of workers on jobs: at most workers x concurrency rows, so scans need no index; updates stay HOT.';
CREATE TABLE imports.checkpoint (
    job_id text PRIMARY KEY,
    version integer NOT NULL,
    cursor jsonb,
    progress jsonb NOT NULL,
    pages integer NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE TABLE imports.worker (
    worker_id text PRIMARY KEY,
    queue text NOT NULL,
    namespace text NOT NULL,
    pod_name text NOT NULL,
    pod_uid text NOT NULL,
    concurrency integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_job_at timestamptz,
    state text NOT NULL DEFAULT 'ready'
) WITH (fillfactor = 50);
CREATE INDEX worker_pod ON imports.worker (pod_uid);
CREATE TABLE imports.item_error (
    job_id text NOT NULL,
    external_id text NOT NULL,
    stage text NOT NULL,
    url text NOT NULL DEFAULT '',
    reason text NOT NULL,
    message text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX item_error_job ON imports.item_error (job_id, external_id);
CREATE TABLE imports.connection (
    namespace text NOT NULL,
    name text NOT NULL,
    uid text NOT NULL,
    generation bigint NOT NULL,
    check_due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    checked_at timestamptz,
    checked_generation bigint,
    reachable boolean,
    credentials_valid boolean,
    reason text,
    message text,
    PRIMARY KEY (namespace, name)
);
"""


def upgrade() -> None:
    """Apply."""
    for statements in (PLATFORM_TABLES, OUR_COLUMNS, OUR_TABLES):
        op.execute(statements)
