"""WhatsApp catalogues: read from their page in a browser, or from Meta's Graph API."""

from __future__ import annotations

from import_core.domain.errors import ProviderRejectedError
from import_worker.providers.base import CatalogueFilter, Connection, Provider, RateLimiter
from import_worker.providers.whatsapp.graph import GraphProvider
from import_worker.providers.whatsapp.scrape import ScrapeProvider

__all__ = ["GraphProvider", "ScrapeProvider", "WhatsAppProvider"]


def WhatsAppProvider(  # noqa: N802 – a factory like the classes beside it
    connection: Connection, limiter: RateLimiter, catalogue_filter: CatalogueFilter
) -> Provider:
    """The provider of the connection's mode. Raises CredentialsError and ProviderRejectedError."""
    settings = connection.whatsapp
    if settings is not None and settings.graph is not None:
        return GraphProvider(connection, limiter, catalogue_filter, graph=settings.graph)
    if settings is not None and settings.scrape is not None:
        return ScrapeProvider(connection, limiter, catalogue_filter, scrape=settings.scrape)
    raise ProviderRejectedError("spec.whatsapp: is missing; it says how the catalogue is read.")
