"""Opens the search index that the settings name."""

from __future__ import annotations

from import_core.adapters.postgres.pool import Database
from import_core.adapters.search.base import SearchIndex
from import_core.adapters.search.postgres import PostgresSearchIndex
from import_core.adapters.search.settings import SearchSettings


def open_search_index(settings: SearchSettings, database: Database) -> SearchIndex:
    """The index; the caller closes it. Raises MissingPackageError, InvalidInputError."""
    if settings.search_index == "postgres" or settings.opensearch_url is None:
        return PostgresSearchIndex(database)
    # Loaded here: most installations have no such client.
    from import_core.adapters.search.opensearch import OpenSearchIndex, connect

    return OpenSearchIndex(
        connect(settings.opensearch_url.get_secret_value()), database, index=settings.opensearch_index
    )
