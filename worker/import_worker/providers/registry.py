"""The providers that this worker knows; adding one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from import_worker.providers.base import ProviderFactory
from import_worker.providers.roastify import RoastifyProvider
from import_worker.providers.shopify import ShopifyProvider

PROVIDERS: Mapping[str, ProviderFactory] = MappingProxyType(
    {
        "shopify": ShopifyProvider,
        "roastify": RoastifyProvider,
    }
)
"""Factory by `spec.type` of the ImportProvider."""
