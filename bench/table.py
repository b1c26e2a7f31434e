"""Tables of the benchmarks: medians with their spread, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def median_of(values: Sequence[float]) -> str:
    """The median with the range, three significant digits."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def ratios_of(these: Sequence[float], those: Sequence[float]) -> list[float]:
    """Each of these divided by what was measured beside it."""
    return [one / other for one, other in zip(these, those, strict=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
