"""The sample WhatsApp catalogues: pages as sellers share them, items by infinite scroll, item pages, robots.txt."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from import_local.samples.catalogue.expected import whatsapp_product_id
from import_local.samples.catalogue.model import Product, index_of_number
from import_local.samples.catalogue.roastify_fields import description_text
from import_local.samples.serving import Dialect, api_route, base_url, sample_of
from import_local.samples.settings import WHATSAPP_NUMBER
from import_local.samples.state import Account
from import_local.samples.whatsapp_page import (
    CHANGED_CLASS,
    catalogue_page,
    endless_page,
    frame,
    hostile_page,
    item_page,
    wall_page,
)

ITEMS_PER_LOAD = 12


def failed(status: int) -> Response:
    """Return an error as a web server words it."""
    return HTMLResponse(frame(f"Error {status}", f"<h1>{status}</h1>"), status)


DIALECT = Dialect(
    provider="whatsapp",
    not_found=lambda: failed(404),
    failed=failed,
    throttled=lambda *_: failed(429),
)


def image_urls(product: Product, account: Account, root: str) -> list[str]:
    """Return the addresses of the product's images."""
    return [
        f"{root}/{account.catalogue.image_path('whatsapp', product, position)}"
        for position, image in enumerate(product.images)
        if image.ready and image.kind == "IMAGE"
    ]


def price_text(product: Product) -> str:
    """Return the price as the page words it; the wording changes from product to product."""
    cents = product.variants[0].price_cents
    whole, fraction = divmod(cents, 100)
    grouped = f"{whole:,}"
    match product.index % 3:
        case 0:
            return f"€{grouped}.{fraction:02d}"
        case 1:
            return f"{grouped.replace(',', '.')},{fraction:02d} €"
        case _:
            return f"EUR {whole}.{fraction:02d}"


def item_of(product: Product, account: Account, root: str) -> dict[str, Any]:
    """Return one item as the page's script gets it."""
    identifier = whatsapp_product_id(product.number)
    return {
        "id": identifier,
        "title": product.title,
        "price": price_text(product),
        "description": description_text(product),
        "link": f"{root}/whatsapp/{account.name}/p/{identifier}/{WHATSAPP_NUMBER}",
        "images": image_urls(product, account, root),
    }


async def catalogue(request: Request, account: Account) -> Response:
    """Answer GET of the catalogue's page, in the variation that was ordered."""
    root = base_url(request)
    data = f"{root}/whatsapp/{account.name}/items"
    private = f"http://127.0.0.1:{account.settings.loopback_port}/"
    match account.behaviour.page:
        case "consent" | "login" | "robot-check" as kind:
            page = wall_page(kind)
        case "changed":
            page = catalogue_page("Catalogue", data, item_class=CHANGED_CLASS)
        case "endless":
            page = endless_page()
        case "hostile":
            item = item_of(account.catalogue.base.product(0), account, root)
            away = f"{root}/hostile/redirect-loopback?"
            worker = f"{root}/whatsapp/worker.js"
            page = hostile_page(item, target=private, away=away, worker=worker)
        case "away":
            return RedirectResponse(f"{private}secret", 302)
        case "download":
            return Response(b"x", media_type="application/octet-stream")
        case "usual":
            page = catalogue_page("Catalogue", data)
    return HTMLResponse(page)


async def items(request: Request, account: Account) -> Response:
    """Answer what the page's script asks for while it is scrolled: the items from `offset` on."""
    text = request.query_params.get("offset", "0")
    offset = int(text) if re.fullmatch(r"\d{1,9}", text) else 0
    order = account.catalogue.order("ID")
    root = base_url(request)
    products = (account.catalogue.product(index) for _, index in order[offset : offset + ITEMS_PER_LOAD])
    shown = [item_of(product, account, root) for product in products if product is not None]
    return JSONResponse({"items": shown, "more": offset + ITEMS_PER_LOAD < len(order)})


async def item(request: Request, account: Account) -> Response:
    """Answer GET of a product's own page."""
    match = re.fullmatch(r"\d{1,18}", request.path_params["id"])
    index = index_of_number(account.name, int(match[0])) if match else None
    product = account.catalogue.product(index) if index is not None else None
    if product is None:
        return failed(404)
    return HTMLResponse(item_page(item_of(product, account, base_url(request)), product))


async def robots(request: Request) -> Response:
    """Answer GET /robots.txt: it closes the catalogues that were ordered to be closed."""
    sample = sample_of(request)
    sample.robots_requests += 1
    closed = [
        f"Disallow: /whatsapp/{account.name}/c/"
        for account in sample.accounts()
        if account.provider == "whatsapp" and account.behaviour.is_closed_by_robots
    ]
    return PlainTextResponse("\n".join(["User-agent: *", "Allow: /", *closed, ""]))


def routes() -> list[Route]:
    """Return the routes of all sellers. What the page's script loads is no page load: it is counted apart."""
    root = "/whatsapp/{account}"
    return [
        Route("/robots.txt", robots),
        Route(f"{root}/c/{{number}}", api_route(DIALECT, catalogue)),
        Route(f"{root}/p/{{id}}/{{number}}", api_route(DIALECT, item)),
        Route(f"{root}/items", api_route(DIALECT, items, counted=False)),
    ]
