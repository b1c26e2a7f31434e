"""Reads what became of the steps of a load's imports, and looks for what is not as promised."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from faults.audit import Audit, read_audit
from faults.expected import Expectation, JobRecord
from faults.load import Load
from faults.statuses import StatusRecorder
from faults.step_rules import (
    BatchRecord,
    ProductRecord,
    StepRecord,
    check_batches,
    check_enriched,
    check_order,
    check_product_steps,
    check_stores,
)
from faults.world import FaultWorld
from import_core.domain.steps import StepKind

QUEUES = [kind.value for kind in StepKind]
STEPS = """
SELECT s.product_id, s.company_id, s.step, s.state, s.attempts, s.done_hash IS NOT DISTINCT FROM s.content_hash,
       CASE WHEN s.batch_id IS NOT NULL THEN coalesce(b.status, '') END, s.reason, s.message
FROM imports.product_step s LEFT JOIN "ProductImportJob" b ON b.id = s.batch_id
WHERE s.company_id = ANY(%s) ORDER BY s.product_id, s.step
"""
# A retried dead letter's batch is its own parent; nobody retries one here.
BATCHES = """
SELECT b.id, concat(p."objectName", ' ', b.queue), b."companyId", b.status, coalesce(b.attempt, 0),
       coalesce(b.deaths, 0), coalesce(b.dispatch, 0), b."completedAt", b."failureReason", b."errorMessage",
       NULL::jsonb, NULL::integer, b."parentId", coalesce(p.status, '')
FROM "ProductImportJob" b LEFT JOIN "ProductImportJob" p ON p.id = b."parentId" AND p."parentId" IS NULL
WHERE b.queue = ANY(%s) AND b."companyId" = ANY(%s) ORDER BY b.id
"""
PRODUCTS = """
SELECT p.id, p."companyId", (SELECT count(*) FROM "ProductImage" i WHERE i."productId" = p.id),
       ARRAY(SELECT decision FROM imports.quality_decision d WHERE d.product_id = p.id AND d.content_hash = s.hash),
       (SELECT count(*) FROM imports.product_embedding e
            WHERE e.product_id = p.id AND e.kind = 'text' AND e.content_hash = s.hash),
       (SELECT count(*) FROM imports.product_embedding e
            WHERE e.product_id = p.id AND e.kind = 'image' AND e.content_hash = s.hash),
       (SELECT count(*) FROM imports.search_document d WHERE d.product_id = p.id AND d.content_hash = s.hash),
       (SELECT count(*) FROM imports.quality_decision d WHERE d.product_id = p.id AND d.content_hash <> s.hash)
           + (SELECT count(*) FROM imports.product_embedding e WHERE e.product_id = p.id AND e.content_hash <> s.hash)
           + (SELECT count(*) FROM imports.search_document d WHERE d.product_id = p.id AND d.content_hash <> s.hash)
FROM "Product" p CROSS JOIN LATERAL (
    SELECT coalesce(min(content_hash), '') AS hash FROM imports.product_step WHERE product_id = p.id) s
WHERE p."companyId" = ANY(%s) ORDER BY p.id
"""
# What a store keeps of products that are not there.
STRANGERS = """
SELECT 'decision', product_id FROM imports.quality_decision t
WHERE company_id = ANY(%s) AND NOT EXISTS (SELECT FROM "Product" p WHERE p.id = t.product_id)
UNION ALL SELECT kind || ' vector', product_id FROM imports.product_embedding t
WHERE company_id = ANY(%s) AND NOT EXISTS (SELECT FROM "Product" p WHERE p.id = t.product_id)
UNION ALL SELECT 'search document', product_id FROM imports.search_document t
WHERE company_id = ANY(%s) AND NOT EXISTS (SELECT FROM "Product" p WHERE p.id = t.product_id)
"""
LEFT = """
SELECT (SELECT count(*) FROM imports.product_step WHERE company_id = ANY(%s) AND state IN ('Due', 'Waiting'))
    + (SELECT count(*) FROM "ProductImportJob"
        WHERE queue = ANY(%s) AND "companyId" = ANY(%s) AND status IN ('PENDING', 'IN_PROGRESS'))
"""


@dataclass(frozen=True)
class Steps:
    """What was found of the steps: `findings` in words, the batches, and the record of their claims and states."""

    findings: tuple[str, ...]
    batches: tuple[BatchRecord, ...]
    audit: Audit


async def steps_left(world: FaultWorld, load: Load) -> int:
    """Open steps, and jobs of batches, of the load's companies."""
    companies = [company.id for company in load.companies]
    return int((await world.rows(LEFT, companies, QUEUES, companies))[0][0])


async def check_steps(
    world: FaultWorld,
    load: Load,
    recorder: StatusRecorder,
    expected: Expectation,
    *,
    completed: Collection[JobRecord],
) -> Steps:
    """Look at the steps of all companies of the load; `completed`: its imports that have."""
    companies = [company.id for company in load.companies]
    ended = {job.company for job in completed}
    asked = {company.id: company.steps for company in load.companies if company.id in ended}
    rows = [StepRecord(*row) for row in await world.rows(STEPS, companies)]
    found = [
        BatchRecord(JobRecord(*row[:12]), *row[12:]) for row in await world.rows(BATCHES, QUEUES, companies)
    ]
    products = [
        ProductRecord(row[0], row[1], row[2], tuple(row[3]), *row[4:])
        for row in await world.rows(PRODUCTS, sorted(asked))
    ]
    strangers = await world.rows(STRANGERS, companies, companies, companies)
    enriched = {job.name for job in completed if asked[job.company]}
    findings = (
        *check_product_steps(products, rows, asked, expected),
        *check_order(rows, products),
        *check_stores(products, asked),
        *(f"{what} of product {product}, which is not there" for what, product in strangers),
        *check_batches(found),
        *check_enriched(enriched, recorder.histories.values()),
    )
    async with world.database() as connection:
        audit = await read_audit(connection, [batch.job.id for batch in found], [])
    return Steps(findings, tuple(found), audit)
