"""Whom a pause may name, before any server is asked."""

from typing import Any

import pytest

from import_cli.finding import need_provider
from import_cli.pause_commands import What
from import_cli.sources import UsageError


@pytest.mark.parametrize(
    "what",
    [
        What("product-imports", queue_option="other"),
        What("product-imports", company="acme"),
        What(queue_option="product-imports", provider="acme-shopify"),
        What(company="acme", provider="acme-shopify"),
    ],
)
def test_two_at_once_are_refused(what: What) -> None:
    with pytest.raises(UsageError, match="not several of them"):
        what.scope("imports")


def test_one_is_that_one() -> None:
    assert What(queue_option="product-imports").scope("imports") is None
    assert What(company="acme").scope("imports") == ("company", "", "acme")
    assert What(provider="acme-shopify").scope("imports") == ("provider", "imports", "acme-shopify")


class Kube:
    namespace = "imports"

    def __init__(self, *names: str) -> None:
        self.kube: Any = self
        self._names = names

    async def get(self, _kind: Any, _namespace: str, name: str) -> dict[str, Any] | None:
        return {"metadata": {"name": name}} if name in self._names else None


async def test_a_provider_has_to_exist() -> None:
    sources: Any = Kube("acme-shopify")
    await need_provider(sources, "acme-shopify")
    for name in ("acme-shopfy", "no name\n"):
        with pytest.raises(UsageError, match="There is no ImportProvider"):
            await need_provider(sources, name)
