"""The providers that this worker knows; adding one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from import_worker.providers.base import ProviderFactory
from import_worker.providers.roastify import RoastifyProvider
from import_worker.providers.shopify import ShopifyProvider
from import_worker.providers.whatsapp import WhatsAppProvider

PROVIDERS: Mapping[str, ProviderFactory] = MappingProxyType(
    {
        "shopify": ShopifyProvider,
        "roastify": RoastifyProvider,
        "whatsapp": WhatsAppProvider,
    }
)
"""Factory by `spec.type` of the ImportProvider."""

FILTERS_BY_TIME = frozenset({"shopify"})
"""Types whose API can list only what changed since a time; the others are read whole by every run."""
