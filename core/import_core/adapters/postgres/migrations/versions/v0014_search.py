"""Search: which state of a product is indexed, with its words, and the version of a company's catalogue."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# One index finds a company's words: each vector holds a lexeme that names the company beside the words, and the
# index intersects both. Vectors of usual products stay in the row, for they are read to rank; what was written last
# is merged into the index early, since every search reads through what was not.
DOCUMENT = """
CREATE TABLE imports.search_document (
    product_id text PRIMARY KEY,
    company_id text NOT NULL,
    content_hash text NOT NULL,
    product_hash text,
    words tsvector,
    indexed_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (toast_tuple_target = 4080);
CREATE INDEX search_document_words ON imports.search_document USING gin (words)
    WITH (gin_pending_list_limit = 512);
COMMENT ON TABLE imports.search_document IS
    'Products that went through the step index-product; one is found while product_hash is that of its row.';
COMMENT ON COLUMN imports.search_document.content_hash IS 'State of the product that the step was asked for.';
COMMENT ON COLUMN imports.search_document.product_hash IS '"Product"."contentHash" as it was indexed.';
COMMENT ON COLUMN imports.search_document.words IS
    'Title (A), vendor and type (B), tags (C), description (D), and the company; null: another search index has them.';
"""
# Few, and soon gone: written where another index has the words, deleted when it has forgotten them.
REMOVAL = """
CREATE TABLE imports.search_removal (
    product_id text PRIMARY KEY,
    company_id text NOT NULL,
    removed_at timestamptz NOT NULL
);
CREATE INDEX search_removal_company ON imports.search_removal (company_id, removed_at);
COMMENT ON TABLE imports.search_removal IS
    'Archived products that another search index than PostgreSQL still has; the company''s next index step tells it.';
"""
# Updated by every batch that is indexed: updates stay within a page.
VERSION = """
CREATE TABLE imports.catalogue_version (
    company_id text PRIMARY KEY,
    version bigint NOT NULL,
    namespaces text[] NOT NULL DEFAULT '{}',
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE imports.catalogue_version IS
    'Goes up in each transaction that changes what a search in the company''s catalogue finds.';
COMMENT ON COLUMN imports.catalogue_version.namespaces IS
    'Namespaces whose jobs imported for the company (empty text: jobs without one); from there it may be searched.';
"""


def upgrade() -> None:
    """Apply."""
    op.execute(DOCUMENT)
    op.execute(REMOVAL)
    op.execute(VERSION)
