"""Shopify's Admin API: GraphQL paging for small catalogues, one bulk operation for large ones."""

from import_worker.providers.shopify.provider import ShopifyProvider
from import_worker.providers.shopify.settings import ShopifySettings

__all__ = ["ShopifyProvider", "ShopifySettings"]
