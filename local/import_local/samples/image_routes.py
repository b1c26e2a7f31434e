"""Serves the catalogues' images as a CDN would: Content-Length, ETag, Last-Modified, 304, and a small cache."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from import_local.samples.catalogue.model import EPOCH, Image, Product
from import_local.samples.faults import delay, drop_connection
from import_local.samples.serving import account_of
from import_local.samples.state import Account

DRAWN_AT_ONCE = 2


class ImageStore:
    """Draws images in threads, two at a time, and keeps the newest within a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._drawing = asyncio.Semaphore(DRAWN_AT_ONCE)

    async def content(self, account: Account, product: Product, image: Image, tag: str) -> bytes:
        """Return the image's bytes; `tag` is their name in the cache."""
        kept = self._kept.get(tag)
        if kept is not None:
            self._kept.move_to_end(tag)
            return kept
        async with self._drawing:
            content = await asyncio.to_thread(account.catalogue.image_bytes, product.index, image)
        self._keep(tag, content)
        return content

    def _keep(self, tag: str, content: bytes) -> None:
        if tag in self._kept or len(content) > self._limit:
            return
        self._kept[tag] = content
        self._size += len(content)
        while self._size > self._limit:
            _, old = self._kept.popitem(last=False)
            self._size -= len(old)


async def image(request: Request) -> Response:
    """Answer GET or HEAD of one catalogue image, behind the account's image faults."""
    position = request.path_params["position"]
    account = account_of(request)
    if account is None:
        return PlainTextResponse("Not Found", 404)
    counters = account.counters
    address = f"{request.url.path}?{request.url.query}"
    await delay(account.image_faults.settings.latency_seconds)
    action = account.image_faults.decide()
    if action is not None and action.kind == "drop":
        counters.record_image(address, 0, 0)
        await drop_connection(request)
    elif action is not None and action.kind == "slow":
        await delay(action.seconds)
    elif action is not None:
        status = 429 if action.kind == "throttled" else action.status
        headers = {} if action.retry_after is None else {"Retry-After": f"{action.retry_after:g}"}
        counters.record_image(address, status, 0)
        return PlainTextResponse("Sample fault", status, headers)
    product = account.catalogue.product(request.path_params["product"])
    if product is None or position >= len(product.images) or not product.images[position].ready:
        response: Response = PlainTextResponse("Not Found", 404)
    else:
        response = await _answer(request, account, product, product.images[position])
    counters.record_image(address, response.status_code, len(response.body))
    return response


async def _answer(request: Request, account: Account, product: Product, picture: Image) -> Response:
    revision = account.catalogue.image_revision(product.index)
    name = f"{picture.drawing}/{picture.width}x{picture.height}@{revision}"
    tag = f'"{hashlib.sha256(name.encode()).hexdigest()[:32]}"'
    modified = EPOCH + timedelta(days=revision)
    headers = {
        "ETag": tag,
        "Last-Modified": format_datetime(modified, usegmt=True),
        "Cache-Control": "public, max-age=31557600",
    }
    if _unchanged(request, tag, format_datetime(modified, usegmt=True)):
        return Response(status_code=304, headers=headers)
    store: ImageStore = request.app.state.images
    content = await store.content(account, product, picture, tag)
    return Response(content, headers=headers, media_type=picture.content_type)


def _unchanged(request: Request, tag: str, modified: str) -> bool:
    asked = request.headers.get("if-none-match")
    if asked is not None:
        return asked.strip() == "*" or tag in [item.strip().removeprefix("W/") for item in asked.split(",")]
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return parsedate_to_datetime(since) >= parsedate_to_datetime(modified)
    except (TypeError, ValueError):
        return False


def routes() -> list[Route]:
    """Return the routes of all images."""
    return [Route("/images/{provider}/{account}/{product:int}/{position:int}/{file}", image)]
