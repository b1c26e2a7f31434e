"""Which dead steps are meant, as conditions of a statement: only those that are asked for, so that an index serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from import_core.adapters.postgres.catalogue_versions import NEWEST_JOBS
from import_core.adapters.postgres.pool import Connection
from import_core.domain.dead_letters import DeadFilter
from import_core.domain.steps import StepKind

_STEPS = ", ".join(f"'{kind.value}'" for kind in StepKind)
"""The key of index product_step_job is job, step, state."""
PRODUCTS_NAMED = 1_000
"""Products that have one id at their sources, over all companies."""

# Of a namespace is what its jobs brought, and those of none. Where the job's row is gone the company's newest jobs
# say whose it is, as they do for its catalogue (catalogue_versions); what nobody imports any more is nobody's.
IN_NAMESPACE = f"""coalesce(
    (SELECT coalesce(j.namespace, %(namespace)s) = %(namespace)s FROM "ProductImportJob" j WHERE j.id = s.job_id),
    (SELECT bool_or(coalesce(newest.namespace, %(namespace)s) = %(namespace)s) FROM (
        SELECT c.namespace FROM "ProductImportJob" c WHERE c."companyId" = s.company_id AND c."parentId" IS NULL
        ORDER BY c."createdAt" DESC, c.id DESC LIMIT {NEWEST_JOBS}) newest), false)"""
# A product's id at its source is unique within a company only, and so is the index: with a company it is looked up
# there, else in each company that has dead letters, which are found by skipping through product_step_dead_company.
OF_COMPANY = f"""
SELECT id FROM "Product" WHERE "companyId" = %(company)s AND "externalId" = %(product)s LIMIT {PRODUCTS_NAMED}
"""
OF_ANY_COMPANY = f"""
WITH RECURSIVE company (id) AS (
    (SELECT company_id FROM imports.product_step WHERE state = 'Dead' ORDER BY company_id LIMIT 1)
    UNION ALL
    SELECT (SELECT s.company_id FROM imports.product_step s WHERE s.state = 'Dead' AND s.company_id > company.id
            ORDER BY s.company_id LIMIT 1)
    FROM company WHERE company.id IS NOT NULL)
SELECT found.id FROM company, LATERAL (
    SELECT p.id FROM "Product" p WHERE p."companyId" = company.id AND p."externalId" = %(product)s) found
LIMIT {PRODUCTS_NAMED}
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """The conditions of a filter on `imports.product_step s`, and their values.

    `indexed` are those by which rows are found; `others` are asked of the rows that were. `is_narrow`: no more rows
    are found than one job's or some products'.
    """

    indexed: Sequence[str]
    others: Sequence[str]
    values: Mapping[str, Any]
    is_narrow: bool

    @property
    def found(self) -> str:
        """Which rows are looked at."""
        return " AND ".join(("s.state = 'Dead'", *self.indexed))

    @property
    def meant(self) -> str:
        """Whether a row that is looked at is meant."""
        return " AND ".join(self.others) or "true"


async def choice_of(connection: Connection, wanted: DeadFilter) -> Choice:
    """The conditions for this filter; the products that it names are looked up first."""
    values: dict[str, Any] = {}
    indexed: list[str] = []
    others: list[str] = []
    for name, value, condition, where in (
        ("company", wanted.company, "s.company_id = %(company)s", indexed),
        ("job", wanted.job, f"s.job_id = %(job)s AND s.step IN ({_STEPS})", indexed),
        ("until", wanted.until, "s.updated_at <= %(until)s", indexed),
        ("step", None if wanted.step is None else wanted.step.value, "s.step = %(step)s", others),
        ("reason", wanted.reason, "coalesce(s.reason, '') = %(reason)s", others),
        ("namespace", wanted.namespace, IN_NAMESPACE, others),
    ):
        if value is not None:
            values[name] = value
            where.append(condition)
    if wanted.product is not None:
        values["products"] = await _products(connection, wanted.product, wanted.company)
        indexed.append("s.product_id = ANY(%(products)s)")
    return Choice(indexed, others, values, wanted.job is not None or wanted.product is not None)


async def _products(connection: Connection, product: str, company: str | None) -> list[str]:
    """Rows that a word may name: the one of that id, which may be gone, and those of that id at the source."""
    statement = OF_ANY_COMPANY if company is None else OF_COMPANY
    cursor = await connection.execute(statement, {"product": product, "company": company})
    return sorted({product, *(row[0] for row in await cursor.fetchall())})
