"""The workers of a simulation: they start on nodes, take jobs, stop or drain, and cost money."""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from import_core.domain.simulation.assumptions import Assumptions
from import_core.domain.simulation.backlog import Job


class ScaleIn(StrEnum):
    """Which workers go when the number is lowered."""

    NEWEST = "newest"
    """As a ReplicaSet chooses: those that start, then the newest; they finish for the grace time only."""
    IDLE_FIRST = "idle-first"
    """By the drain handshake: those that start, then idle ones, then those whose jobs should be done first by
    their size. They take no more, and are let go by the first look after their last job, until which they count.
    One that is needed again before that is taken back."""
    IDLE_ONLY = "idle-only"
    """The same, but a busy one is never asked: where none is idle, the number stays as it is."""


class Worker:
    """A pod."""

    __slots__ = ("created_at", "draining", "ended_at", "jobs", "leaving", "number", "ready")

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.created_at = now
        self.ended_at: float | None = None
        self.ready = False
        self.leaving = False
        self.draining = False
        """It leaves by the handshake: it may be taken back until it is let go."""
        self.jobs: dict[Job, None] = {}
        # In the order of their starts, so that a seed always gives the same run.

    def busy_until(self) -> float:
        """When its last job should be done, by the job's size."""
        return max((job.started_at + job.seconds for job in self.jobs), default=0.0)


class Fleet:
    """Asks for workers and ends them; the engine tells it the time."""

    def __init__(self, assumptions: Assumptions) -> None:
        self._assumptions = assumptions
        self._workers: list[Worker] = []
        self._number = 0
        self._unused: deque[tuple[float, float]] = deque()
        """Places on nodes: since when unused, and from when on the node is ready; the latest is at the end."""
        self._free: deque[Worker] = deque()
        """A worker for each job that it could take now."""
        self._ended_seconds = 0.0
        self.staying = 0
        """Workers asked for that have not been told to leave."""
        self._draining = 0
        self.most = 0

    @property
    def replicas(self) -> int:
        """Workers asked for: one that drains counts until it is let go."""
        return self.staying + self._draining

    def start(self, now: float) -> tuple[Worker, float]:
        """Ask for one more worker; returns it with the time when it will be ready."""
        while self._unused and now - self._unused[0][0] > self._assumptions.node_keep:
            self._unused.popleft()
        if not self._unused:
            ready = now + self._assumptions.node_start
            self._unused.extend((ready, ready) for _ in range(self._assumptions.workers_per_node))
        _, node_ready = self._unused.pop()
        self._number += 1
        worker = Worker(self._number, now)
        self._workers.append(worker)
        self.staying += 1
        self.most = max(self.most, len(self._workers))
        return worker, max(now, node_ready) + self._assumptions.pod_start

    def ready(self, worker: Worker) -> None:
        """A worker takes jobs from now on."""
        worker.ready = True
        if not worker.leaving:
            self._free.extend([worker] * self._assumptions.concurrency)

    def free_worker(self) -> Worker | None:
        """A worker with a free place, which is taken; in turn, as workers ask a queue."""
        return self._free.popleft() if self._free else None

    def has_free(self) -> bool:
        """Whether any place is free."""
        return bool(self._free)

    def take_back(self, count: int) -> int:
        """Up to `count` draining workers go on, those with most to do first; returns how many."""
        if not self._draining:
            return 0
        draining = [worker for worker in self._workers if worker.draining]
        draining.sort(key=lambda worker: (-worker.busy_until(), worker.number))
        for worker in draining[:count]:
            worker.leaving = worker.draining = False
            self.staying += 1
            self._draining -= 1
            if worker.ready:
                self._free.extend([worker] * (self._assumptions.concurrency - len(worker.jobs)))
        return len(draining[:count])

    def finished(self, worker: Worker, job: Job, now: float) -> None:
        """A worker has a free place again, or goes if it drained."""
        worker.jobs.pop(job, None)
        if not worker.leaving:
            self._free.append(worker)
        elif not worker.jobs and not worker.draining:
            self.end(worker, now)

    def let_go(self, now: float) -> None:
        """Workers that have drained go."""
        if self._draining:
            for worker in [worker for worker in self._workers if worker.draining and not worker.jobs]:
                self.end(worker, now)

    def leave(self, count: int, how: ScaleIn, now: float) -> list[Worker]:
        """Let `count` workers go; returns those that still have jobs, and will not finish them."""
        staying = [worker for worker in self._workers if not worker.leaving]
        if how is ScaleIn.NEWEST:
            staying.sort(key=lambda worker: (worker.ready, -worker.number))
        else:
            staying.sort(key=lambda worker: (worker.ready, worker.busy_until(), -worker.number))
            if how is ScaleIn.IDLE_ONLY:
                staying = [worker for worker in staying if not worker.jobs]
        busy = []
        going = set(staying[:count])
        self._free = deque(worker for worker in self._free if worker not in going)
        for worker in staying[:count]:
            worker.leaving = True
            self.staying -= 1
            if how is not ScaleIn.NEWEST:
                worker.draining = True
                self._draining += 1
            elif worker.jobs:
                busy.append(worker)
            else:
                self.end(worker, now)
        return busy

    def end(self, worker: Worker, now: float) -> None:
        """A worker's pod is gone; its place on the node is free."""
        if worker.ended_at is None:
            worker.ended_at = now
            self._draining -= worker.draining
            self._workers.remove(worker)
            self._ended_seconds += now - worker.created_at
            self._unused.append((now, now))

    def workers(self) -> list[Worker]:
        """All that exist, leaving ones included."""
        return list(self._workers)

    def ready_count(self) -> int:
        """Workers that take jobs."""
        return sum(1 for worker in self._workers if worker.ready and not worker.leaving)

    def hours(self, now: float) -> float:
        """Worker-hours so far."""
        return (self._ended_seconds + sum(now - worker.created_at for worker in self._workers)) / 3600
