"""A recorded run of a real installation, and what the decisions and the simulator make of it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pydantic import TypeAdapter, ValidationError

from import_core.domain.draining import BusyScaleIn
from import_core.domain.errors import InvalidResourceError
from import_core.domain.pool_scaling import INPUTS_VERSION, PoolWishes, ScalingInputs, decide_pool
from import_core.domain.resources.worker_pool import ScalingPolicy
from import_core.domain.scaling import ScalingDecision
from import_core.domain.simulation.assumptions import Assumptions
from import_core.domain.simulation.engine import Engine
from import_core.domain.simulation.fleet import ScaleIn
from import_core.domain.simulation.ordering import AsDispatched
from import_core.domain.simulation.outcome import percentile
from import_core.domain.simulation.policies import QueueDepth
from import_core.domain.simulation.trace import Arrival, Trace

RECORDING_VERSION = 1
MOST_JOBS = 2_000
MOST_DECISIONS = 1_000


@dataclass(frozen=True, slots=True)
class RecordedJob:
    """One job; seconds, `at` from the recording's start."""

    at: float
    """When its row was committed."""
    waited: float
    """From then to its claim."""
    ran: float
    """From its claim to its end."""
    company: str
    worker: int
    """The worker that ran it, by its place in `workers`."""


@dataclass(frozen=True, slots=True)
class RecordedWorker:
    """A worker that the pool was given; seconds from the recording's start."""

    asked_at: float
    """When the Deployment was seen to ask for it; below zero: it was there before."""
    entered_at: float
    """When its process was first seen to have entered itself, just before it takes jobs."""


@dataclass(frozen=True, slots=True)
class KeptDecision:
    """A decision as the operator kept it (`imports.scaling_decision`), `at` seconds from the start."""

    at: float
    version: int
    before: int
    replicas: int
    desired: int
    need: int | None
    reason: str
    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A number of workers from `at` on, in seconds from the recording's start."""

    at: float
    workers: int


@dataclass(frozen=True, slots=True)
class Recording:
    """What is kept of a run, from its first arrival to the end of its last scale-in."""

    version: int
    taken: str
    """The day, and the machine with what else it did."""
    seconds: float
    wishes: PoolWishes
    busy: BusyScaleIn
    jobs: tuple[RecordedJob, ...]
    workers: tuple[RecordedWorker, ...]
    decisions: tuple[KeptDecision, ...]
    wanted: tuple[Change, ...]
    """What the operator wanted (`imports_workers_desired`), each change."""
    asked: tuple[Change, ...]
    """What the Deployment was told (`spec.replicas`), each change."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain: dict[str, Any] = _RECORDING.dump_python(self, mode="json")
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recording:
        """Read what `to_json` gave. Raises InvalidResourceError where it can't be read, or is too large."""
        if value.get("version") != RECORDING_VERSION:
            raise InvalidResourceError("version", f"must be {RECORDING_VERSION}")
        try:
            recording = _RECORDING.validate_python(value)
        except ValidationError as error:
            raise InvalidResourceError(
                "recording", f"can't be read: {error.error_count()} problems"
            ) from error
        if len(recording.jobs) > MOST_JOBS or len(recording.decisions) > MOST_DECISIONS:
            raise InvalidResourceError(
                "recording", f"holds more than {MOST_JOBS} jobs or {MOST_DECISIONS} decisions"
            )
        return recording

    @property
    def start_seconds(self) -> tuple[float, ...]:
        """How long each worker that was added took from the change of the Deployment to its first look for jobs."""
        return tuple(worker.entered_at - worker.asked_at for worker in self.workers if worker.asked_at >= 0)

    @property
    def pickup_seconds(self) -> float:
        """How long a place that had become free stayed so while jobs waited: the median.

        Places of a worker are alike, so its ends and its later claims are paired in the order of time.
        """
        gaps = []
        for worker in range(len(self.workers)):
            jobs = [job for job in self.jobs if job.worker == worker]
            ends = sorted(job.at + job.waited + job.ran for job in jobs)
            for job in sorted(jobs, key=lambda job: job.at + job.waited):
                claimed = job.at + job.waited
                freed = next((end for end in ends if end <= claimed), None)
                if freed is None:
                    continue
                ends.remove(freed)
                if job.at < freed:
                    gaps.append(claimed - freed)
        return median(gaps) if gaps else 0.0


@dataclass(frozen=True, slots=True)
class Again:
    """A kept decision, and what the same inputs give now."""

    kept: KeptDecision
    made: ScalingDecision

    @property
    def is_same(self) -> bool:
        """Whether every word and number of it is the same."""
        return (self.kept.replicas, self.kept.desired, self.kept.need, self.kept.reason) == (
            self.made.replicas,
            self.made.desired,
            self.made.need,
            self.made.reason.value,
        )


def decide_again(recording: Recording) -> tuple[Again, ...]:
    """Every kept decision from its own inputs. Raises ValueError where those are of another version."""
    again = []
    for kept in recording.decisions:
        if kept.version != INPUTS_VERSION:
            raise ValueError(f"the decision at {kept.at:.1f} s has inputs of version {kept.version}")
        again.append(Again(kept, decide_pool(ScalingInputs.from_json(kept.inputs))))
    return tuple(again)


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that jobs waited for a worker."""

    p50: float
    p95: float
    mean: float

    @classmethod
    def of(cls, waits: Sequence[float]) -> Waits:
        """Of every job's wait."""
        ascending = sorted(waits)
        return cls(
            percentile(ascending, 50), percentile(ascending, 95), sum(ascending) / max(1, len(ascending))
        )


@dataclass(frozen=True, slots=True)
class Simulated:
    """What the simulator makes of a recording's arrivals, durations and start-up times."""

    wanted: tuple[Change, ...]
    waits: Waits


def simulate_again(recording: Recording) -> Simulated:
    """Run the arrivals through the simulator; nothing else of the recorded course is known to it.

    Raises InvalidResourceError where the pool followed another policy than QueueDepth.
    """
    if recording.wishes.policy is not ScalingPolicy.QUEUE_DEPTH:
        raise InvalidResourceError("wishes.policy", f"must be {ScalingPolicy.QUEUE_DEPTH.value}")
    spec = recording.wishes.scaling
    arrivals = tuple(
        Arrival(job.at, job.company, job.company, "recorded", 0, 0, seconds=job.ran)
        for job in sorted(recording.jobs, key=lambda job: job.at)
    )
    trace = Trace(
        "recording", recording.seconds, arrivals, providers={}, start_seconds=recording.start_seconds
    )
    policy = QueueDepth(
        "recorded",
        spec,
        drains=True,
        scale_in=SCALE_INS[recording.busy],
        wanted=[],
    )
    assumptions = Assumptions(
        concurrency=recording.wishes.concurrency, pickup_seconds=recording.pickup_seconds
    )
    run = Engine(trace, policy, assumptions, AsDispatched(always=True)).run()
    changes = tuple(Change(at, workers) for at, workers in policy.wanted or ())
    return Simulated(changes, Waits.of([job.waited for job in run.jobs]))


SCALE_INS: Mapping[BusyScaleIn, ScaleIn] = {
    BusyScaleIn.DRAIN_LEAST_WORK: ScaleIn.IDLE_FIRST,
    BusyScaleIn.WAIT: ScaleIn.IDLE_ONLY,
}
_RECORDING = TypeAdapter(Recording)
