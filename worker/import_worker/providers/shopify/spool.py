"""Groups a bulk result's children with their parents on disk, so that memory does not grow with it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from import_core.domain.errors import ItemError
from import_core.domain.item_errors import NO_EXTERNAL_ID
from import_core.domain.products import ProductFailure, SourceProduct
from import_worker.providers.json_text import read_json
from import_worker.providers.shopify.documents import check_length, source_product

CACHE_KIBIBYTES = 8 * 1024
_SCHEMA = """
CREATE TABLE product (position INTEGER PRIMARY KEY, id BLOB UNIQUE, document BLOB NOT NULL);
CREATE TABLE child (position INTEGER PRIMARY KEY, parent BLOB NOT NULL, document BLOB NOT NULL);
"""


class Spool:
    """Lines of a bulk operation's JSONL; children need not follow their parent.

    The database is SQLite's own private temporary file: it has no name, so it is gone with the process
    however that ends. Its methods block; call them in a thread, and not after `close`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database = _empty_database()

    def add(self, lines: Sequence[bytes]) -> None:
        """Store lines in order; raises ValueError for one that is no JSON object."""
        products: list[tuple[bytes | None, bytes]] = []
        children: list[tuple[bytes, bytes]] = []
        for line in lines:
            document = read_json(line)
            if not isinstance(document, dict):
                raise ValueError("a line is no JSON object")  # noqa: TRY004 - the data is wrong, not the call
            parent = document.get("__parentId")
            if parent is not None:
                children.append((_key(parent), line))
            else:
                products.append((_key(document["id"]) if _has_id(document) else None, line))
        with self._lock, _transaction(self._database) as database:
            database.executemany("INSERT OR IGNORE INTO product (id, document) VALUES (?, ?)", products)
            database.executemany("INSERT INTO child (parent, document) VALUES (?, ?)", children)

    def clear(self) -> None:
        """Forget all lines, to start over after a broken download."""
        with self._lock:
            self._database.close()
            self._database = _empty_database()

    def finish(self) -> int:
        """Prepare for reading; returns the number of products."""
        with self._lock:
            self._database.execute("CREATE INDEX child_by_parent ON child (parent, position)")
            row = self._database.execute("SELECT count(*) FROM product").fetchone()
        return int(row[0])

    def page(
        self, index: int, size: int, *, children: int = 1_000_000
    ) -> list[SourceProduct | ProductFailure]:
        """Up to `size` products from number `index` on (from 0), in the result's order, with their children.

        Fewer where they have `children` variants and images before. A product with too many children is a failure,
        so that one can't fill the memory, and so is one without an id.
        """
        items: list[SourceProduct | ProductFailure] = []
        with self._lock:
            rows = self._database.execute(
                "SELECT id, document FROM product ORDER BY position LIMIT ? OFFSET ?", (size, index)
            ).fetchall()
            for number, (key, line) in enumerate(rows, index + 1):
                document = _read(line)
                item = _nameless(number, document) if key is None else self._product(key, document)
                items.append(item)
                if isinstance(item, SourceProduct):
                    children -= len(item.document["variants"]) + len(item.images)
                if children <= 0:
                    break
        return items

    def close(self) -> None:
        """Delete everything."""
        with self._lock:
            self._database.close()

    def _product(self, key: bytes, product: dict[str, Any]) -> SourceProduct | ProductFailure:
        parts: dict[str, list[dict[str, Any]]] = {"variants": [], "media": []}
        for (child,) in self._database.execute(
            "SELECT document FROM child WHERE parent = ? ORDER BY position", (key,)
        ):
            document = _read(child)
            # Children don't say which connection they are of; their ids do. A video has no field of ours.
            name = "variants" if "/ProductVariant/" in str(document.get("id")) else "media"
            parts[name].append(document)
            try:
                check_length(name, len(parts[name]))
            except ItemError as error:
                return ProductFailure(str(product["id"]), error.reason, error.message, product)
        return source_product(product, parts["variants"], parts["media"])


def _read(line: bytes) -> dict[str, Any]:
    """A stored line's object, without the name of its parent, which is the bulk result's own."""
    document: dict[str, Any] = read_json(line)
    document.pop("__parentId", None)
    return document


def _has_id(product: dict[str, Any]) -> bool:
    return isinstance(product.get("id"), str) and bool(product["id"].strip())


def _nameless(number: int, product: dict[str, Any]) -> ProductFailure:
    message = "The product can't be read: it has no id."
    return ProductFailure(f"number {number} of the bulk result", NO_EXTERNAL_ID, message, product)


def _empty_database() -> sqlite3.Connection:
    database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
    # Of what is added nothing has to be journalled; without any journal a failed batch could not be undone.
    database.execute("PRAGMA journal_mode = MEMORY")
    database.execute("PRAGMA synchronous = OFF")
    database.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    database.executescript(_SCHEMA)
    return database


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    database.execute("BEGIN")
    try:
        yield database
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _key(external_id: object) -> bytes:
    return str(external_id).encode("utf-8", "surrogatepass")
