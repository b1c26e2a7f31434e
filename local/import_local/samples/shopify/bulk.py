"""Bulk operations: one query run over the whole catalogue in the background, its result a JSONL file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from import_local.samples.catalogue.expected import product_gid
from import_local.samples.catalogue.live import LiveCatalogue
from import_local.samples.catalogue.model import Product
from import_local.samples.shopify.cost import node_fields
from import_local.samples.shopify.parser import parse
from import_local.samples.shopify.plan import PlannedField, plan_request
from import_local.samples.shopify.render import Renderer
from import_local.samples.shopify.resolvers import Record, Shop, media_nodes, moment, variant_nodes
from import_local.samples.shopify.search import Search, parse_search
from import_local.samples.shopify.syntax import GraphQLSyntaxError

OPERATIONS_KEPT = 20
MAX_CONNECTIONS = 5
RUNNING = frozenset({"CREATED", "RUNNING", "CANCELING"})


@dataclass(slots=True)
class Operation:
    """One bulk operation. Sizes are bytes; `file` exists once it is completed or failed with data."""

    number: int
    query: str
    base_url: str
    file: Path
    created_at: datetime
    status: str = "CREATED"
    error_code: str | None = None
    completed_at: datetime | None = None
    objects: int = 0
    roots: int = 0
    size: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def gid(self) -> str:
        """The operation's global id."""
        return f"gid://shopify/BulkOperation/{self.number}"

    def record(self, shop: str) -> Record:
        """Return the operation's fields as the schema names them."""
        address = f"{self.base_url}/shopify/{shop}/bulk/{self.file.name}" if self.objects else None
        return {
            "__typename": "BulkOperation",
            "id": self.gid,
            "type": "QUERY",
            "status": self.status,
            "errorCode": self.error_code,
            "createdAt": moment(self.created_at),
            "completedAt": moment(self.completed_at) if self.completed_at else None,
            "query": self.query,
            "objectCount": str(self.objects),
            "rootObjectCount": str(self.roots),
            "fileSize": None if self.size is None else str(self.size),
            "url": address if self.status == "COMPLETED" else None,
            "partialDataUrl": address if self.status in {"FAILED", "CANCELED"} else None,
        }


class BulkOperations:
    """The bulk operations of one shop, at most one at a time. The newest twenty can be asked for.

    `mode`, `seconds` (the least duration) and `distance` (see `lines_of`) are set before each request.
    """

    def __init__(self, catalogue: LiveCatalogue, folder: Callable[[], Path]) -> None:
        self.mode = "complete"
        self.seconds = 0.0
        self.distance = 0
        self.base_url = ""
        self._catalogue = catalogue
        self._folder = folder
        self._operations: OrderedDict[str, Operation] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0

    def run(self, query: str, *, grouped: bool) -> Record:
        """Start an operation, or say in `userErrors` why it can't be; `grouped`: children follow directly."""
        newest = next(reversed(self._operations.values()), None)
        if newest is not None and newest.status in RUNNING:
            message = f"A bulk query operation for this app and shop is already in progress: {newest.gid}."
            return self._payload("RunQuery", None, message, "OPERATION_IN_PROGRESS")
        try:
            connection = checked_connection(query)
        except ValueError as error:
            return self._payload("RunQuery", None, str(error), "INVALID")
        self._last += 1
        file = self._folder() / f"bulk-{self._catalogue.name}-{self._last}.jsonl"
        operation = Operation(self._last, query, self.base_url, file, datetime.now(UTC))
        self._operations[operation.gid] = operation
        if len(self._operations) > OPERATIONS_KEPT:
            _, old = self._operations.popitem(last=False)
            old.file.unlink(missing_ok=True)
        task = asyncio.create_task(self._work(operation, connection, 0 if grouped else self.distance))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return self._payload("RunQuery", operation)

    def cancel(self, gid: str) -> Record:
        """Cancel a running operation."""
        operation = self._operations.get(gid)
        if operation is None:
            return self._payload("Cancel", None, "Bulk operation does not exist", "INVALID")
        if operation.status not in RUNNING:
            message = f"A bulk operation cannot be canceled when it is {operation.status.lower()}"
            return self._payload("Cancel", operation, message, "INVALID")
        operation.status = "CANCELING"
        operation.stop.set()
        operation.stopped.set()
        return self._payload("Cancel", operation)

    def current(self) -> Record | None:
        """Return the newest operation."""
        newest = next(reversed(self._operations.values()), None)
        return newest.record(self._catalogue.name) if newest else None

    def find(self, gid: str) -> Record | None:
        """Return the operation of a global id."""
        operation = self._operations.get(gid)
        return operation.record(self._catalogue.name) if operation else None

    def file(self, name: str) -> Path | None:
        """Return the result file of that name, if it is one of this shop's."""
        files = (operation.file for operation in self._operations.values() if operation.size is not None)
        return next((file for file in files if file.name == name), None)

    async def close(self) -> None:
        """Stop what runs and wait for it."""
        for operation in self._operations.values():
            operation.stop.set()
            operation.stopped.set()
        await asyncio.gather(*self._tasks)

    def _payload(
        self, action: str, operation: Operation | None, message: str | None = None, code: str | None = None
    ) -> Record:
        kind = f"BulkOperation{action}Payload"
        record = operation.record(self._catalogue.name) if operation else None
        field_name = None if code == "OPERATION_IN_PROGRESS" else ["query"]
        user_error = {"__typename": "UserError", "field": field_name, "message": message, "code": code}
        return {
            "__typename": kind,
            "bulkOperation": record,
            "userErrors": [user_error] if message else [],
        }

    async def _work(self, operation: Operation, connection: PlannedField, distance: int) -> None:
        mode, seconds = self.mode, self.seconds
        operation.status = "RUNNING"
        shop = Shop(self._catalogue.name, self._catalogue, operation.base_url)
        if mode == "stall":
            await operation.stopped.wait()
        elif seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(operation.stopped.wait(), seconds)
        products = self._catalogue.count()
        limit = products // 2 if mode == "fail" else products
        await asyncio.to_thread(write_result, operation, connection, shop, limit, distance)
        operation.completed_at = datetime.now(UTC)
        operation.size = operation.file.stat().st_size
        if operation.stop.is_set():
            operation.status = "CANCELED"
        elif mode == "fail":
            operation.status, operation.error_code = "FAILED", "INTERNAL_SERVER_ERROR"
        else:
            operation.status = "COMPLETED"


def checked_connection(query: str) -> PlannedField:
    """Return the one connection of a bulk query; ValueError says which of Shopify's rules it breaks."""
    try:
        plan = plan_request(parse(query), None, {}, bulk=True)
    except GraphQLSyntaxError as error:
        raise ValueError(f"Invalid bulk query: {error}") from error
    if plan.errors:
        raise ValueError(f"Invalid bulk query: {plan.errors[0]['message']}")
    if plan.kind != "query" or len(plan.fields) != 1 or plan.fields[0].name != "products":
        raise ValueError(
            "Bulk queries must contain exactly one top-level connection, which is products here."
        )
    connection = plan.fields[0]
    nested = [child for child in node_fields(connection) if child.returns.connection]
    deeper = [child for one in nested for child in node_fields(one) if child.returns.connection]
    if 1 + len(nested) + len(deeper) > MAX_CONNECTIONS:
        raise ValueError(f"Bulk queries cannot contain more than {MAX_CONNECTIONS} connections.")
    if nested and not any(child.name == "id" for child in node_fields(connection)):
        raise ValueError("The parent 'node' field for a nested connection must select the 'id' field.")
    return connection


def lines_of(connection: PlannedField, shop: Shop, limit: int, distance: int) -> Iterator[tuple[bool, str]]:
    """Yield (is a product, JSON line) of a bulk result, at most `limit` products.

    Children come after their parent, as Shopify promises, but not directly: those of a product stand behind
    the `distance` products that follow it.
    """
    search = parse_search(str(connection.arguments.get("query", "")))
    fields = node_fields(connection)
    own = tuple(one for one in fields if not one.returns.connection)
    nested = [one for one in fields if one.returns.connection]
    renderer = Renderer(shop)
    waiting: deque[list[str]] = deque()
    for product in _found(shop.catalogue, search, limit):
        yield True, _line(renderer.fields(own, product, []))
        waiting.append([line for one in nested for line in _children(renderer, one, product)])
        if len(waiting) > distance:
            yield from ((False, line) for line in waiting.popleft())
    for lines in waiting:
        yield from ((False, line) for line in lines)


def _found(catalogue: LiveCatalogue, search: Search, limit: int) -> Iterator[Product]:
    for _, index in catalogue.order("ID")[:limit]:
        product = catalogue.product(index) if search.matches(catalogue, index) else None
        if product is not None:
            yield product


def _children(renderer: Renderer, one: PlannedField, product: Product) -> Iterator[str]:
    items: list[Any] = [*variant_nodes(product)] if one.name == "variants" else [*media_nodes(product)]
    for item in items:
        answer = renderer.fields(tuple(node_fields(one)), item, [])
        yield _line({**answer, "__parentId": product_gid(product.number)})


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def write_result(
    operation: Operation, connection: PlannedField, shop: Shop, limit: int, distance: int
) -> None:
    """Write the result file line by line and count objects as it goes; ends early when `stop` is set."""
    with operation.file.open("w", encoding="utf-8") as file:
        for root, line in lines_of(connection, shop, limit, distance):
            if operation.stop.is_set():
                break
            file.write(line)
            operation.objects += 1
            operation.roots += root
