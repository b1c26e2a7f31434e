"""Where a request carries its token: in the Authorization header, or in the cookie of the live page."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from import_core.domain.callers import is_own_origin
from import_gateway.settings import GatewaySettings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SESSION_SECONDS = 8 * 3600
"""The browser forgets the token after so long, if it has not expired before."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token, and whether it came in a cookie: browsers send those also for pages of others."""

    token: str
    from_cookie: bool


def cookie_name(settings: GatewaySettings) -> str:
    """The session cookie; over https with the prefix that binds it to this very host."""
    return "__Host-imports-session" if is_secure(settings) else "imports-session"


def is_secure(settings: GatewaySettings) -> bool:
    """Whether browsers reach the gateway by https."""
    return settings.public_url.startswith("https://")


def read_credentials(request: Request, settings: GatewaySettings) -> Credentials | None:
    """The request's token; the header wins over the cookie, and a header of another kind counts as none."""
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        return Credentials(token.strip(), from_cookie=False) if scheme.lower() == "bearer" else None
    token = request.cookies.get(cookie_name(settings), "")
    return Credentials(token, from_cookie=True) if token else None


def comes_from_own_page(request: Request, settings: GatewaySettings) -> bool:
    """Whether a write with a cookie was sent by our own page."""
    return is_own_origin(
        request.headers.get("origin"),
        public_url=settings.public_url,
        scheme=request.url.scheme,
        host=request.headers.get("host", ""),
    )


def set_session(response: Response, token: str, settings: GatewaySettings) -> None:
    """Have the browser keep the token, out of reach of scripts and of other sites."""
    response.set_cookie(
        cookie_name(settings),
        token,
        max_age=SESSION_SECONDS,
        path="/",
        httponly=True,
        samesite="strict",
        secure=is_secure(settings),
    )


def end_session(response: Response, settings: GatewaySettings) -> None:
    """Have the browser forget it."""
    response.delete_cookie(
        cookie_name(settings), path="/", httponly=True, samesite="strict", secure=is_secure(settings)
    )
