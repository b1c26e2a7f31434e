"""The page's routes: static files, which need no sign-in; what they show comes from the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from import_gateway.page.assets import (
    DEAD_LETTERS,
    FIGURES,
    INDEX,
    SEARCH,
    SELLER,
    Asset,
    is_current,
    load_assets,
)
from import_gateway.services import Services

# Nothing but files of our own, no script or style in the document, and nobody may frame it: a name that got
# past `textContent` would still do nothing.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # Kept by the browser and asked about each time, so that an upgrade is seen at the next load.
    "Cache-Control": "no-cache",
}


def get_routes(services: Services) -> list[BaseRoute]:
    """`/`, `/figures`, `/dead-letters`, `/search`, `/seller` and the files below `/page/`."""
    settings = services.settings
    return get_page_routes(
        namespace=settings.namespace,
        audience=settings.token_audience,
        heartbeat_seconds=settings.heartbeat_seconds,
    )


def get_page_routes(*, namespace: str, audience: str, heartbeat_seconds: float) -> list[BaseRoute]:
    """The routes of a page that tells people how to make a token for this namespace and audience.

    It takes a connection for dead after three times `heartbeat_seconds` of silence.
    """
    assets = load_assets(
        {"namespace": namespace, "audience": audience, "heartbeat": f"{heartbeat_seconds:g}"}
    )

    def document(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return _answer(assets[name], request)

        return answer

    async def file(request: Request) -> Response:
        asset = assets.get(request.path_params["name"])
        return _answer(asset, request) if asset else Response("There is no such file.\n", 404, HEADERS)

    return [
        Route("/", document(INDEX)),
        Route("/figures", document(FIGURES)),
        Route("/dead-letters", document(DEAD_LETTERS)),
        Route("/search", document(SEARCH)),
        Route("/seller", document(SELLER)),
        Route("/page/{name}", file),
    ]


def _answer(asset: Asset, request: Request) -> Response:
    headers = {**HEADERS, "ETag": asset.etag}
    if is_current(asset, request.headers.get("If-None-Match")):
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers={**headers, "Content-Type": asset.media_type})
