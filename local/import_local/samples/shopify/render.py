"""Renders objects by their planned fields, nested connections included, and counts what that costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from import_local.samples.catalogue.model import Product
from import_local.samples.shopify.connections import CursorError, Page, page_of_list
from import_local.samples.shopify.cost import CONNECTION_COST
from import_local.samples.shopify.plan import Error, PlannedField, error_at
from import_local.samples.shopify.resolvers import Shop, media_nodes, resolve, type_of, variant_nodes
from import_local.samples.shopify.schema import SCALARS


class Renderer:
    """Answers planned fields over one shop's objects; `cost` and `errors` add up meanwhile."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.errors: list[Error] = []
        self.cost = 0

    def page(self, one: PlannedField, path: list[str], read: Callable[[], Page]) -> Page:
        """Return the page that `read` gives, or an empty one and an error for a wrong cursor."""
        try:
            return read()
        except CursorError as error:
            self.errors.append(error_at(str(error), one.location, path, "BAD_REQUEST"))
            return Page([], [], False, False)

    def connection(self, one: PlannedField, page: Page, path: list[str]) -> dict[str, Any]:
        """Return a connection's answer."""
        self.cost += CONNECTION_COST + len(page.nodes)
        answer: dict[str, Any] = {}
        for child in one.children:
            match child.name:
                case "nodes":
                    answer[child.key] = [self.fields(child.children, node, path) for node in page.nodes]
                case "edges":
                    answer[child.key] = [
                        self._edge(child.children, node, cursor, path)
                        for node, cursor in zip(page.nodes, page.cursors, strict=True)
                    ]
                case "pageInfo":
                    info = {
                        "__typename": "PageInfo",
                        "hasNextPage": page.has_next,
                        "hasPreviousPage": page.has_previous,
                        "startCursor": page.cursors[0] if page.cursors else None,
                        "endCursor": page.cursors[-1] if page.cursors else None,
                    }
                    answer[child.key] = self.fields(child.children, info, path)
                case _:
                    answer[child.key] = one.returns.type_name
        return answer

    def _edge(
        self, children: tuple[PlannedField, ...], node: Any, cursor: str, path: list[str]
    ) -> dict[str, Any]:
        edge: dict[str, Any] = {}
        for child in children:
            if child.name == "node":
                edge[child.key] = self.fields(child.children, node, path)
            else:
                edge[child.key] = cursor if child.name == "cursor" else child.parent
        return edge

    def fields(self, children: tuple[PlannedField, ...], value: Any, path: list[str]) -> dict[str, Any]:
        """Return an object's answer: only the fields asked for, and only those of its own type."""
        kind = type_of(value)
        answer: dict[str, Any] = {}
        for child in children:
            if child.only is not None and kind not in child.only:
                continue
            here = [*path, child.key]
            if child.name == "__typename":
                answer[child.key] = kind
            elif child.returns.connection:
                answer[child.key] = self.connection(child, self._nested(child, value, here), here)
            else:
                answer[child.key] = self.value(child, resolve(value, child.name, self.shop), here)
        return answer

    def _nested(self, one: PlannedField, product: Product, path: list[str]) -> Page:
        if one.name == "variants":
            numbers = [variant.number for variant in product.variants]
            variants = variant_nodes(product)
            return self.page(one, path, lambda: page_of_list(variants, numbers, one.arguments))
        media = media_nodes(product)
        numbers = [image.number for image in product.images]
        return self.page(one, path, lambda: page_of_list(media, numbers, one.arguments))

    def value(self, one: PlannedField, value: Any, path: list[str]) -> Any:
        """Return a field's answer from the value that its resolver gave."""
        if one.returns.type_name in SCALARS or value is None:
            return value
        if isinstance(value, list):
            # A list of small objects costs what one of them costs; only `nodes` is counted by item.
            self.cost += sum(item is not None for item in value) if one.name == "nodes" else bool(value)
            return [None if item is None else self.fields(one.children, item, path) for item in value]
        self.cost += 1
        return self.fields(one.children, value, path)
