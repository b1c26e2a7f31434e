"""What is to become of each product of the tour's catalogue, told from the source alone; what has; who is found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from import_core.adapters.postgres import Database
from import_core.adapters.search.merged import ProductSearch
from import_core.adapters.search.postgres import PostgresSearchIndex
from import_core.domain.quality import QualityRules, Verdict, decide_by_rules
from import_core.domain.search import MOST_HITS
from import_core.domain.steps import StepImage, StepProduct
from import_local.demo.cluster import DemoError
from import_local.samples.catalogue.expected import product_gid
from import_local.samples.catalogue.model import Catalogue, Product

LIVE = "live"
ARCHIVED = "archived"
LOST = "lost on its way"


def expected_fates(catalogue: Catalogue) -> dict[str, str]:
    """What becomes of each product of a Shopify catalogue, by external id: LIVE, ARCHIVED, or what the rules say.

    The stand-in for the model refuses none of the tour's products.
    """
    products = map(catalogue.product, range(catalogue.count()))
    return {product_gid(product.number): _expected(product) for product in products}


def _expected(product: Product) -> str:
    if product.status == "ARCHIVED":
        return ARCHIVED
    images = [image for image in product.images if image.ready and image.kind == "IMAGE"]
    seen = StepProduct(
        product_id="",
        company_id="",
        content_hash="",
        title=product.title,
        price=Decimal(product.variants[0].price_cents) / 100,
        vendor=product.vendor,
        product_type=product.product_type,
        tags=product.tags,
        images=tuple(
            StepImage("", image.content_type, image.width, image.height, alt_text=image.alt)
            for image in images
        ),
    )
    decision = decide_by_rules(seen, QualityRules(), has_model=True)
    codes = [reason.code for reason in decision.reasons]
    return LIVE if decision.verdict is Verdict.UNDECIDED else _kept_out(decision.verdict.value, codes)


def fate_of(*, archived: bool, indexed: bool, decision: str | None, reasons: Sequence[str]) -> str:
    """The same of a row of measures.PRODUCTS."""
    if archived:
        return ARCHIVED
    if decision is None or (decision == Verdict.APPROVED and not indexed):
        return LOST
    return LIVE if decision == Verdict.APPROVED else _kept_out(decision, reasons)


def _kept_out(verdict: str, codes: Sequence[str]) -> str:
    return f"{verdict}: {', '.join(codes) or 'no reason given'}"


async def find_each(database_url: str, company: str, titles: Mapping[Any, str]) -> list[Any]:
    """Those of the products (external id → title) that a search for the words of their own title finds.

    Raises DemoError where the company has no catalogue yet, DatabaseUnavailableError.
    """
    database = Database(database_url, application="import-local demo", maximum=2)
    await database.open(wait_seconds=10)
    try:
        search = ProductSearch(database, PostgresSearchIndex(database))
        catalogue = await search.versions.read(company)
        if catalogue is None:
            raise DemoError(f"no product of {company} is indexed")
        found = []
        for external_id, title in titles.items():
            # Without what a query means something else by.
            words = re.sub(r'"|(?<!\S)-', " ", title)
            answer = await search.search(company, words, catalogue=catalogue, limit=MOST_HITS)
            if external_id in {hit.product.external_id for hit in answer.hits}:
                found.append(external_id)
        return found
    finally:
        await database.close()
