"""The jobs of a simulation that wait: due ones in their order, and those that a provider keeps from starting."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from import_core.domain.drain_time import LimitedBacklog, SizeClass
from import_core.domain.simulation.assumptions import Assumptions
from import_core.domain.simulation.ordering import Order
from import_core.domain.simulation.trace import Arrival, ProviderRule

if TYPE_CHECKING:
    from import_core.domain.simulation.fleet import Worker

_UNLIMITED = ProviderRule(calls_per_minute=1e9, products_per_call=1e9)


class Job:
    """One job on its way; times in seconds of the trace."""

    __slots__ = (
        "arrival",
        "calls",
        "cleared",
        "connection",
        "ended_at",
        "interruptions",
        "number",
        "provider_bound",
        "run",
        "seconds",
        "started_at",
        "units",
        "wait_since",
        "waited",
        "worker",
    )

    def __init__(
        self, number: int, arrival: Arrival, connection: Connection, assumptions: Assumptions
    ) -> None:
        self.number = number
        self.arrival = arrival
        self.connection = connection
        self.units = float(arrival.products + arrival.images)
        self.seconds = assumptions.work_seconds(arrival)
        self.calls = 1.0 + arrival.products / connection.rule.products_per_call
        self.wait_since = arrival.at
        self.waited = 0.0
        self.started_at = 0.0
        self.ended_at: float | None = None
        self.run = 0
        """Counts starts, so that the end of an interrupted run is not taken for that of a later one."""
        self.interruptions = 0
        self.provider_bound = False
        """It runs as fast as its provider's limit lets it, not as its worker could."""
        self.cleared = False
        """Its provider's limit has put it off and then let it through."""
        self.worker: Worker | None = None


class Sizes:
    """Jobs counted by size: each class holds those of up to twice the units of the one before."""

    __slots__ = ("_totals",)

    def __init__(self) -> None:
        self._totals: dict[int, list[float]] = {}

    def count(self, units: float, sign: int) -> None:
        """A job of so many units comes (1) or goes (-1)."""
        size = int(units).bit_length()
        total = self._totals.get(size)
        if total is None:
            total = self._totals[size] = [0, 0.0]
        total[0] += sign
        total[1] += sign * units

    def classes(self) -> tuple[SizeClass, ...]:
        """The classes that hold jobs."""
        return tuple(SizeClass(int(jobs), units) for jobs, units in self._totals.values() if jobs)


class Connection:
    """A provider's account: its calls flow one after another, at the rate of its limit."""

    __slots__ = ("calls", "free_at", "parked", "provider", "rule", "units", "waiting")

    def __init__(self, provider: str, rule: ProviderRule) -> None:
        self.provider = provider
        self.rule = rule
        self.free_at = -60.0
        """When the calls of the jobs that were started are through."""
        self.parked: deque[Job] = deque()
        self.waiting = Sizes()
        self.units = 0.0
        self.calls = 0.0

    def reserve(self, job: Job, now: float) -> float:
        """Take the job's calls off the limit; when the last one is through."""
        # A full window of calls may go at once, as the limiter allows.
        seconds = job.calls * 60.0 / self.rule.calls_per_minute
        self.free_at = max(self.free_at, now - 60.0) + seconds
        return self.free_at

    def limited(self) -> LimitedBacklog:
        """The waiting work of the connection, and what its limit lets through."""
        seconds = self.calls * 60.0 / self.rule.calls_per_minute
        return LimitedBacklog(self.waiting.classes(), self.units / seconds if seconds > 0 else 0.0)


class Backlog:
    """Waiting jobs, and their work counted as `drain_time` reads it."""

    def __init__(self, order: Order, rules: Mapping[str, ProviderRule], assumptions: Assumptions) -> None:
        self._order = order
        self._rules = rules
        self._patience = assumptions.limit_patience
        self._connections: dict[str, Connection] = {}
        self._held: defaultdict[str, deque[Job]] = defaultdict(deque)
        self._down: dict[str, float] = {}
        self._limited: dict[Connection, None] = {}
        self._waiting = Sizes()
        self._by_provider: defaultdict[str, Sizes] = defaultdict(Sizes)
        self.held = 0
        """Due jobs whose provider's circuit breaker is open; they count in the depth."""
        self.parked = 0
        """Jobs that their provider's limit has put off; they are not due."""

    def connection(self, arrival: Arrival) -> Connection:
        """The arrival's connection, made at its first job."""
        found = self._connections.get(arrival.connection)
        if found is None:
            found = Connection(arrival.provider, self._rules.get(arrival.provider, _UNLIMITED))
            self._connections[arrival.connection] = found
        return found

    @property
    def due(self) -> int:
        """Due jobs that wait, as the operator counts them."""
        return len(self._order) + self.held

    def add(self, job: Job, *, interrupted: bool = False) -> None:
        """A job waits from now on."""
        self._count(job, 1)
        self._order.add(job, interrupted=interrupted)

    def take(self, now: float) -> tuple[Job | None, Connection | None]:
        """The next job that may start, if any; and a connection that began to put jobs off, if one did."""
        while (job := self._order.pop(now)) is not None:
            connection = job.connection
            if connection.provider in self._down:
                # Waiting for a provider is not waiting for a worker.
                job.waited += max(0.0, self._down[connection.provider] - job.wait_since)
                self._order.gone(job)
                self._held[connection.provider].append(job)
                self.held += 1
            elif not job.cleared and (connection.parked or connection.free_at - now > self._patience):
                job.waited += now - job.wait_since
                self._order.gone(job)
                connection.parked.append(job)
                self.parked += 1
                if len(connection.parked) == 1:
                    self._limited[connection] = None
                    return None, connection
            else:
                self._count(job, -1)
                return job, None
        return None, None

    def unpark(self, connection: Connection, now: float) -> float | None:
        """The limit lets the next job of the connection try again; in how long another, if jobs are left."""
        self.parked -= 1
        job = connection.parked.popleft()
        job.cleared = True
        job.wait_since = now
        self._order.add(job, interrupted=True)
        if not connection.parked:
            self._limited.pop(connection, None)
            return None
        return job.calls * 60.0 / connection.rule.calls_per_minute

    def wake_at(self, connection: Connection) -> float:
        """When the limit will let the next job start."""
        return connection.free_at - self._patience

    def provider_down(self, provider: str, now: float) -> None:
        """The provider's circuit breaker opens."""
        self._down[provider] = now

    def provider_up(self, provider: str, now: float) -> None:
        """The breaker closes: what was held goes first, as it has waited longest."""
        del self._down[provider]
        held = self._held.pop(provider, deque())
        self.held -= len(held)
        for job in reversed(held):
            job.wait_since = now
            self._order.add(job, interrupted=True)

    def size_classes(self) -> tuple[SizeClass, ...]:
        """All that waits, by size."""
        return self._waiting.classes()

    def limited(self) -> tuple[LimitedBacklog, ...]:
        """What providers keep from being copied."""
        away = [LimitedBacklog(self._by_provider[name].classes(), 0.0) for name in sorted(self._down)]
        slow = [item.limited() for item in self._limited if item.provider not in self._down]
        return (*away, *slow)

    def _count(self, job: Job, sign: int) -> None:
        connection = job.connection
        connection.units += sign * job.units
        connection.calls += sign * job.calls
        for sizes in (self._waiting, self._by_provider[connection.provider], connection.waiting):
            sizes.count(job.units, sign)
