"""Shopify's cost accounting: what a request may cost, and the bucket of points that restores with time.

Source of the rules: shopify.dev, "GraphQL Admin API rate limits". Scalars cost 0, an object 1, an interface
the dearest of its kinds, a connection 2 and each of its nodes what the node costs, a mutation 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from import_local.samples.shopify.plan import Plan, PlannedField
from import_local.samples.shopify.schema import SCALARS, TYPES

MAX_QUERY_COST = 1_000
CONNECTION_COST = 2
MUTATION_COST = 10


def requested_cost(plan: Plan) -> int:
    """Return the most points that the plan can cost, each page full."""
    if plan.kind == "mutation":
        return MUTATION_COST * len(plan.fields)
    return sum(_field_cost(field) for field in plan.fields)


def node_fields(connection: PlannedField) -> list[PlannedField]:
    """Return the fields asked of a connection's nodes, by `nodes` and by `edges { node }`."""
    fields: list[PlannedField] = []
    for child in connection.children:
        if child.name == "nodes":
            fields.extend(child.children)
        elif child.name == "edges":
            fields.extend(field for edge in child.children if edge.name == "node" for field in edge.children)
    return fields


def page_size(field: PlannedField) -> int:
    """Return how many nodes a connection's field asks for."""
    return int(field.arguments.get("first") or field.arguments.get("last") or 0)


def _field_cost(field: PlannedField) -> int:
    if field.returns.connection:
        node = TYPES[field.returns.type_name].fields["nodes"].type_name
        return CONNECTION_COST + page_size(field) * (1 + _selection_cost(node_fields(field), node))
    if field.returns.type_name in SCALARS:
        return 0
    count = len(field.arguments["ids"]) if field.name == "nodes" and "ids" in field.arguments else 1
    return count * (1 + _selection_cost(field.children, field.returns.type_name))


def _selection_cost(fields: Iterable[PlannedField], type_name: str) -> int:
    fields = list(fields)
    kinds = TYPES[type_name].kinds or (type_name,)
    return max(
        sum(_field_cost(field) for field in fields if field.only is None or kind in field.only)
        for kind in kinds
    )


@dataclass(slots=True)
class PointBucket:
    """A bucket of points: `maximum` at most, restoring `rate` points a second. Times are monotonic seconds."""

    maximum: float
    rate: float
    available: float
    at: float

    def refill(self, now: float) -> None:
        """Add what was restored since the last look."""
        self.available = min(self.maximum, self.available + max(0.0, now - self.at) * self.rate)
        self.at = now

    def take(self, points: float, now: float) -> bool:
        """Take the points, or leave the bucket as it is and say False if it has too few."""
        self.refill(now)
        if points > self.available:
            return False
        self.available -= points
        return True

    def give_back(self, points: float) -> None:
        """Return points that were requested but not used."""
        self.available = min(self.maximum, self.available + points)

    def status(self) -> dict[str, float]:
        """Return `throttleStatus` as Shopify writes it."""
        return {
            "maximumAvailable": float(self.maximum),
            "currentlyAvailable": math.floor(self.available),
            "restoreRate": float(self.rate),
        }


def cost_extension(requested: int, actual: int | None, bucket: PointBucket) -> dict[str, Any]:
    """Return the `cost` entry of an answer's extensions; `actual` is None where nothing was executed."""
    return {
        "requestedQueryCost": requested,
        "actualQueryCost": actual,
        "throttleStatus": bucket.status(),
    }
