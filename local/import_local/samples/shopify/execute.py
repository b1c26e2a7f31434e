"""Executes a plan: walks the planned fields over the shop's objects and counts what they cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from import_local.samples.catalogue.model import Product
from import_local.samples.shopify.connections import Page, page_of_products
from import_local.samples.shopify.cost import MUTATION_COST
from import_local.samples.shopify.plan import Error, Plan, PlannedField, error_at
from import_local.samples.shopify.render import Renderer
from import_local.samples.shopify.resolvers import Record, Shop, find_node
from import_local.samples.shopify.search import Search, parse_search

MAX_IDS = 250
"""Most values of any input array (shopify.dev, changelog "GraphQL input objects limited to 250 items")."""
GLOBAL_ID = re.compile(r"gid://shopify/\w+/[\w-]+")


class BulkOperations(Protocol):
    """What the executor needs of the shop's bulk operations; records have the fields of BulkOperation."""

    def run(self, query: str, *, grouped: bool) -> Record:
        """Start an operation; returns the mutation's payload."""
        ...

    def cancel(self, gid: str) -> Record:
        """Cancel an operation; returns the mutation's payload."""
        ...

    def current(self) -> Record | None:
        """Return the newest operation."""
        ...

    def find(self, gid: str) -> Record | None:
        """Return the operation of a global id."""
        ...


@dataclass(slots=True)
class Result:
    """The answer of a plan: data, errors, actual cost in points, and notes on the search syntax."""

    data: dict[str, Any] | None
    errors: list[Error] = field(default_factory=list)
    cost: int = 0
    search: list[dict[str, Any]] = field(default_factory=list)


def execute(plan: Plan, shop: Shop, bulk: BulkOperations) -> Result:
    """Return the answer to a plan without errors."""
    executor = Executor(shop, bulk)
    data = executor.root(plan)
    return Result(data, executor.errors, max(1, executor.cost), executor.search)


def _id_problem(one: PlannedField) -> str | None:
    """Say what is wrong with the ids asked for: one that is no global id refuses the query, as do too many."""
    ids = one.arguments.get("ids", [one.arguments["id"]] if "id" in one.arguments else [])
    if len(ids) > MAX_IDS:
        return f"The input array size of {len(ids)} is greater than the maximum allowed of {MAX_IDS}."
    wrong = next((gid for gid in ids if not GLOBAL_ID.fullmatch(str(gid))), None)
    return None if wrong is None else f"Invalid global id '{wrong}'"


class Executor(Renderer):
    """Answers the fields of the query's or mutation's root."""

    def __init__(self, shop: Shop, bulk: BulkOperations) -> None:
        super().__init__(shop)
        self.search: list[dict[str, Any]] = []
        self._bulk = bulk

    def root(self, plan: Plan) -> dict[str, Any] | None:
        """Answer the operation's own fields; None if one of them failed."""
        data: dict[str, Any] = {}
        for one in plan.fields:
            path = [one.key]
            if plan.kind == "mutation":
                self.cost += MUTATION_COST
                data[one.key] = self._free(one, self._mutation(one), path)
            elif one.returns.connection:
                data[one.key] = self.connection(one, self._products(one, path), path)
            elif (problem := _id_problem(one)) is not None:
                self.errors.append(error_at(problem, one.location, path, "INVALID_VARIABLE"))
            else:
                data[one.key] = self.value(one, self._query(one), path)
        return None if self.errors else data

    def _query(self, one: PlannedField) -> Any:
        answers: dict[str, Callable[[], Any]] = {
            "__typename": lambda: "QueryRoot",
            "shop": self._shop_record,
            "product": lambda: self._product(str(one.arguments["id"])),
            "productsCount": lambda: self._count(one),
            "node": lambda: self._node(str(one.arguments["id"])),
            "nodes": lambda: [self._node(str(gid)) for gid in one.arguments["ids"]],
            "currentBulkOperation": self._bulk.current,
            "bulkOperation": lambda: self._bulk.find(str(one.arguments["id"])),
        }
        return answers[one.name]()

    def _shop_record(self) -> Record:
        return {
            "__typename": "Shop",
            "id": "gid://shopify/Shop/1",
            "name": self.shop.name,
            "myshopifyDomain": f"{self.shop.name}.myshopify.com",
            "currencyCode": "USD",
        }

    def _product(self, gid: str) -> Product | None:
        found = find_node(gid, self.shop)
        return found if isinstance(found, Product) else None

    def _node(self, gid: str) -> Any:
        return self._bulk.find(gid) or find_node(gid, self.shop)

    def _mutation(self, one: PlannedField) -> Record:
        if one.name == "bulkOperationRunQuery":
            grouped = bool(one.arguments.get("groupObjects", False))
            return self._bulk.run(str(one.arguments["query"]), grouped=grouped)
        return self._bulk.cancel(str(one.arguments["id"]))

    def _count(self, one: PlannedField) -> Record:
        catalogue = self.shop.catalogue
        search = self._search(one, [one.key])
        number = (
            sum(search.matches(catalogue, index) for _, index in catalogue.order("ID"))
            if search.tests
            else catalogue.count()
        )
        limit = int(one.arguments.get("limit", 10_000))
        precision = "EXACT" if number <= limit else "AT_LEAST"
        return {"__typename": "Count", "count": min(number, limit), "precision": precision}

    def _search(self, one: PlannedField, path: list[str]) -> Search:
        text = str(one.arguments.get("query", ""))
        search = parse_search(text)
        if search.warnings:
            self.search.append({"path": path, "query": text, "warnings": search.warnings})
        return search

    def _products(self, one: PlannedField, path: list[str]) -> Page:
        search = self._search(one, path)
        return self.page(one, path, lambda: page_of_products(self.shop.catalogue, search, one.arguments))

    def _free(self, one: PlannedField, value: Record, path: list[str]) -> Any:
        before = self.cost
        answer = self.fields(one.children, value, path)
        self.cost = before
        return answer
