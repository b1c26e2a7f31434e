"""`kubectl imports search COMPANY QUERY`: whether a product is found, by its words, and at which place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from import_cli.printing import print_json, print_table, say
from import_cli.running import Namespace, Output, OutputOption, run_command
from import_cli.sources import DEFAULT_NAMESPACE, Sources, UsageError
from import_core.domain.search import DEFAULT_HITS, LONGEST_QUERY, MOST_HITS

if TYPE_CHECKING:
    from import_core.adapters.search.merged import Hit, SearchAnswer

EXAMPLES = (
    "Examples: kubectl imports search acme 'red shirt';"
    " kubectl imports search acme '\"round neck\" -wool' -o json"
)


def search(
    company: Annotated[str, typer.Argument(help="Id of the company whose products are searched.")],
    query: Annotated[str, typer.Argument(help='Words, "phrases", -excluded, or between alternatives.')],
    limit: Annotated[int, typer.Option(help="Products at most.", min=1, max=MOST_HITS)] = DEFAULT_HITS,
    namespace: Namespace = DEFAULT_NAMESPACE,
    output: OutputOption = Output.TEXT,
) -> None:
    """Products of a company that a search by words finds now, best first; no cache and no model take part."""
    run_command(
        namespace,
        lambda sources, console: run(
            sources, console, company=company, query=query, limit=limit, as_json=output is Output.JSON
        ),
    )


async def run(
    sources: Sources, console: Console, *, company: str, query: str, limit: int, as_json: bool
) -> int:
    """Print the products that a search by words finds; always 0.

    Raises UsageError for a company of which nothing is indexed and without DATABASE_URL, DatabaseUnavailableError,
    SearchUnavailableError.
    """
    if len(query) > LONGEST_QUERY:
        raise UsageError(f"A query has {LONGEST_QUERY} characters at most")
    answer = await find(sources, company, query, limit)
    if as_json:
        print_json(
            console, {"company": company, "query": query, "items": [_document(hit) for hit in answer.hits]}
        )
        return 0
    if not answer.hits:
        say(console, "Nothing is found.")
    else:
        print_table(
            console,
            ("PRODUCT", "TITLE", "PRICE", "SCORE", "ID"),
            [_row(hit) for hit in answer.hits],
        )
    return 0


async def find(sources: Sources, company: str, query: str, limit: int) -> SearchAnswer:
    """Ask the index that SEARCH_INDEX names; no cache and no model, so that it tells how things are."""
    # Loaded here: it would slow down every other command.
    from import_core.adapters.search.merged import ProductSearch
    from import_core.adapters.search.opening import open_search_index
    from import_core.adapters.search.settings import SearchSettings
    from import_core.adapters.settings import describe_problems

    try:
        settings = SearchSettings()
    except ValidationError as error:
        raise UsageError("; ".join(describe_problems(error))) from error
    async with sources.needed_database("Products are in PostgreSQL") as database:
        index = open_search_index(settings, database)
        try:
            search = ProductSearch(database, index, text_name=settings.search_index)
            catalogue = await search.versions.read(company)
            if catalogue is None:
                raise UsageError(f"No product of company {company!r} is indexed")
            return await search.search(company, query, catalogue=catalogue, limit=limit)
        finally:
            await index.aclose()


def _row(hit: Hit) -> tuple[object, ...]:
    product = hit.product
    price = None if product.price is None else f"{product.price:f} {product.currency or ''}".strip()
    return (
        product.external_id,
        product.title,
        price,
        f"{hit.candidate.text_score or 0:.3f}",
        product.product_id,
    )


def _document(hit: Hit) -> dict[str, Any]:
    product = hit.product
    return {
        "id": product.product_id,
        "externalId": product.external_id,
        "importSource": product.import_source,
        "title": product.title,
        "price": None if product.price is None else format(product.price, "f"),
        "currency": product.currency,
        "imageKey": product.image_key,
        "textScore": hit.candidate.text_score,
    }
