"""One answer out of full text, embeddings and PostgreSQL: who is found, in which order, and whether he may be shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from import_core.adapters.models.base import Embedder
from import_core.adapters.postgres.catalogue_versions import CatalogueVersion, CatalogueVersions
from import_core.adapters.postgres.found_products import FoundProduct, FoundProducts
from import_core.adapters.postgres.pool import Database
from import_core.adapters.redis.search_cache import SearchCache
from import_core.adapters.search.base import SearchIndex
from import_core.adapters.tasks import heeding_cancellation
from import_core.adapters.vectors.base import VectorIndex
from import_core.domain.errors import (
    ImportOperatorError,
    QueueUnavailableError,
    SearchUnavailableError,
)
from import_core.domain.search import (
    CANDIDATES,
    Backend,
    CacheEntry,
    Candidate,
    Ranking,
    SearchQuery,
    cache_entry,
    fuse,
    is_visible,
    parse_query,
)
from import_core.observability.logs import get_logger

log = get_logger(__name__)

BACKEND_SECONDS = 2.0
"""Time for each index's answer, the query's embedding included."""
ASKED_AT_ONCE = 3
"""Questions to one index at the same time; the others wait, and leave connections to whatever else the process does."""
SPARE = 10
"""Products that are read beyond those that are wanted, for some that may not be shown."""
CACHE = "cache"
"""Named beside the indexes where it did not answer."""


Question = Callable[[], Awaitable[Ranking]]


@dataclass(frozen=True, slots=True)
class Hit:
    """A product that is found and may be shown."""

    product: FoundProduct
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Products, best first. `degraded` names the indexes that did not answer, and the cache where it did not.

    `cached`: the order comes from the cache; what is shown of the products, and whether it is, never does.
    """

    hits: list[Hit]
    degraded: tuple[str, ...] = ()
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSearch:
    """Search by meaning: the model and the index must be those that the products were embedded with."""

    embedder: Embedder
    index: VectorIndex


@dataclass(frozen=True, slots=True)
class _Found:
    candidates: list[Candidate]
    degraded: tuple[str, ...]
    cached: bool = False


class ProductSearch:
    """Searches in companies' catalogues; without `vectors` by words only, without `cache` anew each time.

    `text_name` tells indexes apart in the cache's keys. The parts are the caller's, who closes them.
    """

    def __init__(
        self,
        database: Database,
        text: SearchIndex,
        *,
        text_name: str = "postgres",
        vectors: VectorSearch | None = None,
        cache: SearchCache | None = None,
        backend_seconds: float = BACKEND_SECONDS,
    ) -> None:
        self.versions = CatalogueVersions(database)
        self._products = FoundProducts(database)
        self._text = text
        self._text_name = text_name
        self._vectors = vectors
        self._cache = cache
        self._seconds = backend_seconds
        self._places = {backend: asyncio.Semaphore(ASKED_AT_ONCE) for backend in Backend}

    async def search(
        self, company_id: str, raw_query: str, *, catalogue: CatalogueVersion, limit: int, offset: int = 0
    ) -> SearchAnswer:
        """The company's visible products that match, behind `offset`; `catalogue` was read for this question.

        Raises DatabaseUnavailableError where PostgreSQL does not answer, SearchUnavailableError where no index does.
        """
        query = parse_query(raw_query)
        if not query.text:
            return SearchAnswer([])
        found = await self._candidates(company_id, raw_query, query, catalogue)
        hits = await self._visible(company_id, found.candidates, wanted=offset + limit)
        return SearchAnswer(hits[offset:], found.degraded, found.cached)

    async def _visible(self, company_id: str, candidates: Sequence[Candidate], *, wanted: int) -> list[Hit]:
        """The first visible candidates; no more rows are read than it takes, as nearly all are visible."""
        hits: list[Hit] = []
        start = 0
        while len(hits) < wanted and start < len(candidates):
            piece = candidates[start : start + wanted - len(hits) + SPARE]
            start += len(piece)
            products = await self._products.read(company_id, [one.product_id for one in piece])
            hits += [
                Hit(products[one.product_id], one)
                for one in piece
                if one.product_id in products and is_visible(products[one.product_id].standing)
            ]
        return hits[:wanted]

    async def _candidates(
        self, company_id: str, raw_query: str, query: SearchQuery, catalogue: CatalogueVersion
    ) -> _Found:
        cache = self._cache
        if cache is None:
            return await self._ask(company_id, raw_query, query)
        entry = cache_entry(
            company_id, catalogue.version, query, backends=self._backends(), slots=cache.slots
        )
        kept, cache_away = await _from_cache(cache, entry)
        if kept is not None:
            return _Found(kept, (), cached=True)
        found = await self._ask(company_id, raw_query, query)
        if not found.degraded and not cache_away:
            # What an index did not say must not be missing for an hour.
            cache_away = not await _keep(cache, entry, found.candidates)
        return _Found(found.candidates, (*found.degraded, CACHE) if cache_away else found.degraded)

    def _backends(self) -> list[str]:
        model = [self._vectors.embedder.checksum] if self._vectors else []
        return [self._text_name, *model]

    async def _ask(self, company_id: str, raw_query: str, query: SearchQuery) -> _Found:
        questions: dict[Backend, Question] = {Backend.TEXT: partial(self._by_text, company_id, raw_query)}
        if self._vectors is not None and query.wanted:
            questions[Backend.VECTORS] = partial(self._by_meaning, self._vectors, company_id, query)
        answers = await asyncio.gather(
            *(self._in_time(backend, question) for backend, question in questions.items()),
            return_exceptions=True,
        )
        rankings: list[Ranking] = []
        failures: dict[str, Exception] = {}
        for backend, answer in zip(questions, answers, strict=True):
            if isinstance(answer, Ranking):
                rankings.append(answer)
            elif isinstance(answer, Exception):
                failures[backend.value] = answer
                known = isinstance(answer, ImportOperatorError)
                log.warning(
                    "search.degraded",
                    backend=backend.value,
                    error=str(answer),
                    exc_info=None if known else answer,
                )
            else:
                raise answer
        if not rankings:
            raise SearchUnavailableError(f"No index answers: {', '.join(failures)}; the log says why")
        return _Found(fuse(rankings)[:CANDIDATES], tuple(failures))

    async def _in_time(self, backend: Backend, question: Question) -> Ranking:
        try:
            async with asyncio.timeout(self._seconds), self._places[backend]:
                return await heeding_cancellation(question())
        except TimeoutError as error:
            raise SearchUnavailableError(
                f"The index of {backend.value} did not answer within {self._seconds:g} s"
            ) from error

    async def _by_text(self, company_id: str, raw_query: str) -> Ranking:
        hits = await self._text.matching(company_id, raw_query, limit=CANDIDATES)
        return Ranking(Backend.TEXT, [(hit.product_id, hit.score) for hit in hits])

    async def _by_meaning(self, search: VectorSearch, company_id: str, query: SearchQuery) -> Ranking:
        (vector,) = await search.embedder.embed_texts([query.wanted])
        hits = await search.index.nearest(
            company_id, vector, limit=CANDIDATES, model_checksum=search.embedder.checksum
        )
        return Ranking(Backend.VECTORS, [(hit.product_id, hit.similarity) for hit in hits])


async def _from_cache(cache: SearchCache, entry: CacheEntry) -> tuple[list[Candidate] | None, bool]:
    """What is kept, and whether the cache is away."""
    try:
        return await cache.get(entry), False
    except QueueUnavailableError as error:
        log.warning("search.cache_away", error=str(error))
        return None, True


async def _keep(cache: SearchCache, entry: CacheEntry, candidates: Sequence[Candidate]) -> bool:
    """Whether it was kept."""
    try:
        await cache.put(entry, candidates)
    except QueueUnavailableError as error:
        log.warning("search.cache_away", error=str(error))
        return False
    return True
