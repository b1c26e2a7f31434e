"""The addresses of the sample Shopify."""

from __future__ import annotations

from starlette.routing import Route

from import_local.samples.serving import api_route
from import_local.samples.shopify.access import DIALECT, grant_token
from import_local.samples.shopify.graphql import bulk_result, graphql
from import_local.samples.shopify.rest import count_products, list_products, one_product, shop


def routes() -> list[Route]:
    """Return the routes of all shops."""
    root = "/shopify/{account}"
    api = f"{root}/admin/api/{{version}}"
    return [
        Route(f"{api}/graphql.json", api_route(DIALECT, graphql), methods=["POST"]),
        Route(f"{api}/products.json", api_route(DIALECT, list_products)),
        Route(f"{api}/products/count.json", api_route(DIALECT, count_products)),
        Route(f"{api}/products/{{id:int}}.json", api_route(DIALECT, one_product)),
        Route(f"{api}/shop.json", api_route(DIALECT, shop)),
        Route(
            f"{root}/admin/oauth/access_token",
            api_route(DIALECT, grant_token, counted=False),
            methods=["POST"],
        ),
        Route(f"{root}/bulk/{{file}}", api_route(DIALECT, bulk_result, counted=False)),
    ]
