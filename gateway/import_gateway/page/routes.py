"""The page's routes: static files, which need no sign-in; what they show comes from the API."""

from __future__ import annotations

from starlette.routing import BaseRoute

from import_gateway.services import Services


def get_routes(_services: Services) -> list[BaseRoute]:
    """The routes of the page."""
    return []
