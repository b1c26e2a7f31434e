"""Keeps labels of metrics bounded: known words as they are, and everything else in one bucket."""

from __future__ import annotations

from import_core.domain.jobs import known_tier
from import_core.domain.resources.import_provider import ProviderType
from import_core.domain.steps import StepKind

OTHER = "other"
"""Stands for all values beyond those that are told apart."""
UNKNOWN = "unknown"
"""Stands for a value that was not found out."""
MOST_VALUES = 64
"""Objects of one kind (pools, queues) that are told apart by name."""

PROVIDERS = tuple(provider.value for provider in ProviderType)
STEPS = tuple(kind.value for kind in StepKind)
"""Kinds of step stand in the place of a provider's type where step jobs are counted."""


def provider_label(value: str | None) -> str:
    """The label of a provider's type: one that there is, `unknown` for none, else `other`."""
    if not value or value == UNKNOWN:
        return UNKNOWN
    return value if value in PROVIDERS or value in STEPS else OTHER


def tier_label(value: str | None) -> str:
    """The label of a company's tier; an unknown one is BASIC, as everywhere."""
    return known_tier(value).value


class BoundedNames:
    """Names of configured objects as labels: the first `most` that live at the same time, `other` for the rest.

    A name keeps its place until it is forgotten, so that no series changes its meaning.
    """

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        self._names: set[str] = set()

    def label(self, name: str) -> str:
        """The label that stands for the name."""
        if name in self._names:
            return name
        if len(self._names) >= self._most:
            return OTHER
        self._names.add(name)
        return name

    def forget_all_but(self, live: set[str]) -> set[str]:
        """Free the places of names that are gone; returns those, whose series should go as well."""
        gone = self._names - live
        self._names &= live
        return gone
