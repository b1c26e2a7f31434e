"""The price list: infra/prices.yaml, read and checked. Every price says its unit, its source, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from infra.cost.units import CostError, Price, Unit

PRICES_FILE = Path(__file__).parents[1] / "prices.yaml"


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of one region, by name, and its shares: dollars for each dollar of an instance's price."""

    region: str
    taken: date
    prices: Mapping[str, Price]
    automatic_nodes_share: float
    spot_discount: float
    sources: Mapping[str, str]

    def price(self, name: str) -> Price:
        """The price of a thing; raise CostError that names the file's entry to add."""
        try:
            return self.prices[name]
        except KeyError:
            raise CostError(
                f"infra/prices.yaml has no price {name!r} in {self.region}; add it there"
            ) from None


def read_prices(region: str, *, path: Path = PRICES_FILE) -> PriceList:
    """Read one region's prices; raise CostError where the file has none or an entry is incomplete."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    regions = document["regions"]
    if region not in regions:
        raise CostError(
            f"infra/prices.yaml has no prices for {region}, only for {', '.join(regions)};"
            " name one of those with --region, or add yours"
        )
    sources = document["sources"]
    entries = dict(regions[region])
    ratios = entries.pop("ratios")
    return PriceList(
        region=region,
        taken=document["taken"],
        prices={name: _price(name, entry, sources) for name, entry in entries.items()},
        automatic_nodes_share=_share("auto_mode", ratios),
        spot_discount=_share("spot_discount", ratios),
        sources=sources,
    )


def _share(name: str, ratios: Mapping[str, Any]) -> float:
    value = ratios.get(name)
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise CostError(f"infra/prices.yaml, ratios, {name}: give a share between 0 and 1, not {value!r}")
    return float(value)


def _price(name: str, entry: Mapping[str, Any], sources: Mapping[str, Any]) -> Price:
    where = f"infra/prices.yaml, {name}"
    unknown = set(entry) - {"dollars", "per", "source", "verified", "note"}
    if unknown or not {"dollars", "per", "source", "verified"} <= set(entry):
        raise CostError(
            f"{where}: give dollars, per, source and verified (and a note); found {sorted(entry)}"
        )
    if entry["source"] not in sources:
        raise CostError(f"{where}: source {entry['source']!r} is not under sources")
    if entry["per"] not in set(Unit):
        raise CostError(f"{where}: per {entry['per']!r} is none of {', '.join(Unit)}")
    if (
        isinstance(entry["dollars"], bool)
        or not isinstance(entry["dollars"], (int, float))
        or entry["dollars"] < 0
    ):
        raise CostError(f"{where}: dollars must be a number, 0 or more")
    return Price(float(entry["dollars"]), Unit(entry["per"]), entry["source"], bool(entry["verified"]))
