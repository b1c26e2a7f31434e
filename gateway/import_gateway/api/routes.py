"""The API's table of contents: which path is answered by which function."""

from __future__ import annotations

from starlette.routing import BaseRoute

from import_gateway.services import Services


def get_api_routes(_services: Services) -> list[BaseRoute]:
    """The routes of the API."""
    return []
