"""Embeddings in Milvus: one collection, written by key, so that the same write twice is one."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from import_core.adapters.packages import optional
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.vectors.base import DIMENSIONS, ProductVectors, VectorHit, check_dimensions
from import_core.adapters.vectors.settings import VectorSettings
from import_core.domain.errors import ImportOperatorError, VectorIndexUnavailableError

AT_ONCE = 200
"""Products in one request: 1.3 MB of vectors."""
THREADS = 4
THREADS_OF_A_FILE = 1
"""milvus-lite has no lock of its own between writes and a flush: side by side they failed or mixed their numbers."""
MOST_HITS = 1000
SPARE_SECONDS = 5.0
"""Beyond the client's own time limit, which it does not keep while it connects."""
KIND_TEXT, KIND_IMAGE = "text", "image"
_FIELDS = {"company_id": 1024, "product_id": 1024, "kind": 16, "content_hash": 256, "model_checksum": 64}
"""Text fields beside the key, with their longest values in bytes."""

Result = TypeVar("Result")


class MilvusVectorIndex:
    """Connects at the first use. The client blocks, so it runs in threads; every call has a time limit.

    Keys and the companies of filters are digests: ids are text of the platform's choosing, and a filter is a text, too.
    Milvus has no conditional write, so what is kept is looked at before it is written or deleted: a worker that lost
    its claim long ago finds a later version there, and changes nothing. One that stood still between just these two
    calls may still put an older state's vectors, which then stay until the product changes.

    A put is done when Milvus has flushed it: writes that it only acknowledged were lost when it was killed. Several
    puts share one flush, as a server allows few.
    """

    def __init__(self, settings: VectorSettings) -> None:
        if not settings.milvus_uri:
            raise VectorIndexUnavailableError("MILVUS_ADDRESS is not set, and VECTOR_INDEX is milvus")
        self._settings = settings
        self._collection = settings.milvus_collection
        self.name = f"milvus/{self._collection}"
        self._timeout = settings.milvus_timeout_seconds
        threads = THREADS if "://" in settings.milvus_uri else THREADS_OF_A_FILE
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="milvus")
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._flushes = Flushes(self._flush)

    async def put(self, vectors: Sequence[ProductVectors]) -> None:
        """Insert or exchange the vectors of products but those kept of a later version; they are on disk then."""
        newest = {one.product_id: check_dimensions(one) for one in vectors}
        for given in _parts(list(newest.values())):
            later = await self._later({one.product_id: one.version for one in given})
            part = [one for one in given if one.product_id not in later]
            if not part:
                continue
            rows = [row for one in part for row in _rows(one)]
            await self._call("upsert", self._collection, rows)
            bare = [_key(one.product_id, KIND_IMAGE) for one in part if one.image is None]
            if bare:
                await self._call("delete", self._collection, ids=bare)
        if newest and self._settings.milvus_flush:
            await self._flushes.join()

    async def write(self, connection: Connection, vectors: Sequence[ProductVectors]) -> None:
        """Nothing: `put` keeps them."""

    async def remove(self, versions: Mapping[str, int]) -> None:
        """Forget products; unknown ones are ignored, and those that are kept of a later version."""
        for given in _parts(list(versions)):
            later = await self._later({product_id: versions[product_id] for product_id in given})
            part = [product_id for product_id in given if product_id not in later]
            keys = [_key(product_id, kind) for product_id in part for kind in (KIND_TEXT, KIND_IMAGE)]
            if keys:
                await self._call("delete", self._collection, ids=keys)

    async def forget(self, connection: Connection, product_ids: Sequence[str]) -> None:
        """Nothing: `remove` takes them out."""

    async def _later(self, versions: Mapping[str, int]) -> set[str]:
        """Those of the products of which a later version is kept."""
        found = await self._call(
            "query",
            self._collection,
            ids=[_key(product_id, KIND_TEXT) for product_id in versions],
            output_fields=["product_id", "version"],
        )
        return {row["product_id"] for row in found if row["version"] > versions[row["product_id"]]}

    async def current(self, states: Mapping[str, str], *, model_checksum: str) -> frozenset[str]:
        """Those products whose vectors of this state, by this model, are kept."""
        current: set[str] = set()
        for part in _parts(list(states)):
            found = await self._call(
                "query",
                self._collection,
                ids=[_key(product_id, KIND_TEXT) for product_id in part],
                output_fields=["product_id", "content_hash", "model_checksum"],
            )
            current.update(
                row["product_id"]
                for row in found
                if row["model_checksum"] == model_checksum
                and row["content_hash"] == states.get(row["product_id"])
            )
        return frozenset(current)

    async def nearest(
        self, company_id: str, vector: Sequence[float], *, limit: int, model_checksum: str | None = None
    ) -> list[VectorHit]:
        """The company's products whose text or image is nearest, best first."""
        limit = max(1, min(limit, MOST_HITS))
        wanted = f'company == "{_digest(company_id)}"'
        if model_checksum is not None:
            wanted += f' and model == "{_digest(model_checksum)}"'
        found = await self._call(
            "search",
            self._collection,
            [list(vector)],
            filter=wanted,
            # A product has up to two vectors, so twice as many hold enough products.
            limit=2 * limit,
            output_fields=["product_id"],
            search_params={"metric_type": "COSINE", "params": {"ef": max(100, 2 * limit)}},
        )
        best: dict[str, float] = {}
        for hit in found[0]:
            product_id, similarity = hit["entity"]["product_id"], float(hit["distance"])
            best[product_id] = max(similarity, best.get(product_id, -1.0))
        ordered = sorted(best.items(), key=lambda item: (-item[1], item[0]))
        return [VectorHit(product_id, similarity) for product_id, similarity in ordered[:limit]]

    async def check(self) -> None:
        """Prove that Milvus answers and the collection fits; make it where there is none."""
        await self._call("describe_collection", self._collection)

    async def aclose(self) -> None:
        """Close the connection and end the threads."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.get_running_loop().run_in_executor(self._threads, client.close)
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def _flush(self) -> None:
        await self._call("flush", self._collection)

    async def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        client = await self._connected()
        return await self._in_thread(
            method, lambda: getattr(client, method)(*arguments, timeout=self._timeout, **options)
        )

    async def _connected(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._in_thread("connect", self._open)
            return self._client

    async def _in_thread(self, what: str, work: Callable[[], Result]) -> Result:
        """Run the client's call; every error of it becomes ours: it raises those of gRPC, too."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout + SPARE_SECONDS):
                return await loop.run_in_executor(self._threads, work)
        except TimeoutError as error:
            message = f"Milvus did not {what} within {self._timeout + SPARE_SECONDS:g} s"
            raise VectorIndexUnavailableError(message) from error
        except ImportOperatorError:
            raise
        except Exception as error:
            raise VectorIndexUnavailableError(f"Milvus could not {what}: {_line(error)}") from error

    def _open(self) -> Any:
        milvus = optional("pymilvus", extra="milvus", purpose="VECTOR_INDEX=milvus")
        # It logs what it also raises, with a stack trace.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        client = milvus.MilvusClient(
            self._settings.milvus_uri,
            token=self._settings.milvus_token.get_secret_value(),
            timeout=self._timeout,
        )
        try:
            if not client.has_collection(self._collection, timeout=self._timeout):
                self._create(milvus, client)
            self._check_collection(client)
            client.load_collection(self._collection, timeout=self._timeout)
        except Exception:
            client.close()
            raise
        return client

    def _create(self, milvus: Any, client: Any) -> None:
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", milvus.DataType.VARCHAR, is_primary=True, max_length=80)
        schema.add_field("company", milvus.DataType.VARCHAR, max_length=64)
        schema.add_field("model", milvus.DataType.VARCHAR, max_length=64)
        for name, longest in _FIELDS.items():
            schema.add_field(name, milvus.DataType.VARCHAR, max_length=longest)
        schema.add_field("version", milvus.DataType.INT64)
        schema.add_field("embedding", milvus.DataType.FLOAT_VECTOR, dim=DIMENSIONS)
        indexes = client.prepare_index_params()
        indexes.add_index(
            "embedding",
            index_type="HNSW",
            metric_type="COSINE",
            params={"M": 16, "efConstruction": 64},
        )
        try:
            client.create_collection(
                self._collection,
                schema=schema,
                index_params=indexes,
                # A search sees what was put before it.
                consistency_level="Strong",
                timeout=self._timeout,
            )
        except milvus.MilvusException:
            # Another process may have been first.
            if not client.has_collection(self._collection, timeout=self._timeout):
                raise

    def _check_collection(self, client: Any) -> None:
        described = client.describe_collection(self._collection, timeout=self._timeout)
        fields = {field["name"]: field for field in described["fields"]}
        missing = sorted({"id", "company", "model", "version", "embedding", *_FIELDS} - fields.keys())
        if missing:
            raise VectorIndexUnavailableError(
                f"the collection {self._collection} lacks {', '.join(missing)}: it is not ours; set MILVUS_COLLECTION"
            )
        size = int(fields["embedding"].get("params", {}).get("dim", 0))
        if size != DIMENSIONS:
            raise VectorIndexUnavailableError(
                f"the collection {self._collection} keeps vectors of {size} numbers and not {DIMENSIONS};"
                " set MILVUS_COLLECTION"
            )


class Flushes:
    """Joins callers into flushes: one that begins after they asked is theirs, and there is one at a time."""

    def __init__(self, flush: Callable[[], Any]) -> None:
        self._flush = flush
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Return when a flush is done that began after this call; raises what it raised."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
            self._next.add_done_callback(_look_at)
        # A caller that is cancelled does not take the others' flush with it.
        await asyncio.shield(self._next)

    async def _after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        await self._flush()


def _look_at(flush: asyncio.Task[None]) -> None:
    """Have its error count as seen, also where all who waited were cancelled."""
    if not flush.cancelled():
        flush.exception()


def _rows(one: ProductVectors) -> Iterable[dict[str, Any]]:
    for kind, vector in ((KIND_TEXT, one.text), (KIND_IMAGE, one.image)):
        if vector is not None:
            yield {
                "id": _key(one.product_id, kind),
                "company": _digest(one.company_id),
                "model": _digest(one.model_checksum),
                "company_id": one.company_id,
                "product_id": one.product_id,
                "kind": kind,
                "content_hash": one.content_hash,
                "model_checksum": one.model_checksum,
                "version": one.version,
                "embedding": list(vector),
            }


def _key(product_id: str, kind: str) -> str:
    return f"{_digest(product_id)}-{kind}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parts(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[at : at + AT_ONCE] for at in range(0, len(items), AT_ONCE))


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
