"""OpenSearch, and what speaks its protocol, as the search index: a document for each product, versioned as its row.

Everything goes through an alias, and every write requires it: to an index that was deleted under a running worker
OpenSearch would else write again and make one without our fields, whatever `action.auto_create_index` is set to allow.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from import_core.adapters.packages import optional
from import_core.adapters.postgres.pool import Connection, Database
from import_core.adapters.postgres.search_documents import forget_documents, still_so, write_elsewhere
from import_core.adapters.search.base import TextHit
from import_core.domain.errors import InvalidInputError, ProductsRefusedError, SearchUnavailableError
from import_core.domain.search import SearchQuery, parse_query, search_text
from import_core.domain.steps import StepProduct
from import_core.observability.logs import get_logger

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

log = get_logger(__name__)

CALL_SECONDS = 5.0
BULK_SECONDS = 30.0
BULK = 100
"""Documents of one request: 100 with the longest descriptions have some 2 MB."""
NEEDS_ALIAS: Sequence[Mapping[str, Any]] = ({"update": {"_id": "-"}}, {"doc": {}})
"""Lines before removals, which can't require the alias themselves, and with a version would make a missing index.

No index is made for a request of which one line requires the alias. The update changes nothing, whether there is such a
document or not.
"""

MAPPING: dict[str, Any] = {
    "settings": {
        "analysis": {
            "analyzer": {
                # The words come folded; asciifolding folds what the project's own table does not know.
                "words": {"type": "custom", "tokenizer": "standard", "filter": ["lowercase", "asciifolding"]}
            }
        }
    },
    "mappings": {
        "dynamic": "strict",
        "properties": {
            "company": {"type": "keyword"},
            "hash": {"type": "keyword", "index": False, "doc_values": False},
            "title": {"type": "text", "analyzer": "words", "copy_to": "all"},
            "labels": {"type": "text", "analyzer": "words", "copy_to": "all"},
            "tags": {"type": "text", "analyzer": "words", "copy_to": "all"},
            "description": {"type": "text", "analyzer": "words", "copy_to": "all"},
            "all": {"type": "text", "analyzer": "words"},
        },
    },
}
FIRST = "-000001"
"""What the alias's own name is followed by in the name of the index that is made for it."""
SERIES = re.compile(r"\d{6}")
"""What indices of the alias's own name end with, as OpenSearch counts them when it rolls over."""
EXISTS = "resource_already_exists_exception"
FIELDS = ["title^10", "labels^6", "tags^3", "description"]
"""What counts how much, as the weights of PostgreSQL's full text."""


def connect(url: str) -> AsyncOpenSearch:
    """A client that tries nothing again by itself: steps have their own tries, searches their own time.

    Raises MissingPackageError, and InvalidInputError for an unusable address.
    """
    package = optional("opensearchpy", extra="opensearch", purpose="SEARCH_INDEX=opensearch")
    try:
        client: AsyncOpenSearch = package.AsyncOpenSearch(
            hosts=[url], timeout=CALL_SECONDS, max_retries=0, retry_on_timeout=False, http_compress=True
        )
    except (ValueError, TypeError) as error:
        # Not the parser's text: it quotes the address, and so the password.
        raise InvalidInputError("OPENSEARCH_URL", "must be https://[user:password@]host:port") from error
    return client


class _NoIndexError(SearchUnavailableError):
    """There is no index behind the alias."""


class OpenSearchIndex:
    """A SearchIndex in OpenSearch. Methods raise SearchUnavailableError, and `put` also ProductsRefusedError.

    `index` is the alias's name. A document's version is its product's, so that a late write or removal of an older
    state is refused by OpenSearch itself, whoever sends it.
    """

    def __init__(
        self, client: AsyncOpenSearch, database: Database, *, index: str = "imports-products"
    ) -> None:
        self._client = client
        self._database = database
        self._index = index
        self._made = False
        self._making = asyncio.Lock()

    async def put(self, products: Sequence[StepProduct]) -> None:
        """Insert or exchange documents, and wait until they can be found; products that have changed are left out.

        An index that is gone is made, and all of them are written again.
        """
        await self._make_index()
        standing = await still_so(self._database, products)
        current = [product for product in products if product.product_id in standing]
        try:
            refused = await self._index_all(current)
        except _NoIndexError:
            self._made = False
            await self._make_index()
            refused = await self._index_all(current)
        if refused:
            raise ProductsRefusedError(refused)

    async def _index_all(self, products: Sequence[StepProduct]) -> dict[str, str]:
        """Write all documents; returns why which of them were refused."""
        refused: dict[str, str] = {}
        for start in range(0, len(products), BULK):
            lines = await asyncio.to_thread(_bulk_lines, products[start : start + BULK])
            refused |= await self._bulk(lines)
        return refused

    async def write(self, connection: Connection, products: Sequence[StepProduct]) -> None:
        """Note that the products are indexed, by which they become visible."""
        await write_elsewhere(connection, products)

    async def remove(self, products: Sequence[StepProduct]) -> None:
        """Forget products; unknown ones are ignored, and those that were put in a later version."""
        with suppress(_NoIndexError):  # nothing is known there
            for start in range(0, len(products), BULK):
                await self._delete({one.product_id: one.version for one in products[start : start + BULK]})

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None:
        """Note that the products are not indexed any more."""
        await forget_documents(connection, product_ids)

    async def _delete(self, versions: Mapping[str, int]) -> None:
        """Delete documents of these versions and older ones, by product."""
        actions = [{"delete": _action(one, version)} for one, version in versions.items()]
        await self._bulk("".join(json.dumps(line) + "\n" for line in (*NEEDS_ALIAS, *actions)))

    async def matching(self, company_id: str, query: str, *, limit: int) -> list[TextHit]:
        """The company's products that match the words of a person's query, best first."""
        asked = parse_query(query)
        if not asked.text:
            return []
        async with _translated():
            answer = await self._client.search(
                index=self._index,
                body={
                    "query": get_query(company_id, asked),
                    "size": limit,
                    "_source": False,
                    "track_total_hits": False,
                },
                params={"ignore_unavailable": "true"},
            )
        return [TextHit(hit["_id"], float(hit["_score"] or 0.0)) for hit in answer["hits"]["hits"]]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _make_index(self) -> None:
        """Make the index where the alias has none; several processes may do it at once."""
        async with self._making:
            if self._made:
                return
            name, kind, is_alone = self._index + FIRST, None, False
            async with _translated():
                if not await self._client.indices.exists_alias(name=self._index):
                    body = {**MAPPING, "aliases": {self._index: {}}}
                    answer = await self._client.indices.create(index=name, body=body, params={"ignore": 400})
                    kind, _ = _error(answer)
                if kind == EXISTS:
                    # Whoever was faster has made it with its alias, in one request.
                    is_alone = not await self._client.indices.exists_alias(name=self._index)
            if kind not in {None, EXISTS}:
                raise SearchUnavailableError(
                    f"OpenSearch does not make the index {name} with the alias {self._index}: {kind}"
                )
            if is_alone:
                await self._give_alias(name)
            self._made = True

    async def _give_alias(self, name: str) -> None:
        """Give our index its alias back, where no other could be meant; else a person is told to."""
        async with _translated():
            found = await self._client.indices.get_mapping(index=f"{self._index}-*")
        others = [one for one in found if one != name and SERIES.fullmatch(one[len(self._index) + 1 :])]
        if others:
            why = f"there is {min(others)} as well"
        elif _fields(found.get(name, {}).get("mappings", {})) != _fields(MAPPING["mappings"]):
            why = "it has not the fields that are searched"
        else:
            async with _translated():
                answer = await self._client.indices.put_alias(
                    index=name, name=self._index, params={"ignore": [400, 403, 404]}
                )
            if answer.get("acknowledged"):
                log.warning("search.alias_given_back", index=name, alias=self._index)
                return
            kind, _ = _error(answer)
            why = f"OpenSearch does not give it back ({kind or 'refused'})"
        raise SearchUnavailableError(
            f"The index {name} has lost the alias {self._index}, and {why}: give the alias to the index that is meant,"
            f" or delete {name}, which is then made anew"
        )

    async def _bulk(self, lines: str) -> dict[str, str]:
        """Send a bulk request; returns why it refused which documents."""
        async with _translated():
            answer = await self._client.bulk(
                body=lines,
                index=self._index,
                # A search that follows the step must find it: its answer is kept for an hour.
                params={
                    "refresh": "wait_for",
                    "require_alias": "true",
                    "request_timeout": BULK_SECONDS,
                },
            )
        refused: dict[str, str] = {}
        if not answer.get("errors"):
            return refused
        for item in answer["items"]:
            (result,) = item.values()
            status, (kind, reason) = int(result["status"]), _error(result)
            if status == 429 or status >= 500:
                raise SearchUnavailableError(f"OpenSearch did not take a document: {kind or status}")
            # 409: a newer state is there, which is what is wanted. 404: to be removed, and not there.
            if status >= 400 and status not in {404, 409}:
                refused[str(result["_id"])] = f"{kind or status}: {reason}"[:500]
            if status == 404 and kind == "index_not_found_exception":
                raise _NoIndexError(f"OpenSearch has no index with the alias {self._index}")
        return refused


def get_query(company_id: str, asked: SearchQuery) -> dict[str, Any]:
    """The query in OpenSearch's language: all words in one of the fields or over all of them, the last one unfinished.

    `or` between words is not known to `multi_match`: with it, one of the words is enough.
    """
    must: list[dict[str, Any]] = []
    operator = "or" if asked.alternatives else "and"
    if asked.words:
        kind = "bool_prefix" if asked.unfinished else "most_fields"
        must.append(
            {
                "multi_match": {
                    "query": " ".join(asked.words),
                    "type": kind,
                    "operator": operator,
                    "fields": [*FIELDS, "all"],
                }
            }
        )
    phrases = [{"multi_match": {"query": one, "type": "phrase", "fields": FIELDS}} for one in asked.phrases]
    found: dict[str, Any] = {
        "filter": [{"term": {"company": company_id}}],
        "must_not": [{"match_phrase": {"all": one}} for one in asked.excluded],
    }
    if asked.alternatives:
        return {"bool": {**found, "should": [*must, *phrases], "minimum_should_match": 1}}
    return {"bool": {**found, "must": [*must, *phrases]}}


def _fields(mappings: Mapping[str, Any]) -> dict[str, Any]:
    """What writes and searches need of an index's fields, in one form: OpenSearch tells them in words of its own."""
    fields: dict[str, Any] = {
        name: (about.get("type"), about.get("analyzer"), tuple(_listed(about.get("copy_to", ()))))
        for name, about in mappings.get("properties", {}).items()
    }
    return {**fields, "": mappings.get("dynamic")}


def _listed(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value


def _error(answer: Mapping[str, Any]) -> tuple[str | None, str]:
    """The type of an answer's error, None where there is none, and what it says.

    Some calls tell an error in a word, and so may what stands before OpenSearch.
    """
    error = answer.get("error")
    if isinstance(error, Mapping):
        return str(error.get("type", "unknown")), str(error.get("reason", ""))
    return ("unknown", str(error)) if error else (None, "")


def _action(product_id: str, version: int) -> dict[str, Any]:
    return {"_id": product_id, "version": version, "version_type": "external_gte"}


def _bulk_lines(products: Sequence[StepProduct]) -> str:
    lines = []
    for product in products:
        words = search_text(product)
        action = _action(product.product_id, product.version)
        document = {
            "company": product.company_id,
            "hash": product.content_hash,
            "title": words.title,
            "labels": words.labels,
            "tags": words.tags,
            "description": words.description,
        }
        lines += [json.dumps({"index": action}), json.dumps(document)]
    return "\n".join(lines) + "\n"


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Turn the client's errors into ours; its texts may quote the address, so only their kind is told."""
    from opensearchpy.exceptions import OpenSearchException, TransportError

    try:
        yield
    except TransportError as error:
        status = f" ({error.status_code})" if isinstance(error.status_code, int) else ""
        raise SearchUnavailableError(
            f"OpenSearch does not answer as needed: {type(error).__name__}{status}"
        ) from error
    except (OpenSearchException, TimeoutError, OSError, json.JSONDecodeError) as error:
        raise SearchUnavailableError(f"OpenSearch does not answer: {type(error).__name__}") from error
