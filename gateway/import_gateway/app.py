"""The gateway's HTTP face: all routes, and what every request passes."""

from __future__ import annotations

from starlette.applications import Starlette

from import_gateway.api.health import get_health_routes
from import_gateway.api.routes import get_api_routes
from import_gateway.page.routes import get_routes as get_page_routes
from import_gateway.services import Services


def get_app(services: Services) -> Starlette:
    """The application; the page's routes come last, as they may hold a path for everything else."""
    return Starlette(
        routes=[
            *get_health_routes(services),
            *get_api_routes(services),
            *get_page_routes(services),
        ],
    )
