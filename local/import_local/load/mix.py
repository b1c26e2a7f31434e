"""Which imports a load test submits: how many of which size, of which provider, and for which tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from import_core.domain.jobs import Tier
from import_local.samples.catalogue.expected import Provider

SMALL_PRODUCTS = 100
"""Jobs under so many products are promised within five minutes."""
ROASTIFY_EVERY = 4
"""Every so many small imports use Roastify, which takes one call for each product."""
TIERS = (Tier.ENTERPRISE, *[Tier.PRO] * 3, *[Tier.BASIC] * 6)
"""The tiers of ten companies in a row."""


@dataclass(frozen=True, slots=True)
class SizeShare:
    """So many of a thousand imports have catalogues of `products`, each product with `images`."""

    products: int
    images: int
    per_thousand: int


SIZES = (SizeShare(10, 1, 940), SizeShare(100, 1, 50), SizeShare(1_000, 0, 10))


@dataclass(frozen=True, slots=True)
class PlannedImport:
    """One import: a company with one connection to one sample catalogue of its own."""

    name: str
    """Of the ImportJob, the ImportProvider, the Secret and the company."""
    provider: Provider
    products: int
    images: int
    """Of the whole catalogue."""
    tier: Tier
    shop: str

    @property
    def is_small(self) -> bool:
        """Whether it is promised within five minutes."""
        return self.products < SMALL_PRODUCTS


def plan_imports(jobs: int, sizes: Sequence[SizeShare] = SIZES) -> tuple[PlannedImport, ...]:
    """`jobs` imports, the sizes in their shares and evenly mixed. ValueError below one job.

    The shares hold as near as whole numbers allow, for a short run too: every size comes first where it is due most.
    """
    if jobs < 1:
        raise ValueError(f"a load of {jobs} imports is none")
    total = sum(size.per_thousand for size in sizes)
    taken: Counter[SizeShare] = Counter()
    planned: list[PlannedImport] = []
    for number in range(jobs):
        due = max(sizes, key=lambda size: size.per_thousand * (number + 1) / total - taken[size])
        taken[due] += 1
        small = due.products < SMALL_PRODUCTS
        provider: Provider = "roastify" if small and number % ROASTIFY_EVERY == 3 else "shopify"
        planned.append(
            PlannedImport(
                name=f"load-{number:05d}",
                provider=provider,
                products=due.products,
                images=due.products * due.images,
                tier=TIERS[number % len(TIERS)],
                shop=f"tiny-{due.products}-{due.images}-load{number}",
            )
        )
    return tuple(planned)


@dataclass(frozen=True, slots=True)
class MixLine:
    """One size's share of a load."""

    products: int
    jobs: int
    all_products: int
    all_images: int


def describe_mix(planned: Sequence[PlannedImport]) -> tuple[MixLine, ...]:
    """The load by size, the smallest first."""
    sizes = sorted({each.products for each in planned})
    return tuple(
        MixLine(
            size,
            sum(1 for each in planned if each.products == size),
            sum(each.products for each in planned if each.products == size),
            sum(each.images for each in planned if each.products == size),
        )
        for size in sizes
    )
