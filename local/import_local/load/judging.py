"""Judges a load test and a soak: what was promised, and whether anything grows that should not. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from import_core.domain.simulation.outcome import percentile
from import_local.load.mix import SMALL_PRODUCTS, PlannedImport
from import_local.load.timeline import (
    MEBIBYTE,
    ProcessSample,
    Sample,
    Series,
    series_of,
    series_of_processes,
)

PROMISED_SECONDS = 300.0
"""Jobs under SMALL_PRODUCTS are to be done so soon after they were accepted."""
PROMISED_SHARE = 0.95
SUCCESS_SHARE = 0.99


@dataclass(frozen=True, slots=True)
class EndedImport:
    """What became of one import; seconds from its acceptance by the API server. None: not yet."""

    plan: PlannedImport
    state: str | None
    started_after: float | None
    ended_after: float | None
    item_errors: int = 0
    attempts: int = 0
    message: str | None = None


@dataclass(frozen=True, slots=True)
class SizeResult:
    """What became of the imports of one size; seconds."""

    products: int
    jobs: int
    succeeded: int
    waited_p50: float
    done_p50: float
    done_p95: float
    done_last: float


@dataclass(frozen=True, slots=True)
class LoadVerdict:
    """A load test's figures beside what is promised."""

    jobs: int
    succeeded: int
    failed: int
    unfinished: int
    small: int
    small_in_time: int
    seconds: float
    """From the first acceptance to the last end."""
    sizes: tuple[SizeResult, ...]

    @property
    def success_share(self) -> float:
        """Of all imports, those that succeeded."""
        return self.succeeded / self.jobs if self.jobs else 0.0

    @property
    def in_time_share(self) -> float:
        """Of the small imports, those done in time; 1 where there is none."""
        return self.small_in_time / self.small if self.small else 1.0

    def findings(self) -> tuple[str, ...]:
        """What is not as promised, in words."""
        found = []
        if self.unfinished:
            found.append(f"{self.unfinished} imports have not ended")
        if self.success_share < SUCCESS_SHARE:
            found.append(
                f"{self.success_share:.1%} of the imports succeeded, {SUCCESS_SHARE:.0%} is promised"
            )
        if self.in_time_share < PROMISED_SHARE:
            found.append(
                f"{self.in_time_share:.1%} of the imports under {SMALL_PRODUCTS} products were done within"
                f" {PROMISED_SECONDS:.0f} s, {PROMISED_SHARE:.0%} is the target of a fleet that may grow"
            )
        return tuple(found)


def judge_load(ended: Sequence[EndedImport], *, seconds: float) -> LoadVerdict:
    """Count what became of the imports."""
    small = [each for each in ended if each.plan.is_small]
    in_time = [
        each
        for each in small
        if each.state == "COMPLETED" and each.ended_after is not None and each.ended_after <= PROMISED_SECONDS
    ]
    return LoadVerdict(
        jobs=len(ended),
        succeeded=sum(1 for each in ended if each.state == "COMPLETED"),
        failed=sum(1 for each in ended if each.state in {"FAILED", "CANCELLED"}),
        unfinished=sum(1 for each in ended if each.ended_after is None),
        small=len(small),
        small_in_time=len(in_time),
        seconds=seconds,
        sizes=tuple(_of_size(ended, size) for size in sorted({each.plan.products for each in ended})),
    )


def _of_size(ended: Sequence[EndedImport], products: int) -> SizeResult:
    own = [each for each in ended if each.plan.products == products]
    done = sorted(each.ended_after for each in own if each.ended_after is not None)
    waited = sorted(each.started_after for each in own if each.started_after is not None)
    return SizeResult(
        products,
        len(own),
        sum(1 for each in own if each.state == "COMPLETED"),
        percentile(waited, 50),
        percentile(done, 50),
        percentile(done, 95),
        done[-1] if done else 0.0,
    )


@dataclass(frozen=True, slots=True)
class ScalingResponse:
    """How the fleet answered a load; seconds from the moment when the depth first asked for more workers."""

    before: int
    most: int
    decided: float | None
    """Until the operator asked for more workers than there were."""
    all_ready: float | None
    """Until as many workers were ready as there ever were."""


def scaling_response(samples: Sequence[Sample], *, jobs_per_worker: int) -> ScalingResponse | None:
    """Read it off the samples, so to their interval; None where the depth never asked for more."""
    known = [each for each in samples if each.ready is not None and each.desired is not None]
    before = known[0].ready if known else None
    if before is None:
        return None
    needed = next(
        (each.at for each in samples if each.depth is not None and each.depth > before * jobs_per_worker),
        None,
    )
    if needed is None:
        return None
    most = max(each.ready or 0 for each in known)
    decided = next((each.at for each in known if each.at >= needed and (each.desired or 0) > before), None)
    ready = next((each.at for each in known if each.at >= needed and each.ready == most), None)
    return ScalingResponse(
        before,
        most,
        None if decided is None else decided - needed,
        None if ready is None or most <= before else ready - needed,
    )


@dataclass(frozen=True, slots=True)
class Bound:
    """How much a value may grow over the whole time that is judged, in its own unit and as a share of its beginning.

    Growth within either is none: a cache that fills and an allocator that keeps pages are no leaks.
    """

    growth: float
    share: float


MEMORY_BOUND = Bound(growth=24 * MEBIBYTE, share=0.15)
CONNECTIONS_BOUND = Bound(growth=3, share=0.25)
ALL_CONNECTIONS_BOUND = Bound(growth=12, share=0.25)
"""Of all processes: their peaks may fall together."""
FILES_BOUND = Bound(growth=16, share=0.25)
REDIS_BYTES_BOUND = Bound(growth=2 * MEBIBYTE, share=0.25)
REDIS_KEYS_BOUND = Bound(growth=50, share=0.5)
WARM_UP_SHARE = 0.35
"""Of a process's life, the part in which pools and caches fill: it is not judged."""
FEWEST_POINTS = 20
SHORTEST_SECONDS = 120.0
"""Younger processes are not judged: what they do at first is all that was seen of them."""
STORES = frozenset({"postgres", "object-store", "etcd", "kube-apiserver", "samples"})
"""They keep what is imported, or all objects and catalogues asked for: their memory is reported, not judged."""


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much a value has grown after its warm-up, in its own unit; `begin`: what it has grown from."""

    name: str
    what: str
    begin: float
    grown: float
    seconds: float

    def exceeds(self, bound: Bound) -> bool:
        """Whether it grew by more than both bounds."""
        return self.grown > bound.growth and self.grown > bound.share * self.begin


Points = Sequence[tuple[float, float]]
Measure = Callable[[Points], tuple[float, float]]
"""(what it grew from, by how much)."""


def by_trend(points: Points) -> tuple[float, float]:
    """For memory: the median slope between pairs, which single peaks do not turn."""
    begin = statistics.median(value for _, value in points[: max(3, len(points) // 10)])
    return begin, median_slope(points) * (points[-1][0] - points[0][0])


def by_peaks(points: Points) -> tuple[float, float]:
    """For what a pool holds: the most in the later half beside the most in the earlier one.

    A pool opens what is used at once and loses all when its server is restarted: a trend would tell of the restarts.
    """
    last = (points[0][0] + points[-1][0]) / 2
    before = max(value for at, value in points if at < last)
    return before, max(value for at, value in points if at >= last) - before


def growth(series: Series, what: str, measure: Measure = by_trend) -> Growth | None:
    """How a series grew; None where too little of it was seen."""
    if not series.points:
        return None
    first = series.points[0][0] + WARM_UP_SHARE * series.seconds
    points = [point for point in series.points if point[0] >= first]
    if len(points) < FEWEST_POINTS or points[-1][0] - points[0][0] < SHORTEST_SECONDS * (1 - WARM_UP_SHARE):
        return None
    begin, grown = measure(points)
    return Growth(series.name, what, begin, grown, points[-1][0] - points[0][0])


def median_slope(points: Sequence[tuple[float, float]]) -> float:
    """Theil and Sen's estimate: the median of the slopes between points that are half the series apart."""
    half = len(points) // 2
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in zip(points, points[half:], strict=False)
        if later[0] > earlier[0]
    ]
    return statistics.median(slopes) if slopes else 0.0


def growths(samples: Sequence[Sample]) -> Iterator[tuple[Growth, Bound]]:
    """Everything that is judged, with what it may grow by."""

    def of_ours(value: Callable[[ProcessSample], float | None]) -> list[Series]:
        return [each for each in series_of_processes(samples, value) if each.role not in STORES]

    def of_all(name: str, value: Callable[[Sample], float | None]) -> list[Series]:
        return [series_of(samples, name, value)]

    judged: list[tuple[Iterable[Series], str, Bound, Measure]] = [
        (of_ours(lambda process: process.memory), "memory", MEMORY_BOUND, by_trend),
        (
            of_ours(lambda process: process.postgres_connections),
            "PostgreSQL connections",
            CONNECTIONS_BOUND,
            by_peaks,
        ),
        (
            of_ours(lambda process: process.redis_connections),
            "Redis connections",
            CONNECTIONS_BOUND,
            by_peaks,
        ),
        (of_ours(lambda process: process.files), "open files", FILES_BOUND, by_peaks),
        (
            of_all("PostgreSQL", lambda sample: sample.postgres_connections),
            "connections",
            ALL_CONNECTIONS_BOUND,
            by_peaks,
        ),
        (
            of_all("Redis", lambda sample: sample.redis_connections),
            "connections",
            ALL_CONNECTIONS_BOUND,
            by_peaks,
        ),
        (of_all("Redis", lambda sample: sample.redis_bytes), "memory", REDIS_BYTES_BOUND, by_peaks),
        (of_all("Redis", lambda sample: sample.redis_keys), "keys", REDIS_KEYS_BOUND, by_peaks),
    ]
    for many, what, bound, measure in judged:
        for series in many:
            found = growth(series, what, measure)
            if found is not None:
                yield found, bound


def growth_findings(samples: Sequence[Sample]) -> tuple[str, ...]:
    """What grows and should not, in words."""
    return tuple(
        f"{found.name}: {found.what} grew by {_amount(found.what, found.grown)} in {found.seconds:.0f} s,"
        f" from {_amount(found.what, found.begin)}"
        for found, bound in growths(samples)
        if found.exceeds(bound)
    )


def _amount(what: str, value: float) -> str:
    return f"{value / MEBIBYTE:.1f} MiB" if what == "memory" else f"{value:.0f}"


def rolling_percentiles(
    ends: Sequence[tuple[float, float]], *, window: float, step: float
) -> Mapping[int, tuple[tuple[float, float], ...]]:
    """p50 and p95 of what took how long, over the `window` seconds before each step; `ends`: (moment, seconds).

    Steps without an end in their window are left out.
    """
    ordered = sorted(ends)
    found: dict[int, list[tuple[float, float]]] = {50: [], 95: []}
    if not ordered:
        return dict.fromkeys(found, ())
    at = ordered[0][0]
    while at <= ordered[-1][0] + step:
        inside = sorted(seconds for moment, seconds in ordered if at - window < moment <= at)
        if inside:
            for percent, points in found.items():
                points.append((at, percentile(inside, percent)))
        at += step
    return {percent: tuple(points) for percent, points in found.items()}
