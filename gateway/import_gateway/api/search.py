"""Search over HTTP in the products of one company."""

from __future__ import annotations

from decimal import Decimal

from starlette.responses import Response

from import_core.adapters.search.merged import Hit, SearchAnswer
from import_core.domain.errors import ObjectNotFoundError
from import_gateway.api.operation import Call, get_json_response
from import_gateway.api.reading import read_query
from import_gateway.api.search_models import FoundProduct, SearchPage, SearchRequest


async def search_products(call: Call) -> Response:
    """Answer the company's products that match, best first."""
    query = read_query(call.request, SearchRequest)
    search = call.services.search
    catalogue = await search.versions.read(query.company_id)
    if catalogue is None or not catalogue.belongs_to(call.namespace):
        # The same words in both cases: who may search here learns nothing of companies of other namespaces.
        raise ObjectNotFoundError(
            f"No product of company {query.company_id} was indexed by an import of namespace {call.namespace}"
        )
    answer = await search.search(
        query.company_id, query.q, catalogue=catalogue, limit=query.limit, offset=query.offset
    )
    call.services.metrics.searches.labels(_outcome(answer)).inc()
    return get_json_response(
        SearchPage(
            items=[_present(hit) for hit in answer.hits],
            degraded=list(answer.degraded),
            cached=answer.cached,
            catalogue_version=catalogue.version,
        )
    )


def _outcome(answer: SearchAnswer) -> str:
    if answer.degraded:
        return "degraded"
    return "cached" if answer.cached else "fresh"


def _present(hit: Hit) -> FoundProduct:
    product, candidate = hit.product, hit.candidate
    return FoundProduct(
        id=product.product_id,
        external_id=product.external_id,
        import_source=product.import_source,
        title=product.title,
        price=_plain(product.price),
        currency=product.currency,
        image_key=product.image_key,
        thumbnails=dict(product.thumbnails),
        score=candidate.score,
        text_score=candidate.text_score,
        similarity=candidate.similarity,
    )


def _plain(price: Decimal | None) -> str | None:
    return None if price is None else format(price, "f")
