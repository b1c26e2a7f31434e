"""The table of products' embeddings and how it is searched; only where PostgreSQL has the extension vector.

Part of migration 0012, and done again by every later run of the migrations: who adds the extension afterwards needs to
do nothing but that. A server without it works; what asks for embeddings there says so.
"""

from __future__ import annotations

from sqlalchemy import Connection

OLDEST_VECTOR = "{0,8}"
"""Version of pgvector from which on a scan of its index goes on until enough rows pass the filter."""
EXACT_ROWS = 4000
"""A company with at most so many rows (two for each product with an image) is searched without the index: that finds
all, in 10 to 20 ms."""

# One row for each vector, so that one index serves both kinds. PLAIN keeps the 3 kB in the row: out of line, every
# comparison would be a read of its own. No reference to the platform's table, which may also be a view.
# The settings of the function hold while it runs. Behind a pooler SET is not for us (pool.py), this is.
# `relaxed_order` goes on from where the scan stopped; the caller sorts. Adding 0 keeps the planner from the index.
# A custom plan each time: what is best depends on the company.
VECTOR_TABLE = f"""
DO $setup$
DECLARE installed text;
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        BEGIN
            CREATE EXTENSION IF NOT EXISTS vector;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE NOTICE 'the extension vector may not be created by this user';
        END;
    END IF;
    SELECT extversion INTO installed FROM pg_extension WHERE extname = 'vector';
    installed := substring(installed from '^[0-9.]*[0-9]');
    IF installed IS NULL OR to_regtype('vector') IS NULL
        OR string_to_array(installed, '.')::integer[] < '{OLDEST_VECTOR}'
    THEN
        RETURN;
    END IF;
    CREATE TABLE IF NOT EXISTS imports.product_embedding (
        product_id text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('text', 'image')),
        company_id text NOT NULL,
        content_hash text NOT NULL,
        model_checksum text NOT NULL,
        embedding vector(768) NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (product_id, kind)
    );
    ALTER TABLE imports.product_embedding ALTER COLUMN embedding SET STORAGE PLAIN;
    COMMENT ON TABLE imports.product_embedding IS
        'Embeddings of products'' texts and images, of length 1; where VECTOR_INDEX is pgvector.';
    COMMENT ON COLUMN imports.product_embedding.content_hash IS
        'The state of the product that it was computed from.';
    COMMENT ON COLUMN imports.product_embedding.model_checksum IS
        'SHA-256 of the model''s files: vectors of different models can''t be compared.';
    CREATE INDEX IF NOT EXISTS product_embedding_company ON imports.product_embedding (company_id);
    CREATE INDEX IF NOT EXISTS product_embedding_nearest
        ON imports.product_embedding USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64);
    CREATE OR REPLACE FUNCTION imports.nearest_embeddings(company text, sought vector, wanted integer, model text)
    RETURNS TABLE (product text, similarity double precision)
    LANGUAGE plpgsql STABLE
    SET hnsw.iterative_scan = 'relaxed_order'
    SET hnsw.ef_search = '100'
    SET plan_cache_mode = 'force_custom_plan'
    AS $body$
    DECLARE
        few boolean;
        found_rows bigint;
    BEGIN
        SELECT count(*) <= {EXACT_ROWS} INTO few FROM (
            SELECT FROM imports.product_embedding WHERE company_id = company LIMIT {EXACT_ROWS} + 1) counted;
        IF NOT few THEN
            RETURN QUERY SELECT e.product_id, 1 - (e.embedding <=> sought) FROM imports.product_embedding e
                WHERE e.company_id = company AND (model IS NULL OR e.model_checksum = model)
                ORDER BY e.embedding <=> sought LIMIT wanted;
            GET DIAGNOSTICS found_rows = ROW_COUNT;
            IF found_rows >= wanted THEN
                RETURN;
            END IF;
        END IF;
        RETURN QUERY SELECT e.product_id, 1 - (e.embedding <=> sought) FROM imports.product_embedding e
            WHERE e.company_id = company AND (model IS NULL OR e.model_checksum = model)
            ORDER BY (e.embedding <=> sought) + 0 LIMIT wanted;
    END
    $body$;
    COMMENT ON FUNCTION imports.nearest_embeddings IS
        'A company''s embeddings nearest to one, not in order, some of them twice; model null: of any model.';
END
$setup$
"""


def create_vector_table(connection: Connection) -> None:
    """Create what is missing where the extension is there or may be created; changes nothing elsewhere."""
    connection.exec_driver_sql(VECTOR_TABLE)
