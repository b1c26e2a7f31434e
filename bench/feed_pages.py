"""The feed that is imported: answers of Shopify's products query, one page a line, and a provider that reads them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from import_core.domain.products import Page
from import_worker.providers.json_text import read_json
from import_worker.providers.shopify.client import GraphQLClient
from import_worker.providers.shopify.paging import Paging
from import_worker.providers.shopify.settings import ShopifyCursor, ShopifySettings

PAGE = 200
"""As the worker reads a catalogue of this size: from the result of a bulk operation."""
SIZES = ("S", "M", "L")
SENTENCE = "<p>A sentence that says what product {} is, who made it and why one should buy it.</p>"


def write_feed(path: Path, products: int, *, version: int = 0) -> None:
    """Write a catalogue of 15 fields and 3 variants each; another version differs in every price."""
    with path.open("w") as file:
        for start in range(0, products, PAGE):
            numbers = range(start, min(products, start + PAGE))
            edges = [{"cursor": str(number), "node": _product(number, version)} for number in numbers]
            info = {"hasNextPage": numbers.stop < products, "endCursor": str(numbers.stop - 1)}
            answer = {"data": {"products": {"edges": edges, "pageInfo": info}}}
            file.write(json.dumps(answer, separators=(",", ":")) + "\n")


def _product(number: int, version: int) -> dict[str, Any]:
    variants = [_variant(number, place, version) for place in range(len(SIZES))]
    return {
        "id": f"gid://shopify/Product/{number}",
        "title": f"Product {number}",
        "handle": f"product-{number}",
        "descriptionHtml": SENTENCE.format(number) * 8,
        "vendor": "Acme",
        "productType": "Coffee",
        "status": "ACTIVE",
        "tags": ["new", "sale", f"batch {number % 100}"],
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-06-01T00:00:00Z",
        "options": [{"name": "Size", "values": list(SIZES)}],
        "variants": {
            "pageInfo": {"hasNextPage": False, "endCursor": None},
            "edges": [{"node": variant} for variant in variants],
        },
        "media": {"pageInfo": {"hasNextPage": False, "endCursor": None}, "edges": []},
    }


def _variant(number: int, place: int, version: int) -> dict[str, Any]:
    return {
        "id": f"gid://shopify/ProductVariant/{number}{place}",
        "title": SIZES[place],
        "sku": f"SKU-{number}-{SIZES[place]}",
        "price": f"{10 + (number + version) % 90}.{number % 100:02}",
        "compareAtPrice": f"{110 + number % 90}.00",
        "barcode": f"40{number:09}{place}",
        "inventoryQuantity": number % 50,
        "selectedOptions": [{"name": "Size", "value": SIZES[place]}],
        "inventoryItem": {
            "tracked": True,
            "measurement": {"weight": {"unit": "GRAMS", "value": 250.0 + place}},
        },
    }


def read_answers(path: Path) -> Iterator[bytes]:
    """The pages as the shop sent them."""
    with path.open("rb") as file:
        yield from file


class FileClient:
    """Stands where the GraphQL client does: the next answer of the file, read as that client reads one."""

    def __init__(self, path: Path) -> None:
        self._answers = read_answers(path)

    async def execute(
        self, query: str, variables: object = None, *, cost_key: object = None
    ) -> dict[str, Any]:
        del query, variables, cost_key
        data: dict[str, Any] = read_json(next(self._answers))["data"]
        return data


class FeedProvider:
    """The worker's reader of Shopify's pages, on a file's answers."""

    def __init__(self, path: Path) -> None:
        self._client = cast("GraphQLClient", FileClient(path))

    async def check(self) -> None:
        return

    async def aclose(self) -> None:
        return

    def pages(self, cursor: Mapping[str, Any] | None) -> AsyncGenerator[Page, None]:
        settings, place = ShopifySettings(), ShopifyCursor.parse(cursor)
        return Paging(self._client, settings, None).pages(place, stored=place)

    def preview(self) -> AsyncGenerator[Page, None]:
        return self.pages(None)

    def products(self, external_ids: Sequence[str]) -> AsyncGenerator[Page, None]:
        raise NotImplementedError("the benchmark imports whole catalogues")
