"""What goes over HTTP of searches."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from import_core.domain.resources.common import CompanyId
from import_core.domain.search import CANDIDATES, DEFAULT_HITS, LONGEST_QUERY, MOST_HITS
from import_gateway.api.models import ApiModel


class FoundProduct(ApiModel):
    """A product that was found."""

    id: str
    """Id of the product's row."""
    external_id: str
    """The provider's id of it."""
    import_source: str
    """The type of provider that it comes from."""
    title: str
    """Its title."""
    price: str | None = None
    """Its price in the currency's main unit, as a decimal number."""
    currency: str | None = None
    """The price's currency (ISO 4217)."""
    image_key: str | None = None
    """Key of its first image in the object store; null where it has none."""
    thumbnails: dict[str, str] = Field(default={})
    """Keys of that image's thumbnails, by their size in pixels."""
    score: float
    """Compares products of one answer: the reciprocal ranks in both indexes, added up."""
    text_score: float | None = None
    """How well its words match; null where they don't."""
    similarity: float | None = None
    """Cosine between the query's embedding and the product's nearest; null where that was not asked or is not near."""


class SearchPage(ApiModel):
    """Products of a company that match, best first."""

    items: list[FoundProduct]
    """The products. Only those that are indexed as they are now, not archived, and approved where that was asked."""
    degraded: list[str] = Field(default=[])
    """What did not answer in time, so that products or speed may be missing: text, vectors, cache."""
    cached: bool = False
    """Whether the order is that of an earlier answer, from the same version of the catalogue."""
    catalogue_version: int
    """Goes up whenever what can be found has changed."""


class SearchRequest(ApiModel):
    """What is looked for."""

    model_config = ConfigDict(strict=False)

    company_id: CompanyId
    """Whose products."""
    q: Annotated[str, Field(max_length=LONGEST_QUERY)]
    """Words that must all be there, "phrases in quotes", -excluded words, and `or` between alternatives. The last word
    may be the beginning of one. Accents and case don't matter."""
    limit: Annotated[int, Field(ge=1, le=MOST_HITS)] = DEFAULT_HITS
    """Products at most."""
    offset: Annotated[int, Field(ge=0, le=CANDIDATES - 1)] = 0
    """Products to pass over; no more than the best 200 are ever looked at."""
