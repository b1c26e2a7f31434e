"""Which products that imports gave up are meant, and the statements that read them in bounded numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from import_core.adapters.postgres.pool import Connection
from import_core.domain.dead_letters import DeadFilter
from import_core.domain.item_errors import PRODUCT_STAGES

EXAMINED = 500
"""Imports that one statement looks at."""
ITEMS_EXAMINED = 20_000
"""Errors of their items that one statement looks at for a page; those of images are among them."""
LATER = 50
"""Completed imports of the same connection, after one's own, among which one is looked for that has read the whole
catalogue anew."""

_STAGES = ", ".join(f"'{stage}'" for stage in PRODUCT_STAGES)
# A product that failed as a whole. That an image failed is kept with the import's errors: the product is there.
PRODUCT_FAILED = f"e.url = '' AND e.stage IN ({_STAGES})"

JOB = """
    j.id, j."companyId", j.provider, j.status, j.namespace, j."objectName", j."objectUid", j."createdAt",
    coalesce(j."completedAt", j."updatedAt"), j."itemsRetryToken"
"""
# What a later import of the same connection has read anew is that one's, whether it failed again or not. One that
# lists changes alone, or chose other products, says nothing of it. By index import_job_connection_completed.
IS_OLD = f"""EXISTS (SELECT FROM (
    SELECT l.id, l.spec, l."completedAt" FROM "ProductImportJob" l
    WHERE l."companyId" = j."companyId" AND l.provider = j.provider
      AND coalesce(l.namespace, '') = coalesce(j.namespace, '')
      AND l.status = 'COMPLETED' AND l."parentId" IS NULL AND (l."createdAt", l.id) > (j."createdAt", j.id)
    ORDER BY l."createdAt", l.id LIMIT {LATER}) later
  WHERE later."completedAt" > j."completedAt"
    AND later.spec -> 'filter' IS NOT DISTINCT FROM j.spec -> 'filter'
    AND (SELECT c.reimport ->> 'since' FROM imports.checkpoint c WHERE c.job_id = later.id) IS NULL)"""
# Finished imports, newest first, by keyset over index import_job_shown, both states merged; of a company by
# import_job_company_shown.
OF_ALL = """
SELECT newest.* FROM unnest(ARRAY['COMPLETED', 'FAILED']) AS s (state), LATERAL (
    SELECT j.* FROM "ProductImportJob" j
    WHERE j.status = s.state AND j."parentId" IS NULL AND (j."createdAt", j.id) <= (%(before)s, %(before_id)s)
    ORDER BY j."createdAt" DESC, j.id DESC LIMIT %(examined)s) newest
ORDER BY newest."createdAt" DESC, newest.id DESC LIMIT %(examined)s
"""
OF_COMPANY = """
SELECT j.* FROM "ProductImportJob" j
WHERE j."companyId" = %(company)s AND j."parentId" IS NULL AND (j."createdAt", j.id) <= (%(before)s, %(before_id)s)
ORDER BY j."createdAt" DESC, j.id DESC LIMIT %(examined)s
"""
OF_ONE = """
SELECT j.* FROM "ProductImportJob" j
WHERE j.id = %(job)s AND j."parentId" IS NULL AND (j."createdAt", j.id) <= (%(before)s, %(before_id)s)
"""
IMPORTS = f"""
SELECT {JOB}, j.status IN ('COMPLETED', 'FAILED') AND {{meant}}, {IS_OLD} AS is_old FROM ({{jobs}}) j
ORDER BY j."createdAt" DESC, j.id DESC
"""
# One import's errors by index item_error_job. As a range, and up to a limit that the planner does not know: for an
# equal id it expects as many as the average import has, and would read and sort all of a larger one.
IN_ORDER = """
    (e.job_id, e.external_id) >= (t.id, {since}) AND e.job_id <= t.id
    ORDER BY e.job_id, e.external_id LIMIT (SELECT {most})
"""
# Import by import until ITEMS_EXAMINED were looked at. The products' rows by their unique key.
# Where it stopped for that, a row without a stage says where: at the last product but one of those that were looked at,
# as there may be more of the last one.
ITEMS = f"""
WITH looked AS MATERIALIZED (
    SELECT t.place, t.company, t.provider, e.*
    FROM unnest(%(jobs)s::text[], %(companies)s::text[], %(providers)s::text[], %(afters)s::text[])
        WITH ORDINALITY AS t (id, company, provider, after, place), LATERAL (
        SELECT e.external_id, e.stage, e.reason, e.message, e.created_at, {PRODUCT_FAILED} AND {{meant}} AS meant
        FROM imports.item_error e
        WHERE {{found}} AND e.external_id IS DISTINCT FROM t.after
          AND {IN_ORDER.format(since="coalesce(t.after, '')", most=ITEMS_EXAMINED)}) e
    ORDER BY t.place LIMIT {ITEMS_EXAMINED}),
stop AS (
    SELECT last.place, last.external_id FROM (
        SELECT DISTINCT place, external_id FROM looked ORDER BY place DESC, external_id DESC LIMIT 2) last
    WHERE (SELECT count(*) FROM looked) = {ITEMS_EXAMINED}
    ORDER BY last.place, last.external_id LIMIT 1),
found AS (
    SELECT DISTINCT ON (l.place, l.external_id) l.* FROM looked l LEFT JOIN stop s ON true
    WHERE l.meant AND (s.place IS NULL OR (l.place, l.external_id) <= (s.place, s.external_id))
    ORDER BY l.place, l.external_id, l.created_at DESC LIMIT %(limit)s)
SELECT found.place, found.external_id, found.stage, found.reason, found.message, found.created_at, p.*
FROM found LEFT JOIN LATERAL (
    SELECT p.id, p."importSource", p.title FROM "Product" p
    WHERE p."companyId" = found.company AND p."externalId" = found.external_id AND p.connection = found.provider
    LIMIT 1) p ON true
UNION ALL SELECT place, external_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM stop
ORDER BY 1, 2
"""
# The newest imports' first, no more than `most` in all; the first row says how many were looked at.
COUNT = f"""
WITH looked AS MATERIALIZED (
    SELECT t.ended_at, e.*
    FROM unnest(%(jobs)s::text[], %(ends)s::timestamptz[]) WITH ORDINALITY AS t (id, ended_at, place), LATERAL (
        SELECT e.stage, e.reason, {PRODUCT_FAILED} AND {{meant}} AS meant FROM imports.item_error e
        WHERE {{found}} AND {IN_ORDER.format(since="''", most="%(most)s::bigint")}) e
    ORDER BY t.place LIMIT %(most)s)
SELECT stage, reason, count(*) FILTER (WHERE meant), max(ended_at) FILTER (WHERE meant), count(*)
FROM looked GROUP BY GROUPING SETS ((stage, reason), ())
HAVING grouping(stage) = 1 OR bool_or(meant)
ORDER BY grouping(stage) DESC
"""
# Whose row a word names; a product that was never imported has none.
PRODUCT = """SELECT "companyId", "externalId" FROM "Product" WHERE id = %s"""


@dataclass(frozen=True, slots=True)
class ItemsChoice:
    """A filter as conditions.

    `jobs`: which imports are looked at, `of_import`: which of them are meant; `found`: which of their items are looked
    at, by index (those of one product with the import's id, else that one's errors before it are met, too); `of_item`:
    which of those are meant.
    """

    jobs: str
    of_import: str
    found: str
    of_item: str
    values: Mapping[str, Any]

    @property
    def imports(self) -> str:
        """IMPORTS for it."""
        return IMPORTS.format(jobs=self.jobs, meant=self.of_import)

    @property
    def items(self) -> str:
        """ITEMS for it."""
        return ITEMS.format(found=self.found, meant=self.of_item)

    @property
    def count(self) -> str:
        """COUNT for it."""
        return COUNT.format(found=self.found, meant=self.of_item)


async def items_choice(connection: Connection, wanted: DeadFilter) -> ItemsChoice:
    """The filter as conditions; the product's row is looked up first, as its company says whose imports to look at."""
    company, values, of_import, found = wanted.company, dict[str, Any](), ["true"], "true"
    if wanted.product is not None:
        row = await (await connection.execute(PRODUCT, (wanted.product,))).fetchone()
        if row is not None and company not in {None, row[0]}:
            row = None
        company = row[0] if row is not None else company
        values["external_ids"] = [wanted.product] if row is None else [wanted.product, row[1]]
        found = "e.job_id = t.id AND e.external_id = ANY(%(external_ids)s)"
    of_item = "true"
    if wanted.reason is not None:
        values["reason"] = wanted.reason
        of_item = "e.reason = %(reason)s"
    for name, value, condition in (
        ("company", company, 'j."companyId" = %(company)s'),
        ("job", wanted.job, "j.id = %(job)s"),
        ("namespace", wanted.namespace, "coalesce(j.namespace, %(namespace)s) = %(namespace)s"),
        ("until", wanted.until, 'coalesce(j."completedAt", j."updatedAt") <= %(until)s'),
    ):
        if value is not None:
            values[name] = value
            of_import.append(condition)
    jobs = OF_ONE if wanted.job is not None else OF_COMPANY if company is not None else OF_ALL
    return ItemsChoice(jobs, " AND ".join(of_import), found, of_item, values)
