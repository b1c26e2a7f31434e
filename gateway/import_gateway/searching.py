"""Opens what a search needs: the index of words, the cache and, where there is a model, the index of embeddings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from redis.asyncio import Redis

from import_core.adapters.models.opening import open_embedder
from import_core.adapters.postgres import Database
from import_core.adapters.redis.search_cache import SearchCache, connect
from import_core.adapters.search.merged import ProductSearch, VectorSearch
from import_core.adapters.search.opening import open_search_index
from import_core.adapters.vectors.opening import open_vector_index
from import_core.domain.errors import (
    InvalidInputError,
    MissingPackageError,
    ModelUnusableError,
    VectorIndexUnavailableError,
)
from import_core.observability.logs import get_logger
from import_gateway.settings import GatewaySettings

log = get_logger(__name__)


@asynccontextmanager
async def opened_vectors(settings: GatewaySettings, database: Database) -> AsyncIterator[VectorSearch | None]:
    """Search by meaning, where a model is configured; None where there is none, or it can't be used here.

    An unusable model is told in the log and takes nothing but that away: imports are still taken.
    """
    async with AsyncExitStack() as stack:
        vectors: VectorSearch | None = None
        if settings.model_folder is not None:
            try:
                embedder = await open_embedder(settings)
                stack.push_async_callback(embedder.aclose)
                index = open_vector_index(settings, database)
                stack.push_async_callback(index.aclose)
                vectors = VectorSearch(embedder=embedder, index=index)
            except (ModelUnusableError, MissingPackageError, VectorIndexUnavailableError) as error:
                log.error("search.without_vectors", detail=error.message)  # noqa: TRY400 - it says what to do
        yield vectors


@asynccontextmanager
async def opened_search(
    settings: GatewaySettings, database: Database, *, vectors: VectorSearch | None = None
) -> AsyncIterator[ProductSearch]:
    """The search; its own connections are closed at the end, `vectors` are the caller's.

    Raises MissingPackageError where the index's client is missing, InvalidInputError for an unusable address.
    Nothing has to answer yet.
    """
    async with AsyncExitStack() as stack:
        index = open_search_index(settings, database)
        stack.push_async_callback(index.aclose)
        cache: SearchCache | None = None
        redis_url = settings.redis_url.get_secret_value()
        if redis_url and settings.search_cache_entries:
            cache = SearchCache(_client(redis_url), slots=settings.search_cache_entries)
            stack.push_async_callback(cache.aclose)
        yield ProductSearch(
            database,
            index,
            text_name=settings.search_index,
            vectors=vectors,
            cache=cache,
            backend_seconds=settings.search_seconds,
        )


def _client(url: str) -> Redis:
    try:
        return connect(url, client_name="import-gateway")
    except ValueError as error:
        # Not the parser's text: it quotes the address, and so the password.
        raise InvalidInputError(
            "REDIS_URL", "must be redis://[:password@]host:port/0, or rediss://"
        ) from error
