"""A small server that speaks OpenSearch's REST protocol as documented, errors included, for what the index uses of it.

Indices with aliases, and those that writes make by themselves; bulk requests with external versions, searches by the
clauses that are sent to it, and errors on demand. Whether the real one ranks so is for the tests with
TEST_OPENSEARCH_URL.
"""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from import_gateway.serving import AppServer

Json = dict[str, Any]


def error(kind: str, reason: str, status: int) -> Json:
    cause = {"type": kind, "reason": reason}
    return {"error": {"root_cause": [cause], **cause}, "status": status}


class OpenSearchStandIn:
    """`answers`: what the next requests get instead, as (status, body); `refuses`: errors of documents, by id.

    `refuses_aliases`: what whoever gives an index an alias gets instead, as (status, body).
    `after`: what happens when the so-many-th request of a kind has been answered.
    `indices` are bodies of their creation, by name; `aliases` name the index of each.
    """

    def __init__(self) -> None:
        self.indices: dict[str, Json] = {}
        self.aliases: dict[str, str] = {}
        self.documents: dict[str, dict[str, Json]] = {}
        self.versions: dict[tuple[str, str], int] = {}
        self.answers: list[tuple[int, Any]] = []
        self.refuses: dict[str, tuple[int, str]] = {}
        self.refuses_aliases: tuple[int, Json] | None = None
        self.requests: Counter[str] = Counter()
        self.after: dict[tuple[str, int], Callable[[], None]] = {}
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["OpenSearchStandIn"]:
        routes = [
            Route("/_alias/{name}", self._alias, methods=["HEAD"]),
            Route("/{index}/_alias/{name}", self._put_alias, methods=["PUT"]),
            Route("/{index}/_alias/{name}", self._delete_alias, methods=["DELETE"]),
            Route("/{index}", self._create, methods=["PUT"]),
            Route("/{index}", self._drop, methods=["DELETE"]),
            Route("/{index}/_bulk", self._bulk, methods=["POST"]),
            Route("/{index}/_mapping", self._mapping, methods=["GET"]),
            Route("/{index}/_search", self._search, methods=["POST"]),
        ]
        server = AppServer(Starlette(routes=routes), "127.0.0.1", 0, close_seconds=1)
        task = asyncio.create_task(server.run())
        self.url = f"http://somebody:s3cret@127.0.0.1:{server.port}"
        yield self
        server.stop()
        await task

    async def _instead(self, request: Request, what: str) -> Response | None:
        self.requests[what] += 1
        if request.headers.get("authorization") != "Basic c29tZWJvZHk6czNjcmV0":
            return JSONResponse(error("security_exception", "missing authentication", 401), 401)
        if not self.answers:
            return None
        status, body = self.answers.pop(0)
        if isinstance(body, str):
            return Response(body, status, media_type="application/json")
        return JSONResponse(body, status)

    def drop(self, name: str) -> None:
        """Delete an index with its documents and aliases, as an administrator does."""
        del self.indices[name], self.documents[name]
        self.aliases = {alias: index for alias, index in self.aliases.items() if index != name}
        self.versions = {key: version for key, version in self.versions.items() if key[0] != name}

    async def _alias(self, request: Request) -> Response:
        if instead := await self._instead(request, "alias"):
            return instead
        return Response(status_code=200 if request.path_params["name"] in self.aliases else 404)

    async def _put_alias(self, request: Request) -> Response:
        if instead := await self._instead(request, "put_alias"):
            return instead
        if self.refuses_aliases is not None:
            status, refusal = self.refuses_aliases
            return JSONResponse(refusal, status)
        index, name = request.path_params["index"], request.path_params["name"]
        if index not in self.indices:
            return JSONResponse(error("index_not_found_exception", f"no such index [{index}]", 404), 404)
        if name in self.indices:
            reason = f"Invalid alias name [{name}]: an index or data stream exists with the same name"
            return JSONResponse(error("invalid_alias_name_exception", reason, 400), 400)
        self.aliases[name] = index
        return JSONResponse({"acknowledged": True})

    async def _delete_alias(self, request: Request) -> Response:
        index, name = request.path_params["index"], request.path_params["name"]
        if self.aliases.get(name) != index:
            return JSONResponse(error("aliases_not_found_exception", f"aliases [{name}] missing", 404), 404)
        del self.aliases[name]
        return JSONResponse({"acknowledged": True})

    async def _create(self, request: Request) -> Response:
        name = request.path_params["index"]
        if instead := await self._instead(request, "create"):
            return instead
        if name in self.indices:
            reason = f"index [{name}/x] already exists"
            return JSONResponse(error("resource_already_exists_exception", reason, 400), 400)
        body = json.loads(await _body(request))
        for alias in body.get("aliases", {}):
            if alias in self.indices:
                reason = f"Invalid alias name [{alias}]: an index or data stream exists with the same name"
                return JSONResponse(error("invalid_alias_name_exception", reason, 400), 400)
            self.aliases[alias] = name
        self.indices[name], self.documents[name] = body, {}
        return JSONResponse({"acknowledged": True, "shards_acknowledged": True, "index": name})

    async def _drop(self, request: Request) -> Response:
        name = request.path_params["index"]
        if name not in self.indices:
            return JSONResponse(error("index_not_found_exception", f"no such index [{name}]", 404), 404)
        self.drop(name)
        return JSONResponse({"acknowledged": True})

    async def _mapping(self, request: Request) -> Response:
        if instead := await self._instead(request, "mapping"):
            return instead
        pattern = request.path_params["index"]
        found = {name: body["mappings"] for name, body in self.indices.items() if fnmatch(name, pattern)}
        return JSONResponse({name: {"mappings": _told(mappings)} for name, mappings in found.items()})

    async def _bulk(self, request: Request) -> Response:
        if instead := await self._instead(request, "bulk"):
            return instead
        name = request.path_params["index"]
        assert request.query_params["refresh"] == "wait_for"
        needs_alias = request.query_params.get("require_alias") == "true"
        raw = (await _body(request)).decode()
        assert raw.endswith("\n"), "the last line must end"
        lines = iter(raw.splitlines())
        asked: list[tuple[str, Json, Json | None]] = []
        for line in lines:
            ((action, about),) = json.loads(line).items()
            asked.append((action, about, None if action == "delete" else json.loads(next(lines))))
        self._make_missing(name, needs_alias, asked)
        items = [
            {action: self._apply(name, needs_alias and action != "delete", action, about, document)}
            for action, about, document in asked
        ]
        failed = any("error" in result for item in items for result in item.values())
        self.after.pop(("bulk", self.requests["bulk"]), _nothing)()
        return JSONResponse({"took": 1, "errors": failed, "items": items})

    def _make_missing(self, name: str, needs_alias: bool, asked: list[tuple[str, Json, Json | None]]) -> None:
        """As the real one, whose setting allows it by default: one line that requires the alias forbids it for all.

        Removals can't require it; those with versions from outside make an index, and no others do.
        """
        if name in self.indices or name in self.aliases:
            return
        makes = [action != "delete" or "version" in about for action, about, _ in asked]
        forbids = [needs_alias and action != "delete" for action, _, _ in asked]
        if any(makes) and not any(forbids):
            self.indices[name], self.documents[name] = {"mappings": {"dynamic": "true", "properties": {}}}, {}

    def _apply(self, name: str, needs_alias: bool, action: str, about: Json, document: Json | None) -> Json:
        index = self.aliases.get(name, name)
        key, result = about["_id"], {"_index": index, "_id": about["_id"]}
        if index not in self.indices or (needs_alias and name not in self.aliases):
            return {**result, **_item_error("index_not_found_exception", f"no such index [{name}]", 404)}
        if key in self.refuses:
            status, kind = self.refuses[key]
            return {**result, **_item_error(kind, "the stand-in was told so", status)}
        if "version" in about and about["version"] < self.versions.get((index, key), -1):
            reason = f"[{key}]: version conflict, current version [{self.versions[index, key]}] is higher"
            return {**result, **_item_error("version_conflict_engine_exception", reason, 409)}
        if action == "delete":
            found = self.documents[index].pop(key, None)
            return {**result, "result": "deleted" if found else "not_found", "status": 200 if found else 404}
        assert document is not None
        if action == "update":
            return {**result, **self._update(index, key, document)}
        return {**result, **self._index(index, about, document)}

    def _update(self, index: str, key: str, document: Json) -> Json:
        assert document == {"doc": {}}, "no other update is known"
        if key not in self.documents[index]:
            return _item_error("document_missing_exception", f"[{key}]: document missing", 404)
        return {"result": "noop", "status": 200}

    def _index(self, index: str, about: Json, document: Json) -> Json:
        mappings = self.indices[index]["mappings"]
        unknown = set(document) - set(mappings["properties"])
        if unknown and mappings.get("dynamic") == "strict":
            return _item_error("strict_dynamic_mapping_exception", f"{unknown} not allowed", 400)
        assert about["version_type"] == "external_gte"
        key = about["_id"]
        self.versions[index, key] = about["version"]
        known = key in self.documents[index]
        self.documents[index][key] = document
        return {"_version": about["version"], "status": 200 if known else 201}

    async def _search(self, request: Request) -> Response:
        if instead := await self._instead(request, "search"):
            return instead
        name, body = request.path_params["index"], json.loads(await _body(request))
        index = self.aliases.get(name, name)
        if index not in self.indices and request.query_params.get("ignore_unavailable") != "true":
            return JSONResponse(error("index_not_found_exception", f"no such index [{index}]", 404), 404)
        scored = [
            (score(body["query"], document), key) for key, document in self.documents.get(index, {}).items()
        ]
        best = sorted((-found, key) for found, key in scored if found is not None)
        hits = [{"_index": index, "_id": key, "_score": -minus} for minus, key in best[: body["size"]]]
        return JSONResponse({"took": 1, "timed_out": False, "hits": {"hits": hits}})


def _nothing() -> None: ...


def _told(mappings: Json) -> Json:
    """As it is told when it is asked for: `copy_to` is a list, whatever was given."""
    fields = {
        name: {**about, "copy_to": [about["copy_to"]]} if "copy_to" in about else about
        for name, about in mappings["properties"].items()
    }
    return {**mappings, "properties": fields}


def _item_error(kind: str, reason: str, status: int) -> Json:
    return {"status": status, "error": {"type": kind, "reason": reason}}


async def _body(request: Request) -> bytes:
    raw = await request.body()
    return gzip.decompress(raw) if request.headers.get("content-encoding") == "gzip" else raw


def score(query: Json, document: Json) -> float | None:
    """A document's score; None where the clause does not match. Only the clauses that are sent are known."""
    ((kind, clause),) = query.items()
    if kind == "bool":
        return _bool(clause, document)
    if kind == "term":
        ((field, value),) = clause.items()
        return 0.0 if document[field] == value else None
    if kind == "match_phrase":
        ((field, value),) = clause.items()
        return 1.0 if _phrase(value, _field(document, field)) else None
    assert kind == "multi_match", kind
    scores = [_match(clause, field, document) for field in clause["fields"]]
    found = [one for one in scores if one is not None]
    return sum(found) if found else None


def _bool(clause: Json, document: Json) -> float | None:
    if any(score(one, document) is not None for one in clause.get("must_not", [])):
        return None
    needed = [score(one, document) for one in [*clause.get("filter", []), *clause.get("must", [])]]
    if None in needed:
        return None
    optional = [score(one, document) for one in clause.get("should", [])]
    matched = [one for one in optional if one is not None]
    if len(matched) < clause.get("minimum_should_match", 0):
        return None
    return sum(one for one in (*needed, *matched) if one is not None)


def _match(clause: Json, field: str, document: Json) -> float | None:
    name, _, boost = field.partition("^")
    words, asked = _field(document, name).split(), clause["query"].split()
    if clause["type"] == "phrase":
        return float(boost or 1) if _phrase(clause["query"], " ".join(words)) else None
    found = [word in words for word in asked]
    if clause["type"] == "bool_prefix":
        found[-1] = any(word.startswith(asked[-1]) for word in words)
    enough = all(found) if clause["operator"] == "and" else any(found)
    return float(boost or 1) * sum(found) if enough else None


def _field(document: Json, name: str) -> str:
    if name == "all":
        return " ".join(document[one] for one in ("title", "labels", "tags", "description"))
    return str(document[name])


def _phrase(wanted: str, text: str) -> bool:
    return f" {wanted} " in f" {text} "
