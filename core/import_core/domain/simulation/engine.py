"""Replays a trace against a policy in simulated time, event by event."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from import_core.domain.dispatch import window
from import_core.domain.drain_time import LimitedBacklog, SizeClass
from import_core.domain.simulation.assumptions import Assumptions
from import_core.domain.simulation.backlog import Backlog, Job, Sizes
from import_core.domain.simulation.fleet import Fleet, Worker
from import_core.domain.simulation.ordering import Order
from import_core.domain.simulation.policies import Policy
from import_core.domain.simulation.trace import Arrival, Trace

SAMPLE_SECONDS = 300.0
_GIVE_UP_SECONDS = 30 * 86_400.0


class _Event(IntEnum):
    """What happens, in the order in which things of the same moment happen."""

    FINISHED = 1
    READY = 2
    GRACE_OVER = 3
    UNPARK = 4
    PROVIDER_DOWN = 5
    PROVIDER_UP = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at `at` seconds."""

    at: float
    replicas: int
    depth: int


@dataclass(frozen=True, slots=True)
class Run:
    """What a simulation leaves: its jobs, its costs, and samples of its course."""

    jobs: tuple[Job, ...]
    worker_hours: float
    seconds: float
    interrupted: int
    """Jobs that a scale-in took from their workers; each time counts."""
    scaled_out: int
    scaled_in: int
    most_workers: int
    samples: tuple[Sample, ...]


class Engine:
    """One run. It is the policy's view, too."""

    def __init__(
        self,
        trace: Trace,
        policy: Policy,
        assumptions: Assumptions,
        order: Order,
        *,
        sample_seconds: float = SAMPLE_SECONDS,
    ) -> None:
        self._sample_seconds = sample_seconds
        self._trace = trace
        self._policy = policy
        self._assumptions = assumptions
        self._fleet = Fleet(assumptions)
        self._started = 0
        self._order = order
        self._backlog = Backlog(order, trace.providers, assumptions)
        self._events: list[tuple[float, int, int, Any, int]] = []
        self._sequence = 0
        self._jobs: list[Job] = []
        self._unfinished = 0
        self._done_units = 0.0
        self._done_seconds = 0.0
        self._samples: list[Sample] = []
        self._interrupted = self._scaled_out = self._scaled_in = 0
        self._now = 0.0
        self.claimed = 0

    @property
    def replicas(self) -> int:
        """Workers asked for."""
        return self._fleet.replicas

    @property
    def due(self) -> int:
        """Due jobs that wait."""
        return self._backlog.due

    @property
    def queued(self) -> int:
        """Due jobs that no open breaker holds."""
        return self._backlog.due - self._backlog.held

    @property
    def held(self) -> int:
        """Due jobs that an open breaker holds."""
        return self._backlog.held

    def sizes(self) -> tuple[SizeClass, ...]:
        """All waiting work by size."""
        return self._backlog.size_classes()

    def running(self) -> tuple[tuple[SizeClass, ...], int]:
        """What is left of the jobs that workers hold, by size; and how many of them wait for their provider."""
        sizes = Sizes()
        kept_waiting = 0
        for worker in self._fleet.workers():
            for job in worker.jobs:
                if job.provider_bound:
                    kept_waiting += 1
                    continue
                left = job.units * max(0.0, 1.0 - (self._now - job.started_at) / job.seconds)
                sizes.count(left, 1)
        return sizes.classes(), kept_waiting

    def limited(self) -> tuple[LimitedBacklog, ...]:
        """Waiting work that providers hold up."""
        return self._backlog.limited()

    def work_done(self) -> tuple[float, float]:
        """Units and seconds of the jobs that ended since the last call."""
        done = self._done_units, self._done_seconds
        self._done_units = self._done_seconds = 0.0
        return done

    def run(self) -> Run:
        """Replay the whole trace, until its last job is done."""
        for outage in self._trace.outages:
            self._push(outage.start, _Event.PROVIDER_DOWN, outage.provider)
            self._push(outage.end, _Event.PROVIDER_UP, outage.provider)
        for _ in range(self._policy.start):
            # They have been there before.
            self._fleet.ready(self._fleet.start(0.0)[0])
        self._resize_window()
        arrivals, number = self._trace.arrivals, 0
        look_at, sample_at = self._policy.interval, 0.0
        while True:
            event_at = self._events[0][0] if self._events else _GIVE_UP_SECONDS
            arrival_at = arrivals[number].at if number < len(arrivals) else _GIVE_UP_SECONDS
            now = min(event_at, arrival_at, look_at)
            if number == len(arrivals) and not self._unfinished and now >= self._trace.seconds:
                now = max(self._now, self._trace.seconds)
                break
            if now >= _GIVE_UP_SECONDS:
                break
            while sample_at <= now:
                self._samples.append(Sample(sample_at, self.replicas, self.due + self.claimed))
                sample_at += self._sample_seconds
            self._now = now
            if event_at == now:
                self._happen()
            elif arrival_at == now:
                # All that come at one moment are there before any of them is chosen, as rows of one commit are.
                while number < len(arrivals) and arrivals[number].at == now:
                    self._arrive(arrivals[number])
                    number += 1
                self._order.fill(now)
            else:
                look_at += self._policy.interval
                self._scale()
                continue
            self._start_jobs()
        return Run(
            tuple(self._jobs),
            self._fleet.hours(now),
            now,
            self._interrupted,
            self._scaled_out,
            self._scaled_in,
            self._fleet.most,
            tuple(self._samples),
        )

    def _arrive(self, arrival: Arrival) -> None:
        job = Job(len(self._jobs), arrival, self._backlog.connection(arrival), self._assumptions)
        self._jobs.append(job)
        self._unfinished += 1
        self._backlog.add(job)

    def _push(self, at: float, event: _Event, subject: object, run: int = 0) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (at, event, self._sequence, subject, run))

    def _happen(self) -> None:
        _, event, _, subject, run = heapq.heappop(self._events)
        if event == _Event.FINISHED:
            self._finish(subject, run)
        elif event == _Event.READY:
            if subject.ended_at is None:
                self._fleet.ready(subject)
                self._resize_window()
        elif event == _Event.GRACE_OVER:
            for job in list(subject.jobs):
                self._interrupted += 1
                job.interruptions += 1
                self._hand_back(job)
            self._fleet.end(subject, self._now)
        elif event == _Event.UNPARK:
            wait = self._backlog.unpark(subject, self._now)
            if wait is not None:
                self._push(self._now + wait, _Event.UNPARK, subject)
        elif event == _Event.PROVIDER_DOWN:
            self._backlog.provider_down(subject, self._now)
            for worker in self._fleet.workers():
                for job in list(worker.jobs):
                    if job.connection.provider == subject:
                        self._hand_back(job)
                        self._fleet.finished(worker, job, self._now)
        else:
            self._backlog.provider_up(subject, self._now)

    def _start_jobs(self) -> None:
        fleet, backlog = self._fleet, self._backlog
        while fleet.has_free():
            job, parked = backlog.take(self._now)
            if parked is not None:
                self._push(max(self._now, backlog.wake_at(parked)), _Event.UNPARK, parked)
            elif job is None:
                return
            else:
                self._start(job)

    def _start(self, job: Job) -> None:
        worker = self._fleet.free_worker()
        if worker is None:
            raise AssertionError("has_free promised a worker")
        now = self._now + self._assumptions.pickup_seconds
        worker.jobs[job] = None
        job.worker = worker
        job.waited += now - job.wait_since
        job.started_at = now
        job.run += 1
        self.claimed += 1
        let_through = job.connection.reserve(job, now)
        job.provider_bound = let_through > now + job.seconds
        self._push(max(now + job.seconds, let_through), _Event.FINISHED, job, job.run)

    def _finish(self, job: Job, run: int) -> None:
        if job.run != run or job.worker is None:
            return
        worker: Worker = job.worker
        job.worker = None
        job.ended_at = self._now
        self.claimed -= 1
        self._unfinished -= 1
        self._done_units += job.units
        self._done_seconds += job.seconds
        self._order.gone(job)
        self._fleet.finished(worker, job, self._now)

    def _hand_back(self, job: Job) -> None:
        """The job waits again, with what its last checkpoint leaves to do."""
        worker = job.worker
        share = min(1.0, max(0.0, self._now - job.started_at) / job.seconds)
        lost = self._assumptions.page_seconds(job.arrival) / 2
        left = max(job.seconds * (1 - share), 0.0)
        rest = min(1.0, (left + lost) / job.seconds)
        self._done_units += job.units * (1 - rest)
        self._done_seconds += job.seconds * (1 - rest)
        job.units *= rest
        job.calls *= rest
        job.seconds *= rest
        job.wait_since = self._now
        job.cleared = False
        job.worker = None
        self.claimed -= 1
        self._order.gone(job)
        self._backlog.add(job, interrupted=True)
        if isinstance(worker, Worker) and worker.leaving:
            worker.jobs.pop(job, None)

    def _resize_window(self) -> None:
        ready = self._fleet.ready_count()
        self._order.resize(
            window(
                concurrency=self._assumptions.concurrency,
                ready_workers=ready,
                minimum_workers=self._policy.start,
                starts_per_second=0.0,
            )
        )

    def _scale(self) -> None:
        wanted = self._policy.look(self, self._now)
        staying = self._fleet.staying
        if wanted > staying and self._fleet.take_back(wanted - staying):
            self._start_jobs()
        # What has drained since the last look goes, unless this one needs it.
        self._fleet.let_go(self._now)
        if wanted > staying:
            self._scaled_out += 1
            for _ in range(wanted - self._fleet.staying):
                worker, ready_at = self._fleet.start(self._now)
                self._push(self._known_ready_at(ready_at), _Event.READY, worker)
        elif wanted < staying:
            self._resize_window()
            how = self._policy.scale_in
            busy = self._fleet.leave(staying - wanted, how, self._now)
            self._scaled_in += self._fleet.staying < staying
            for worker in busy:
                self._push(self._now + self._assumptions.grace, _Event.GRACE_OVER, worker)

    def _known_ready_at(self, assumed: float) -> float:
        """When the worker that was just started will be ready: as the trace knows it, or as assumed."""
        known = self._trace.start_seconds
        if not known:
            return assumed
        self._started += 1
        return self._now + known[(self._started - 1) % len(known)]
