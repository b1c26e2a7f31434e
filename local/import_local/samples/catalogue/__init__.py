"""The catalogues behind the sample providers, and what an import of each should find."""

from import_local.samples.catalogue.expected import (
    ExpectedImage,
    ExpectedProduct,
    ExpectedVariant,
    expected_products,
    media_gid,
    product_gid,
    variant_gid,
)
from import_local.samples.catalogue.live import LiveCatalogue, ProductChange
from import_local.samples.catalogue.model import Catalogue, Image, Option, Product, Variant
from import_local.samples.catalogue.registry import CatalogueNotFoundError, open_catalogue

__all__ = [
    "Catalogue",
    "CatalogueNotFoundError",
    "ExpectedImage",
    "ExpectedProduct",
    "ExpectedVariant",
    "Image",
    "LiveCatalogue",
    "Option",
    "Product",
    "ProductChange",
    "Variant",
    "expected_products",
    "media_gid",
    "open_catalogue",
    "product_gid",
    "variant_gid",
]
