"""The sample of Meta's Graph API for catalogues: paged products, its error bodies and codes, repeats and misses."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from import_local.samples.catalogue.expected import whatsapp_product_id
from import_local.samples.catalogue.model import Product, index_of_number
from import_local.samples.catalogue.roastify_fields import description_text
from import_local.samples.serving import Dialect, api_route, arrival_of, base_url
from import_local.samples.settings import GRAPH_CATALOGUE, GRAPH_TOKEN, WHATSAPP_NUMBER, is_credential
from import_local.samples.state import Account
from import_local.samples.whatsapp import image_urls, price_text

DEFAULT_LIMIT = 25
MAX_LIMIT = 200
MISSED_EACH = 10
"""With `misses`, each tenth product is left out until the catalogue is listed from the start again."""


def graph_error(
    status: int,
    code: int,
    message: str,
    *,
    kind: str = "OAuthException",
    subcode: int | None = None,
    transient: bool = False,
) -> Response:
    """Return an error as the Graph API words it."""
    error: dict[str, Any] = {"message": message, "type": kind, "code": code, "fbtrace_id": "Asample"}
    if subcode is not None:
        error["error_subcode"] = subcode
    if transient:
        error["is_transient"] = True
    return JSONResponse({"error": error}, status)


def failed(status: int) -> Response:
    """Return a fault of this HTTP status."""
    if status >= 500:
        return graph_error(status, 2, "Service temporarily unavailable", transient=True)
    return graph_error(status, 1, "An unknown error occurred")


def throttled(*_: object) -> Response:
    """Return what a catalogue's limit says; the header's estimate is minutes."""
    response = graph_error(400, 80_014, "There have been too many calls for this catalog.", subcode=2_446_079)
    usage = {GRAPH_CATALOGUE: [{"type": "catalog_management", "call_count": 100, "total_time": 0}]}
    response.headers["X-Business-Use-Case-Usage"] = json.dumps(usage)
    return response


def unknown_object(name: str) -> Response:
    """Return the refusal of an object that the token can't see."""
    message = (
        f"Unsupported get request. Object with ID '{name}' does not exist, cannot be loaded due to missing"
        " permissions, or does not support this operation."
    )
    return graph_error(400, 100, message, kind="GraphMethodException", subcode=33)


DIALECT = Dialect(
    provider="whatsapp", not_found=lambda: unknown_object("?"), failed=failed, throttled=throttled
)


def _refusal(request: Request, account: Account) -> Response | None:
    token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    token = token or request.query_params.get("access_token", "")
    if not is_credential(token, GRAPH_TOKEN):
        return graph_error(401, 190, "Invalid OAuth access token - Cannot parse access token")
    if token.endswith("-no-permission"):
        return graph_error(403, 200, "Requires catalog_management permission to manage the object")
    if not re.fullmatch(r"v\d{1,3}\.\d", request.path_params["version"]):
        return graph_error(400, 2500, "Unknown path components")
    if not account.take_graph_call(token, arrival_of(request)):
        account.counters.throttled += 1
        return throttled()
    return None


async def products(request: Request, account: Account) -> Response:
    """Answer GET /{version}/{catalogue}/products?fields=&limit=&after=."""
    refusal = _refusal(request, account)
    if refusal is not None:
        return refusal
    if request.path_params["object"] != GRAPH_CATALOGUE:
        return unknown_object(request.path_params["object"])
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not re.fullmatch(r"\d{1,6}", text) or not 1 <= int(text) <= MAX_LIMIT:
        return graph_error(400, 100, "(#100) limit is out of range")
    limit, after = int(text), request.query_params.get("after")
    start = 0 if after is None else _position(account, after)
    if start is None:
        return graph_error(400, 100, "(#100) Invalid parameter: cursor")
    order = [index for _, index in account.catalogue.order("ID")]
    page = order[start : start + limit]
    if account.behaviour.listing == "repeats" and start:
        page = [order[start - 1], *page]
    if account.behaviour.listing == "misses":
        if after is None and limit > 1:
            account.listed_again.add(len(account.listed_again))
        if len(account.listed_again) < 2:
            page = [index for index in page if index % MISSED_EACH != MISSED_EACH - 1]
    found = [product for product in map(account.catalogue.product, page) if product is not None]
    more = start + limit < len(order)
    body: dict[str, Any] = {"data": [_document(request, product, account) for product in found]}
    if order[start : start + limit]:
        cursors = {"before": _cursor(start), "after": _cursor(order[min(start + limit, len(order)) - 1])}
        following = {"next": f"{request.url.replace_query_params(after=cursors['after'])}"} if more else {}
        body["paging"] = {"cursors": cursors, **following}
    return JSONResponse(body)


def _cursor(index: int) -> str:
    return base64.b64encode(f"after:{index}".encode()).decode().rstrip("=")


def _position(account: Account, cursor: str) -> int | None:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    match = re.fullmatch(r"after:(\d{1,9})", text)
    return account.catalogue.position_after("ID", int(match[1]), int(match[1])) if match else None


async def one_object(request: Request, account: Account) -> Response:
    """Answer GET /{version}/{id}: the catalogue's number of products, or one product."""
    refusal = _refusal(request, account)
    if refusal is not None:
        return refusal
    name = request.path_params["object"]
    if name == GRAPH_CATALOGUE:
        return JSONResponse({"id": name, "product_count": account.catalogue.count()})
    index = index_of_number(account.name, int(name)) if re.fullmatch(r"\d{1,18}", name) else None
    product = account.catalogue.product(index) if index is not None else None
    if product is None:
        return unknown_object(name)
    return JSONResponse(_document(request, product, account))


def _document(request: Request, product: Product, account: Account) -> dict[str, Any]:
    root = base_url(request)
    identifier = whatsapp_product_id(product.number)
    images = image_urls(product, account, root)
    variant = product.variants[0]
    document = {
        "id": identifier,
        "retailer_id": variant.sku or identifier,
        "name": product.title,
        "description": description_text(product),
        "price": price_text(product),
        "currency": "EUR",
        "availability": "in stock" if variant.inventory_quantity > 0 else "out of stock",
        "brand": product.vendor,
        "image_url": images[0] if images else None,
        "additional_image_urls": images[1:],
        "url": f"{root}/whatsapp/{account.name}/p/{identifier}/{WHATSAPP_NUMBER}",
        "inventory": max(0, variant.inventory_quantity),
        "visibility": "published",
    }
    wanted = request.query_params.get("fields", "id,name").split(",")
    return {field: document[field] for field in ["id", *wanted] if document.get(field) is not None}


def routes() -> list[Route]:
    """Return the routes of all sellers."""
    root = "/graph/{account}/{version}/{object}"
    return [
        Route(f"{root}/products", api_route(DIALECT, products)),
        Route(root, api_route(DIALECT, one_object)),
    ]
