"""The platform's own tables: what we need of them, checked, never altered beyond nullable columns."""

from __future__ import annotations

from sqlalchemy import Connection, text

from import_core.domain.errors import SchemaMismatchError

# Column → the types (information_schema.data_type) that our queries work with.
_TEXT = frozenset({"text", "character varying"})
_TIME = frozenset({"timestamp with time zone"})
_NUMBER = frozenset({"numeric", "double precision", "integer", "bigint"})
_COUNT = frozenset({"integer", "bigint"})
_JSON = frozenset({"jsonb"})
REQUIRED: dict[str, dict[str, frozenset[str]]] = {
    "Company": {"id": _TEXT, "tier": _TEXT},
    "ProductImportJob": {
        "id": _TEXT,
        "companyId": _TEXT,
        "provider": _TEXT,
        "status": _TEXT,
        "errorMessage": _TEXT,
        "createdAt": _TIME,
        "updatedAt": _TIME,
        "startedAt": _TIME,
        "completedAt": _TIME,
    },
    "Product": {
        "id": _TEXT,
        "companyId": _TEXT,
        "externalId": _TEXT,
        "importSource": _TEXT,
        "title": _TEXT,
        "description": _TEXT,
        "sku": _TEXT,
        "price": _NUMBER,
        "handle": _TEXT,
        "barcode": _TEXT,
        "compareAtPrice": _NUMBER,
        "currency": _TEXT,
        "vendor": _TEXT,
        "productType": _TEXT,
        "status": _TEXT,
        "tags": frozenset({"ARRAY"}),
        "inventoryQuantity": _COUNT,
        "variants": _JSON,
        "createdAt": _TIME,
        "updatedAt": _TIME,
    },
    "ProductImage": {
        "id": _TEXT,
        "productId": _TEXT,
        "position": _COUNT,
        "sourceUrl": _TEXT,
        "altText": _TEXT,
        "key": _TEXT,
        "contentType": _TEXT,
        "width": _COUNT,
        "height": _COUNT,
        "bytes": _COUNT,
        "thumbnails": _JSON,
    },
}
# Added as nullable columns where they are missing (migration 0001).
ADDED = {
    "Product": frozenset(
        {"handle", "barcode", "compareAtPrice", "currency", "vendor", "productType", "status", "tags"}
        | {"inventoryQuantity"}
    ),
    "ProductImage": frozenset({"altText", "contentType", "width", "height", "bytes", "thumbnails"}),
}
UNIQUE_KEYS = (
    ("ProductImportJob", {"id"}),
    ("Product", {"id"}),
    ("Product", {"companyId", "externalId", "importSource"}),
    ("ProductImage", {"productId", "sourceUrl"}),
)

# From the catalogue, with the names of information_schema: that one hides what the user may not read.
_COLUMNS = """
SELECT c.relname, a.attname,
    CASE WHEN b.typelem <> 0 AND b.typlen = -1 THEN 'ARRAY'
        WHEN b.typnamespace = 'pg_catalog'::regnamespace THEN format_type(b.oid, NULL)
        ELSE 'USER-DEFINED' END
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'f')
  AND c.relname = ANY(:tables) AND a.attnum > 0 AND NOT a.attisdropped
"""
_UNIQUE = """
SELECT t.relname, array_agg(a.attname::text)
FROM pg_index i
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY(i.indkey)
WHERE i.indisunique AND i.indpred IS NULL AND t.relnamespace = current_schema()::regnamespace
GROUP BY i.indexrelid, t.relname
"""


# Columns of ours that are filled beside those of REQUIRED.
_OURS = frozenset({"contentHash", "etag", "lastModified", "sha256", "createdAt", "updatedAt"})
_MUST_BE_FILLED = """
SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'f')
  AND c.relname IN ('ProductImportJob', 'Product', 'ProductImage') AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
"""


def check_platform_tables(connection: Connection, *, before: bool = False) -> None:
    """Raise SchemaMismatchError listing every difference between the platform's tables and our needs.

    `before` the migrations only what exists is looked at, and what they add is not missed.
    """
    problems = platform_differences(connection, before=before)
    if problems:
        raise SchemaMismatchError("The platform's tables differ from what is needed: " + "; ".join(problems))


def platform_differences(connection: Connection, *, before: bool = False) -> list[str]:
    """Every such difference, in words. Needs no right to read the tables."""
    found: dict[tuple[str, str], str] = {
        (table, column): kind
        for table, column, kind in connection.execute(text(_COLUMNS), {"tables": list(REQUIRED)})
    }
    looked_at = {table for table, _ in found} if before else set(REQUIRED)
    problems = []
    for table, columns in REQUIRED.items():
        if table not in looked_at:
            continue
        for column, kinds in columns.items():
            kind = found.get((table, column))
            if kind is None and before and column in ADDED.get(table, ()):
                continue
            if kind is None:
                problems.append(f'"{table}"."{column}" is missing')
            elif kind not in kinds:
                problems.append(f'"{table}"."{column}" is {kind}, needed: {" or ".join(sorted(kinds))}')
    unique = [(table, set(columns)) for table, columns in connection.execute(text(_UNIQUE))]
    problems += [
        f'"{table}" lacks a unique index on {", ".join(sorted(key))}'
        for table, key in UNIQUE_KEYS
        if table in looked_at and (table, key) not in unique
    ]
    problems += [
        f'"{table}"."{column}" may not be null and has no default, but no import fills it'
        for table, column in connection.execute(text(_MUST_BE_FILLED))
        if column not in _OURS and column not in REQUIRED[table]
    ]
    return problems
