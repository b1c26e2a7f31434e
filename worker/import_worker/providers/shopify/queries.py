"""GraphQL documents for Shopify's Admin API and the fields that the default mapping and custom ones can use."""

from __future__ import annotations

from datetime import UTC, datetime

from import_core.domain.errors import ProviderRejectedError

API_VERSION = "2026-10"
GRAPHQL_PATH = f"/admin/api/{API_VERSION}/graphql.json"
TOKEN_PATH = "/admin/oauth/access_token"  # noqa: S105

_PRODUCT = """
id title handle descriptionHtml vendor productType status tags createdAt updatedAt
options { name values }
"""
_VARIANT = """
id title sku price compareAtPrice barcode inventoryQuantity
selectedOptions { name value }
inventoryItem { tracked measurement { weight { unit value } } }
"""
_MEDIA = "... on MediaImage { id alt status image { url altText width height } }"
_PAGE_INFO = "pageInfo { hasNextPage endCursor }"

SHOP = "query Shop { shop { id } products(first: 1) { edges { node { id } } } }"

# 25,000 is the most that Shopify counts exactly; without a limit it stops at 10,000.
COUNT = "query Count($query: String) { productsCount(query: $query, limit: 25000) { count precision } }"

PRODUCTS = f"""
query Products($first: Int!, $after: String, $query: String, $variants: Int!, $media: Int!) {{
  products(first: $first, after: $after, query: $query, sortKey: ID) {{
    edges {{
      cursor
      node {{
        {_PRODUCT}
        variants(first: $variants) {{ {_PAGE_INFO} edges {{ node {{ {_VARIANT} }} }} }}
        media(first: $media) {{ {_PAGE_INFO} edges {{ node {{ {_MEDIA} }} }} }}
      }}
    }}
    {_PAGE_INFO}
  }}
}}
"""

PRODUCTS_BY_ID = f"""
query ProductsById($ids: [ID!]!, $variants: Int!, $media: Int!) {{
  nodes(ids: $ids) {{
    ... on Product {{
      {_PRODUCT}
      variants(first: $variants) {{ {_PAGE_INFO} edges {{ node {{ {_VARIANT} }} }} }}
      media(first: $media) {{ {_PAGE_INFO} edges {{ node {{ {_MEDIA} }} }} }}
    }}
  }}
}}
"""

VARIANTS = f"""
query Variants($id: ID!, $first: Int!, $after: String) {{
  product(id: $id) {{ variants(first: $first, after: $after) {{
    {_PAGE_INFO} edges {{ node {{ {_VARIANT} }} }}
  }} }}
}}
"""

MEDIA = f"""
query Media($id: ID!, $first: Int!, $after: String) {{
  product(id: $id) {{ media(first: $first, after: $after) {{
    {_PAGE_INFO} edges {{ node {{ {_MEDIA} }} }}
  }} }}
}}
"""

CURRENT_BULK = "query CurrentBulk { currentBulkOperation(type: QUERY) { id status query } }"

BULK_STATUS = """
query BulkStatus($id: ID!) {
  node(id: $id) { ... on BulkOperation { id status errorCode objectCount fileSize url partialDataUrl } }
}
"""

# Grouping is slower and makes failures likelier; children are put to their parents here.
RUN_BULK = """
mutation RunBulk($query: String!) {
  bulkOperationRunQuery(query: $query, groupObjects: false) {
    bulkOperation { id status }
    userErrors { field message }
  }
}
"""


def bulk_query(search: str | None) -> str:
    """The document that a bulk operation runs: all products with all variants and media."""
    # A bulk operation takes no variables, so the search is part of the text; it holds no quotes but its own.
    arguments = f'(query: "{search}", sortKey: ID)' if search else "(sortKey: ID)"
    return f"""{{
  products{arguments} {{ edges {{ node {{
    {_PRODUCT}
    variants {{ edges {{ node {{ {_VARIANT} }} }} }}
    media {{ edges {{ node {{ {_MEDIA} }} }} }}
  }} }} }}
}}"""


def search_for(updated_after: str | None) -> str | None:
    """Shopify's search text for products updated after an RFC 3339 time; None for all products.

    The time is written anew in UTC, so that no text of a user gets into the query. Raises
    ProviderRejectedError when it is no time.
    """
    if updated_after is None:
        return None
    try:
        moment = datetime.fromisoformat(updated_after)
    except ValueError as error:
        raise ProviderRejectedError("filter.updatedAfter is not an RFC 3339 time.") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return f"updated_at:>'{moment.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}'"
