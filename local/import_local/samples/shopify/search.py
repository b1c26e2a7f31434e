"""Shopify's search syntax, as far as product imports use it: `updated_at:>'2026-01-01T00:00:00Z' status:active`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from import_local.samples.catalogue.live import LiveCatalogue
from import_local.samples.catalogue.model import Product

TERM = re.compile(r"""(?:(?P<field>[a-z_]+):(?P<compare>>=|<=|>|<)?)?(?P<value>'[^']*'|"[^"]*"|[^\s'"]+)""")
COMPARISONS: dict[str | None, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    None: operator.eq,
}
TEXTS: dict[str, Callable[[Product], tuple[str, ...]]] = {
    "title": lambda product: (product.title,),
    "handle": lambda product: (product.handle,),
    "vendor": lambda product: (product.vendor,),
    "product_type": lambda product: (product.product_type,),
    "status": lambda product: (product.status,),
    "tag": lambda product: product.tags,
    "sku": lambda product: tuple(variant.sku for variant in product.variants),
    "id": lambda product: (str(product.number),),
}
Test = Callable[[LiveCatalogue, int], bool]


@dataclass(slots=True)
class Search:
    """A parsed search: all tests must hold; warnings name the terms that were ignored, as Shopify does."""

    tests: list[Test] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)

    def matches(self, catalogue: LiveCatalogue, index: int) -> bool:
        """Say whether product `index` is found."""
        return all(test(catalogue, index) for test in self.tests)


def parse_search(text: str) -> Search:
    """Return the search for `text`; a term that is not understood is ignored with a warning."""
    search = Search()
    for match in TERM.finditer(text):
        name, compare, value = match["field"], match["compare"], match["value"].strip("'\"")
        if name is None and value == "AND":
            continue
        if name is None:
            search.tests.append(_text_test("title", value, part=True))
        elif name in {"updated_at", "created_at"}:
            moment = _moment(value)
            if moment is None:
                search.warnings.append(_warning(name, "Input `" + value + "` is not an accepted value."))
            else:
                search.tests.append(_time_test(name, COMPARISONS[compare], moment))
        elif name in TEXTS and compare is None:
            search.tests.append(_text_test(name, value, part=False))
        elif name == "id" and value.isdigit():
            search.tests.append(_number_test(COMPARISONS[compare], int(value)))
        else:
            search.warnings.append(_warning(name, "Invalid search field for this query."))
    return search


def _warning(name: str, message: str) -> dict[str, str]:
    code = "invalid_field" if message.startswith("Invalid") else "invalid_value"
    return {"field": name, "message": message, "code": code}


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _time_test(name: str, compare: Callable[[Any, Any], bool], moment: datetime) -> Test:
    def test(catalogue: LiveCatalogue, index: int) -> bool:
        if name == "updated_at":
            return compare(catalogue.updated_at(index), moment)
        product = catalogue.product(index)
        return product is not None and compare(product.created_at, moment)

    return test


def _number_test(compare: Callable[[Any, Any], bool], number: int) -> Test:
    def test(catalogue: LiveCatalogue, index: int) -> bool:
        product = catalogue.product(index)
        return product is not None and compare(product.number, number)

    return test


def _text_test(name: str, value: str, *, part: bool) -> Test:
    wanted = value.casefold() if part else {item.casefold() for item in value.split(",")}

    def test(catalogue: LiveCatalogue, index: int) -> bool:
        product = catalogue.product(index)
        if product is None:
            return False
        texts = [text.casefold() for text in TEXTS[name](product)]
        if isinstance(wanted, str):
            return any(wanted in text for text in texts)
        return any(text in wanted for text in texts)

    return test
