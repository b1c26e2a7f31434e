"""Groups a bulk result's children with their parents on disk, so that memory does not grow with it."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from typing import Any

from import_core.domain.products import SourceProduct
from import_worker.providers.shopify.documents import source_product

CACHE_KIBIBYTES = 8 * 1024
_SCHEMA = """
CREATE TABLE product (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, document TEXT NOT NULL);
CREATE TABLE child (position INTEGER PRIMARY KEY, parent TEXT NOT NULL, document TEXT NOT NULL);
"""


class Spool:
    """Lines of a bulk operation's JSONL; children need not follow their parent.

    The database is SQLite's own private temporary file: it has no name, so it is gone with the process
    however that ends. Its methods block; call them in a thread, and not after `close`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        self._database.executescript(_SCHEMA)

    def add(self, lines: Sequence[bytes]) -> None:
        """Store lines in order; raises ValueError for one that is no JSON object."""
        products: list[tuple[str, str]] = []
        children: list[tuple[str, str]] = []
        for line in lines:
            document = json.loads(line)
            if not isinstance(document, dict):
                raise ValueError("a line is no JSON object")  # noqa: TRY004 - the data is wrong, not the call
            parent = document.pop("__parentId", None)
            text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
            if parent is not None:
                children.append((str(parent), text))
            elif document.get("id"):
                products.append((str(document["id"]), text))
        with self._lock:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR IGNORE INTO product (id, document) VALUES (?, ?)", products)
            self._database.executemany("INSERT INTO child (parent, document) VALUES (?, ?)", children)
            self._database.execute("COMMIT")

    def clear(self) -> None:
        """Forget all lines, to start over after a broken download."""
        with self._lock:
            self._database.execute("DELETE FROM product")
            self._database.execute("DELETE FROM child")

    def finish(self) -> int:
        """Prepare for reading; returns the number of products."""
        with self._lock:
            self._database.execute("CREATE INDEX child_by_parent ON child (parent, position)")
            row = self._database.execute("SELECT count(*) FROM product").fetchone()
        return int(row[0])

    def page(self, index: int, size: int) -> list[SourceProduct]:
        """`size` products from number `index` on (from 0), in the result's order, with their children."""
        with self._lock:
            rows = self._database.execute(
                "SELECT id, document FROM product ORDER BY position LIMIT ? OFFSET ?", (size, index)
            ).fetchall()
            return [self._product(external_id, text) for external_id, text in rows]

    def close(self) -> None:
        """Delete everything."""
        with self._lock:
            self._database.close()

    def _product(self, external_id: str, text: str) -> SourceProduct:
        variants: list[dict[str, Any]] = []
        media: list[dict[str, Any]] = []
        for (child,) in self._database.execute(
            "SELECT document FROM child WHERE parent = ? ORDER BY position", (external_id,)
        ):
            document = json.loads(child)
            # Children don't say which connection they are of; their ids do. A video has no field of ours.
            if "/ProductVariant/" in str(document.get("id")):
                variants.append(document)
            else:
                media.append(document)
        return source_product(json.loads(text), variants, media)
