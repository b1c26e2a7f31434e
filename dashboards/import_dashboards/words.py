"""Values as people read them, by Grafana's word for their unit."""

from __future__ import annotations

import math

_SECONDS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"), (0.000_001, "µs"))
_THOUSANDS = ((1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, ""))
_BYTES = ((2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB"), (1.0, " B"))
_SUFFIXES = {"reqps": "/s", "ops": "/s"}


def in_words(value: float, unit: str) -> str:
    """The value with its unit, in three digits."""
    if math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{_digits(value * 100)} %"
    if unit == "s":
        return _scaled(value, _SECONDS, " ")
    if unit == "bytes":
        return _scaled(value, _BYTES)
    return _scaled(value, _THOUSANDS) + _SUFFIXES.get(unit, "")


def _scaled(value: float, steps: tuple[tuple[float, str], ...], space: str = "") -> str:
    if value == 0:
        return "0"
    for size, name in steps:
        if abs(value) >= size:
            return f"{_digits(value / size)}{space}{name}"
    size, name = steps[-1]
    return f"{_digits(value / size)}{space}{name}"


def _digits(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
