"""Finds the catalogue that a shop's or account's name stands for."""

from __future__ import annotations

import re
from pathlib import Path

from import_local.samples.catalogue.generated import MAX_IMAGES, MAX_PRODUCTS, GeneratedCatalogue
from import_local.samples.catalogue.hostile import HostileCatalogue
from import_local.samples.catalogue.liquid import LiquidCatalogue
from import_local.samples.catalogue.model import Catalogue
from import_local.samples.catalogue.vendure import VendureCatalogue

GENERATED_NAME = re.compile(r"(generated|tiny)-(\d{1,5})-(\d{1,2})(?:-[a-z0-9]{1,32})?")
# What `vendure` and `liquid` are replaced with where the data is not on the machine: (products, images).
REPLACEMENTS = {"vendure": (54, 1), "liquid": (9, 1)}


class CatalogueNotFoundError(LookupError):
    """No sample catalogue has this name."""


def open_catalogue(name: str, data_folder: Path | None) -> Catalogue:
    """Return the catalogue named `name`.

    `vendure`, `liquid`, `hostile`, `empty`, `generated-<products>-<images>[-<seed>]` and
    `tiny-<products>-<images>[-<seed>]` are known. Real data that is not in `data_folder` is replaced by a
    generated catalogue of the same size. Raises CatalogueNotFoundError for every other name.
    """
    if name == "hostile":
        return HostileCatalogue()
    if name == "empty":
        return GeneratedCatalogue(name, products=0, images=0, small=True)
    if name in REPLACEMENTS:
        return _real(name, data_folder)
    match = GENERATED_NAME.fullmatch(name)
    if match is None:
        raise CatalogueNotFoundError(name)
    products, images = int(match[2]), int(match[3])
    if products > MAX_PRODUCTS or images > MAX_IMAGES:
        raise CatalogueNotFoundError(name)
    return GeneratedCatalogue(name, products=products, images=images, small=match[1] == "tiny")


def _real(name: str, data_folder: Path | None) -> Catalogue:
    if data_folder is not None:
        vendure = data_folder / "vendure-catalogue"
        if name == "vendure" and (vendure / "products.csv").is_file():
            return VendureCatalogue(vendure)
        liquid = data_folder / "liquid-shop" / "vision.database.yml"
        if name == "liquid" and liquid.is_file():
            return LiquidCatalogue(liquid)
    products, images = REPLACEMENTS[name]
    return GeneratedCatalogue(name, products=products, images=images, small=False)
