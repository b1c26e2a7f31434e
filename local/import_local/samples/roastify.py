"""The sample Roastify: product list with cursors, one call per product for details, the blank catalogue."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from import_local.samples.catalogue.expected import roastify_product_id, roastify_variant_id
from import_local.samples.catalogue.model import Product, Variant, index_of_number
from import_local.samples.catalogue.roastify_fields import TYPES, description_text, product_type, size, stock
from import_local.samples.serving import Dialect, api_route, arrival_of, base_url
from import_local.samples.settings import ROASTIFY_KEY, is_credential
from import_local.samples.shopify.connections import encode_cursor, page_of_products
from import_local.samples.shopify.resolvers import moment
from import_local.samples.shopify.search import Search
from import_local.samples.state import Account

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100
CODES = {
    400: ("bad_request", "The request could not be understood"),
    401: ("unauthorized", "Invalid API key"),
    403: ("forbidden", "This key may not do that"),
    404: ("not_found", "Not found"),
    422: ("validation_error", "A value is out of range"),
    429: ("rate_limit_exceeded", "Too many requests"),
    500: ("internal_error", "Something went wrong"),
}


def failed(status: int, message: str | None = None) -> Response:
    """Return an error as Roastify words it."""
    code, usual = CODES.get(status, (f"error_{status}", "Service unavailable"))
    return JSONResponse({"message": message or usual, "code": code}, status)


DIALECT = Dialect(
    provider="roastify",
    not_found=lambda: failed(404, "Account not found"),
    failed=failed,
    throttled=lambda *_: failed(429),
)


def _refusal(request: Request, account: Account) -> Response | None:
    key = request.headers.get("x-api-key", "")
    if not is_credential(key, ROASTIFY_KEY):
        return failed(401)
    if not account.take_call(key, arrival_of(request)):
        account.counters.throttled += 1
        return failed(429)
    return None


async def list_products(request: Request, account: Account) -> Response:
    """Answer GET /products?cursor=&pageSize=."""
    refusal = _refusal(request, account)
    if refusal is not None:
        return refusal
    size_text = request.query_params.get("pageSize", str(DEFAULT_PAGE_SIZE))
    if not re.fullmatch(r"-?\d{1,9}", size_text):
        return failed(400, "pageSize must be an integer")
    page_size = int(size_text)
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        return failed(422, f"pageSize must be between 1 and {MAX_PAGE_SIZE}")
    arguments: dict[str, Any] = {"first": page_size}
    cursor = request.query_params.get("cursor", "")
    if cursor:
        number = _number_of_cursor(cursor)
        if number is None or index_of_number(account.name, number) is None:
            return failed(400, "Invalid cursor")
        arguments["after"] = encode_cursor(number, number)
    page = page_of_products(account.catalogue, Search(), arguments)
    last = page.nodes[-1].number if page.nodes else None
    return JSONResponse(
        {
            "products": [_summary(product, account, base_url(request)) for product in page.nodes],
            "pageInfo": {
                "endCursor": None
                if last is None
                else base64.urlsafe_b64encode(f"p:{last}".encode()).decode(),
                "hasNextPage": page.has_next,
            },
        }
    )


def _number_of_cursor(cursor: str) -> int | None:
    try:
        prefix, _, number = base64.urlsafe_b64decode(cursor).decode().partition(":")
        return int(number) if prefix == "p" else None
    except (binascii.Error, ValueError):
        return None


async def one_product(request: Request, account: Account) -> Response:
    """Answer GET /products/{id}: the summary with images and variants."""
    refusal = _refusal(request, account)
    if refusal is not None:
        return refusal
    match = re.fullmatch(r"prod_(\d{1,18})", request.path_params["id"])
    index = index_of_number(account.name, int(match[1])) if match else None
    product = account.catalogue.product(index) if index is not None else None
    if product is None:
        return failed(404, "Product not found")
    root = base_url(request)
    return JSONResponse(
        {
            **_summary(product, account, root),
            "images": [{"url": url} for url in image_urls(product, account, root)],
            "variants": [_variant(product, variant) for variant in product.variants],
        }
    )


async def blank_catalogue(request: Request, account: Account) -> Response:
    """Answer GET /catalog/products: a bare array without paging."""
    refusal = _refusal(request, account)
    if refusal is not None:
        return refusal
    return JSONResponse(
        [
            {
                "id": f"blank_{position}",
                "title": f"Blank {blank}",
                "productType": blank,
                "variants": position + 1,
            }
            for position, (_, blank) in enumerate(TYPES)
        ]
    )


def image_urls(product: Product, account: Account, root: str) -> list[str]:
    """Return the addresses of the product's images."""
    return [
        f"{root}/{account.catalogue.image_path('roastify', product, position)}"
        for position, image in enumerate(product.images)
        if image.ready and image.kind == "IMAGE"
    ]


def _summary(product: Product, account: Account, root: str) -> dict[str, Any]:
    return {
        "id": roastify_product_id(product.number),
        "createdAt": moment(product.created_at),
        "title": product.title,
        "description": description_text(product),
        "imageUrl": next(iter(image_urls(product, account, root)), None),
        "productType": product_type(product),
    }


def _variant(product: Product, variant: Variant) -> dict[str, Any]:
    return {
        "id": roastify_variant_id(variant.number),
        "title": variant.title,
        "size": size(product, variant),
        "retailPrice": variant.price_cents,
        "sku": variant.sku,
        "inStock": stock(variant) > 0,
        "stockQty": stock(variant),
        "plan": "basic" if product.index % 2 else "pro",
    }


def routes() -> list[Route]:
    """Return the routes of all accounts."""
    root = "/roastify/{account}/v1"
    return [
        Route(f"{root}/products", api_route(DIALECT, list_products)),
        Route(f"{root}/products/{{id}}", api_route(DIALECT, one_product)),
        Route(f"{root}/catalog/products", api_route(DIALECT, blank_catalogue)),
    ]
