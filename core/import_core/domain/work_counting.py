"""Work as `drain_time` reads it, from what the database shows of a queue's jobs; and how fast workers do it.

A unit is one product or one image. What is not known is estimated, by what is stated here, and never left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from import_core.domain.drain_time import LimitedBacklog, SizeClass, Work, WorkRate
from import_core.domain.jobs import Progress

IMAGES_PER_PRODUCT = 3
"""Of a job whose own are not known yet."""
JOB_UNITS = 120.0
"""Of a job of which nothing is known, before any of its queue has finished: 30 products with their images."""
CALL_UNITS = 80.0
"""What one call to a provider brings, before a page was seen: 20 products with their images. A page counts as
one call."""
LEAST_SECONDS = 30.0
"""So many seconds of work are measured together: pages come in steps, and less says little."""
SOURCES_KEPT = 10_000
SLOW_SHARE = 0.8
"""A connection whose running jobs could use so much of what its limit lets through is held up by it."""
_ALMOST = 1e-9


@dataclass(frozen=True, slots=True)
class Source:
    """Where jobs come from: a company's connection; `namespace` is empty for rows that name none."""

    company: str
    namespace: str
    provider: str


@dataclass(frozen=True, slots=True)
class WaitingJobs:
    """Due jobs of a source; of `known` of them it is known that `units` are left in all."""

    source: Source
    jobs: int
    known: int = 0
    units: float = 0.0


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A claimed job. `first_run`: its counters began at zero with this claim."""

    job_id: str
    source: Source
    claimed_at: datetime
    first_run: bool
    progress: Progress
    pages: int = 0


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job that has ended. `first_run`: it ran once, from its start to its end."""

    job_id: str
    source: Source
    started_at: datetime
    completed_at: datetime
    first_run: bool
    succeeded: bool
    progress: Progress
    pages: int = 0


@dataclass(frozen=True, slots=True)
class WorkSeen:
    """One look at a queue, at the database's time `at`."""

    at: datetime
    waiting: tuple[WaitingJobs, ...] = ()
    running: tuple[RunningJob, ...] = ()
    finished: tuple[FinishedJob, ...] = ()


@dataclass(frozen=True, slots=True)
class CallLimit:
    """What a connection's provider lets through: calls a second; 0 while its circuit breaker is not closed."""

    calls_per_second: float
    kind: str
    """The provider's type: pages of one type are alike."""


def units_done(progress: Progress) -> int:
    """Products and images that a job needs not do again."""
    images = progress.images_imported + progress.images_unchanged + progress.images_failed
    return progress.products_done + images


def units_left(progress: Progress, size: float) -> float:
    """What is left of a running job; by its `size`, an estimate, while its total is not known."""
    done = progress.products_done
    if progress.products_total is None:
        return max(1.0, size - units_done(progress))
    images = progress.images_total / done if done else IMAGES_PER_PRODUCT
    return max(0, progress.products_total - done) * (1.0 + images)


@dataclass
class WorkBook:
    """What is remembered of one queue from look to look: bounded by the running jobs, and by SOURCES_KEPT."""

    rate: WorkRate = field(default_factory=WorkRate)
    sizes: dict[Source, float] = field(default_factory=dict)
    """Units of a source's last job."""
    mean: float | None = None
    """Units of a job of the queue, of all sources."""
    looked_at: datetime | None = None
    _running: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    _page_units: dict[str, tuple[float, int]] = field(default_factory=dict)
    _units: float = 0.0
    _seconds: float = 0.0

    def take_in(self, seen: WorkSeen, kinds: Mapping[Source, CallLimit], slow: frozenset[Source]) -> None:
        """Measure rate, sizes and pages by a look. What jobs of `slow` sources do says nothing of workers."""
        running: dict[str, tuple[int, datetime]] = {}
        for job in seen.running:
            done = units_done(job.progress)
            before = self._running.get(job.job_id, (0, job.claimed_at) if job.first_run else None)
            running[job.job_id] = (done, seen.at)
            if before is not None and job.source not in slow:
                self._measure(before, done, seen.at)
        for ended in seen.finished:
            done = units_done(ended.progress)
            before = self._running.get(ended.job_id, (0, ended.started_at) if ended.first_run else None)
            if before is not None and done and ended.succeeded and ended.source not in slow:
                self._measure(before, done, ended.completed_at)
            if done and ended.succeeded:
                self._know(ended.source, float(done))
            self._count_pages(kinds.get(ended.source), done, ended.pages)
        self._running, self.looked_at = running, seen.at
        if self._units > 0.0 and self._seconds >= LEAST_SECONDS:
            self.rate = self.rate.after_work(units=self._units, job_seconds=self._seconds)
            self._units = self._seconds = 0.0

    def keep_sizes(self, sizes: Mapping[Source, float], asked: Iterable[Source]) -> None:
        """Take in what was found of sources that were asked for; of the others nothing is known."""
        for source in asked:
            self.sizes[source] = sizes.get(source, self._usual)
        while len(self.sizes) > SOURCES_KEPT:
            del self.sizes[next(iter(self.sizes))]

    def unknown(self, seen: WorkSeen) -> list[Source]:
        """Sources of jobs that wait of which no size is known."""
        return [group.source for group in seen.waiting if group.source not in self.sizes]

    def size_of(self, source: Source) -> float:
        """Units of a job of that source."""
        return self.sizes.get(source, self._usual)

    def units_per_second(self, limit: CallLimit) -> float:
        """What a connection's limit lets through."""
        units, pages = self._page_units.get(limit.kind, (CALL_UNITS, 1))
        return limit.calls_per_second * units / pages

    @property
    def _usual(self) -> float:
        return JOB_UNITS if self.mean is None else self.mean

    def _measure(self, before: tuple[int, datetime], done: int, at: datetime) -> None:
        seconds = (at - before[1]).total_seconds()
        if seconds > 0.0 and done >= before[0]:
            self._units += done - before[0]
            self._seconds += seconds

    def _know(self, source: Source, units: float) -> None:
        # The last one's size, and at the end of the row of those that go first.
        self.sizes.pop(source, None)
        self.sizes[source] = units
        self.mean = units if self.mean is None else self.mean + (units - self.mean) / 50.0

    def _count_pages(self, limit: CallLimit | None, units: int, pages: int) -> None:
        if limit is None or not units or not pages:
            return
        before_units, before_pages = self._page_units.get(limit.kind, (0.0, 0))
        if before_pages > 1_000:
            before_units, before_pages = before_units / 2, before_pages // 2
        self._page_units[limit.kind] = (before_units + units, before_pages + pages)


@dataclass(frozen=True, slots=True)
class Counted:
    """The work, and the sources whose provider, not the workers, is the bottleneck of the jobs that run."""

    work: Work
    slow: frozenset[Source]


def count_work(
    seen: WorkSeen, book: WorkBook, limits: Mapping[Source, CallLimit], *, due: int, drain_seconds: float
) -> Counted:
    """The work of a queue with `due` jobs, of which `seen` may have counted only the first ones."""
    counted = sum(group.jobs for group in seen.waiting)
    scale = max(1.0, due / counted) if counted else 1.0
    place = _Place((book.rate.per_second or 0.0) * drain_seconds, drain_seconds)
    running = _running_of(seen, book)
    slow = _slow(running, limits, book, place)
    withheld, through = _limited(seen.waiting, running, limits, book, place)
    limited = LimitedBacklog(_classes(withheld, scale), through)
    return Counted(
        Work(
            waiting=_classes(_sizes_of(seen.waiting, book), scale),
            running=_classes(
                (
                    SizeClass(1, units)
                    for source, jobs in running.items()
                    if source not in slow
                    for units in jobs
                )
            ),
            kept_waiting=sum(len(jobs) for source, jobs in running.items() if source in slow),
            limited=(limited,) if limited.waiting else (),
            rate=book.rate.per_second,
        ),
        slow,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """What a worker's place for a job does in the drain time."""

    units: float
    seconds: float

    def fitting(self, sizes: Iterable[float]) -> float:
        """Units that places can do of jobs of these sizes, one place for each."""
        return sum(min(size, self.units) for size in sizes)


def _running_of(seen: WorkSeen, book: WorkBook) -> Mapping[Source, list[float]]:
    running: defaultdict[Source, list[float]] = defaultdict(list)
    for job in seen.running:
        running[job.source].append(units_left(job.progress, book.size_of(job.source)))
    return running


def _slow(
    running: Mapping[Source, list[float]],
    limits: Mapping[Source, CallLimit],
    book: WorkBook,
    place: _Place,
) -> frozenset[Source]:
    """Sources whose running jobs could do about as much in the drain time as their provider lets through."""
    return frozenset(
        source
        for source, jobs in running.items()
        if (limit := limits.get(source)) is not None
        and place.fitting(jobs) > SLOW_SHARE * book.units_per_second(limit) * place.seconds + _ALMOST
    )


def _limited(
    waiting: Sequence[WaitingJobs],
    running: Mapping[Source, list[float]],
    limits: Mapping[Source, CallLimit],
    book: WorkBook,
    place: _Place,
) -> tuple[list[SizeClass], float]:
    """What the connections that hold work up have waiting, and let through together; running jobs go first."""
    sizes: list[SizeClass] = []
    through = 0.0
    for group in waiting:
        limit = limits.get(group.source)
        if limit is None:
            continue
        used = place.fitting(running.get(group.source, ()))
        rest = max(0.0, book.units_per_second(limit) - used / place.seconds)
        own = list(_sizes_of((group,), book))
        wanted = sum(min(size.units, size.jobs * place.units) for size in own)
        if wanted > rest * place.seconds + _ALMOST:
            sizes += own
            through += rest
    return sizes, through


def _sizes_of(groups: Sequence[WaitingJobs], book: WorkBook) -> Iterable[SizeClass]:
    for group in groups:
        if group.known:
            yield SizeClass(group.known, group.units)
        if unknown := group.jobs - group.known:
            yield SizeClass(unknown, unknown * book.size_of(group.source))


def _classes(sizes: Iterable[SizeClass], scale: float = 1.0) -> tuple[SizeClass, ...]:
    """Jobs of similar size together: sizes of one class differ by less than a factor of two."""
    totals: dict[int, list[float]] = {}
    for size in sizes:
        total = totals.setdefault(int(size.units / size.jobs).bit_length(), [0, 0.0])
        total[0] += size.jobs
        total[1] += size.units
    return tuple(
        SizeClass(round(jobs * scale), units * scale) for _, (jobs, units) in sorted(totals.items()) if jobs
    )
