"""Whether one commit takes more CPU time than another: plain decisions on measured seconds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

THRESHOLD = 0.10
"""So much more CPU time counts: less than what a change of any weight costs, more than what neighbours do to a core."""


class Judgement(StrEnum):
    """What became of a part."""

    SAME = "same"
    SLOWER = "slower"
    FASTER = "faster"
    UNKNOWN = "not compared"
    """One of the sides lacks it, or it is called otherwise there."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A part on both sides: CPU seconds of each run, the n-th of one taken right beside the n-th of the other."""

    name: str
    base: Sequence[float]
    ours: Sequence[float]

    @property
    def of_pairs(self) -> float:
        """The median of the pairs' ratios: what slowed the machine for a while slowed both of a pair."""
        return statistics.median(ours / base for base, ours in zip(self.base, self.ours, strict=True))

    @property
    def of_least(self) -> float:
        """The ratio of the least times: a neighbour adds time to a run, and never takes any away."""
        return min(self.ours) / min(self.base)


def judge(comparison: Comparison, *, threshold: float = THRESHOLD) -> Judgement:
    """Both measures must agree that it is slower, or faster, by more than `threshold` (0.1 is 10 %)."""
    if not comparison.base or not comparison.ours:
        return Judgement.UNKNOWN
    measures = (comparison.of_pairs, comparison.of_least)
    if min(measures) > 1.0 + threshold:
        return Judgement.SLOWER
    if max(measures) < 1.0 / (1.0 + threshold):
        return Judgement.FASTER
    return Judgement.SAME


def suspects(comparisons: Sequence[Comparison], *, threshold: float = THRESHOLD) -> list[str]:
    """The parts to measure once more before anybody is told."""
    return [each.name for each in comparisons if judge(each, threshold=threshold) is Judgement.SLOWER]


def choose_base(asked: str, *, head: str, main: str | None, changed: bool) -> str:
    """The revision to compare with.

    `asked` by name, or else where the branch left `main`, or the last commit where the work tree has changes that are
    not committed, or the commit before it. `head` and `main` (where the branch left it) are ids of commits.
    """
    if asked:
        return asked
    if main is not None and main != head:
        return main
    return "HEAD" if changed else "HEAD~1"
