"""The legacy REST Admin API: products with Link-header paging behind a leaky bucket of calls."""

from __future__ import annotations

import base64
import binascii
import json
import math
import time
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from import_local.samples.catalogue.expected import product_gid, variant_gid
from import_local.samples.catalogue.model import Product, Variant, decimal_price, index_of_number
from import_local.samples.serving import base_url
from import_local.samples.shopify.access import MESSAGES, answer, check_access, refused, served_version
from import_local.samples.shopify.connections import Page, page_of_products
from import_local.samples.shopify.resolvers import moment
from import_local.samples.shopify.search import Search, parse_search
from import_local.samples.state import Account

MAX_LIMIT = 250


def _admitted(request: Request, account: Account) -> tuple[Response | None, dict[str, str]]:
    refusal = check_access(request, account)
    version = served_version(request.path_params["version"])
    if refusal is not None or version is None:
        return refusal or refused(404), {}
    bucket = account.rest_calls(request.headers["X-Shopify-Access-Token"], time.monotonic())
    admitted = bucket.take(time.monotonic())
    headers = {
        "X-Shopify-API-Version": version,
        "X-Shopify-Shop-Api-Call-Limit": f"{min(math.ceil(bucket.used), bucket.size)}/{bucket.size}",
    }
    if admitted:
        return None, headers
    account.counters.throttled += 1
    return answer({"errors": MESSAGES[429]}, 429, {**headers, "Retry-After": "2.0"}), headers


async def list_products(request: Request, account: Account) -> Response:
    """Answer GET products.json: limit, page_info, since_id, ids, status, updated_at_min, updated_at_max."""
    refusal, headers = _admitted(request, account)
    if refusal is not None:
        return refusal
    query = dict(request.query_params)
    try:
        limit = _limit(query)
        page = _page(account, query, limit)
    except ValueError as error:
        return answer(
            {"errors": {"page_info" if "page_info" in query else "limit": str(error)}}, 400, headers
        )
    links = _links(request, page, query, limit)
    if links:
        headers["Link"] = links
    products = [product_body(product, account, base_url(request)) for product in page.nodes]
    return answer({"products": products}, 200, headers)


async def one_product(request: Request, account: Account) -> Response:
    """Answer GET products/{id}.json."""
    refusal, headers = _admitted(request, account)
    if refusal is not None:
        return refusal
    index = index_of_number(account.name, request.path_params["id"])
    product = None if index is None else account.catalogue.product(index)
    if product is None:
        return answer({"errors": "Not Found"}, 404, headers)
    return answer({"product": product_body(product, account, base_url(request))}, 200, headers)


async def count_products(request: Request, account: Account) -> Response:
    """Answer GET products/count.json."""
    refusal, headers = _admitted(request, account)
    return refusal or answer({"count": account.catalogue.count()}, 200, headers)


async def shop(request: Request, account: Account) -> Response:
    """Answer GET shop.json, the usual way to try credentials."""
    refusal, headers = _admitted(request, account)
    body = {
        "id": 1,
        "name": account.name,
        "domain": f"{account.name}.example",
        "myshopify_domain": f"{account.name}.myshopify.com",
        "currency": "USD",
    }
    return refusal or answer({"shop": body}, 200, headers)


def _limit(query: dict[str, str]) -> int:
    limit = query.get("limit", "50")
    if not limit.isdigit() or not 1 <= int(limit) <= MAX_LIMIT:
        raise ValueError(f"limit must be between 1 and {MAX_LIMIT}")
    return int(limit)


def _page(account: Account, query: dict[str, str], limit: int) -> Page:
    arguments: dict[str, Any] = {"first": limit}
    if "page_info" in query:
        if set(query) - {"page_info", "limit", "fields"}:
            raise ValueError("Invalid value.")
        query, arguments = _opened(query["page_info"], limit)
    return page_of_products(account.catalogue, _search(account, query), arguments)


def _search(account: Account, query: dict[str, str]) -> Search:
    terms = []
    if "since_id" in query:
        terms.append(f"id:>{int(query['since_id'])}")
    if "status" in query:
        terms.append(f"status:{query['status']}")
    for name, compare in (("updated_at_min", ">="), ("updated_at_max", "<=")):
        if name in query:
            datetime.fromisoformat(query[name])
            terms.append(f"updated_at:{compare}'{query[name]}'")
    search = parse_search(" ".join(terms))
    if "ids" in query:
        indexes = {index_of_number(account.name, int(number)) for number in query["ids"].split(",")}
        search.tests.append(lambda _, index: index in indexes)
    return search


def _opened(page_info: str, limit: int) -> tuple[dict[str, str], dict[str, Any]]:
    try:
        content = json.loads(base64.urlsafe_b64decode(page_info))
        query, cursor = dict(content["query"]), str(content["cursor"])
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise ValueError("Invalid value.") from error
    if content["direction"] == "next":
        return query, {"first": limit, "after": cursor}
    return query, {"last": limit, "before": cursor}


def _links(request: Request, page: Page, query: dict[str, str], limit: int) -> str:
    if "page_info" in query:
        query, _ = _opened(query["page_info"], limit)
    kept = {name: value for name, value in query.items() if name != "limit"}
    links = []
    for wanted, direction, place in ((page.has_previous, "previous", 0), (page.has_next, "next", -1)):
        if wanted and page.cursors:
            content = {"query": kept, "cursor": page.cursors[place], "direction": direction}
            token = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
            address = f"{base_url(request)}{request.url.path}"
            links.append(f'<{address}?{urlencode({"limit": limit, "page_info": token})}>; rel="{direction}"')
    return ", ".join(links)


def product_body(product: Product, account: Account, root: str) -> dict[str, Any]:
    """Return the product as REST writes it; only images that have an address are in it."""
    images: list[dict[str, Any]] = [
        {
            "id": image.number,
            "product_id": product.number,
            "position": position + 1,
            "alt": image.alt,
            "width": image.width,
            "height": image.height,
            "src": f"{root}/{account.catalogue.image_path('shopify', product, position)}",
            "variant_ids": [],
        }
        for position, image in enumerate(product.images)
        if image.ready and image.kind == "IMAGE"
    ]
    return {
        "id": product.number,
        "admin_graphql_api_id": product_gid(product.number),
        "title": product.title,
        "body_html": product.description_html,
        "vendor": product.vendor,
        "product_type": product.product_type,
        "handle": product.handle,
        "status": product.status.lower(),
        "tags": ", ".join(product.tags),
        "created_at": moment(product.created_at),
        "updated_at": moment(product.updated_at),
        "options": [
            {"name": option.name, "position": position, "values": list(option.values)}
            for position, option in enumerate(product.options, start=1)
        ],
        "variants": [_variant_body(product, *item) for item in enumerate(product.variants, start=1)],
        "images": images,
        "image": images[0] if images else None,
    }


def _variant_body(product: Product, position: int, variant: Variant) -> dict[str, Any]:
    values = [value for _, value in variant.selected] + [None] * 3
    compare = variant.compare_at_cents
    return {
        "id": variant.number,
        "admin_graphql_api_id": variant_gid(variant.number),
        "product_id": product.number,
        "title": variant.title,
        "position": position,
        "sku": variant.sku,
        "price": decimal_price(variant.price_cents),
        "compare_at_price": None if compare is None else decimal_price(compare),
        "barcode": variant.barcode,
        "grams": variant.weight_grams,
        "inventory_quantity": variant.inventory_quantity,
        "inventory_management": "shopify" if variant.tracked else None,
        "option1": values[0],
        "option2": values[1],
        "option3": values[2],
    }
