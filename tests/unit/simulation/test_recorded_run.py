"""Recorded runs of a whole installation: decisions come out the same again, and the simulator does as the run did.

The recordings were taken by `python -m bench.recording`; docs/reference/scaling.md says what is compared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from import_core.domain.errors import InvalidResourceError
from import_core.domain.resources.worker_pool import ScalingPolicy
from import_core.domain.simulation.policies import LOOK_SECONDS
from import_core.domain.simulation.recording import (
    MOST_JOBS,
    Change,
    Recording,
    Simulated,
    Waits,
    decide_again,
    simulate_again,
)

DATA = Path(__file__).parents[2] / "data"
RECORDINGS = ("calm", "swift")
"""With a cooldown of 20 s for scale-in, and with one of 6 s, in which busy workers drain and are taken back."""
SAMPLE_SECONDS = 0.1
"""How often the recorder asked the operator for the wanted number."""
WAITS_DIFFER_BY = 0.25
GROWTH_WITHIN = 2 * LOOK_SECONDS + SAMPLE_SECONDS
"""A tick of both, and the recorder's: what grows by an arrival is wanted at the next look."""


@pytest.fixture(scope="module", params=RECORDINGS)
def plain(request: pytest.FixtureRequest) -> dict[str, Any]:
    path = DATA / f"scaling-recording-{request.param}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def recording(plain: dict[str, Any]) -> Recording:
    return Recording.from_json(plain)


@pytest.fixture(scope="module")
def simulated(recording: Recording) -> Simulated:
    return simulate_again(recording)


def numbers(changes: Sequence[Change]) -> list[int]:
    return [change.workers for change in changes]


def test_the_recording_is_worth_comparing(recording: Recording) -> None:
    assert len(recording.jobs) > 250
    wanted = numbers(recording.wanted)
    steps = [after - before for before, after in pairwise(wanted)]
    assert sum(step > 0 for step in steps) >= 4
    assert sum(step < 0 for step in steps) >= 10
    # The numbers that were asked for are those that were wanted, as far as workers had drained.
    assert max(numbers(recording.asked)) == max(wanted)
    assert len(recording.decisions) >= len(recording.asked) - 1


def test_every_kept_decision_is_made_again_exactly(recording: Recording) -> None:
    again = decide_again(recording)
    assert [each for each in again if not each.is_same] == []
    assert len(again) == len(recording.decisions)


def test_the_simulator_wants_the_same_numbers_in_the_same_order(
    recording: Recording, simulated: Simulated
) -> None:
    assert numbers(simulated.wanted) == numbers(recording.wanted)


def test_it_grows_at_the_same_look(recording: Recording, simulated: Simulated) -> None:
    pairs = list(zip(recording.wanted, simulated.wanted, strict=True))
    late = [
        (real.at, made.at)
        for (before, _), (real, made) in pairwise(pairs)
        if real.workers > before.workers and abs(real.at - made.at) > GROWTH_WITHIN
    ]
    assert late == []


@pytest.mark.parametrize("name", ["p50", "p95", "mean"])
def test_waiting_times_are_within_a_quarter(recording: Recording, simulated: Simulated, name: str) -> None:
    real = getattr(Waits.of([job.waited for job in recording.jobs]), name)
    assert real > 1.0, "what is nearly nothing says nothing by a ratio"
    assert getattr(simulated.waits, name) == pytest.approx(real, rel=WAITS_DIFFER_BY)


def test_another_pool_would_have_been_noticed(recording: Recording, simulated: Simulated) -> None:
    spec = replace(recording.wishes.scaling, target_jobs_per_worker=11)
    other = simulate_again(replace(recording, wishes=replace(recording.wishes, scaling=spec)))
    assert numbers(other.wanted) != numbers(simulated.wanted)
    slow = replace(
        recording,
        workers=tuple(replace(worker, entered_at=worker.entered_at + 10) for worker in recording.workers),
    )
    assert simulate_again(slow).waits.mean > (1 + WAITS_DIFFER_BY) * simulated.waits.mean


def test_it_is_read_as_it_was_written(recording: Recording, plain: dict[str, Any]) -> None:
    assert recording.to_json() == plain


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "must be 1"),
        ({"jobs": [{"at": "soon"}]}, "can't be read"),
        (
            {"jobs": [{"at": 0, "waited": 0, "ran": 1, "company": "a", "worker": 0}] * (MOST_JOBS + 1)},
            "more than",
        ),
    ],
)
def test_what_is_no_recording_is_refused(plain: dict[str, Any], change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidResourceError, match=words):
        Recording.from_json({**plain, **change})


def test_another_policy_can_not_be_compared(recording: Recording) -> None:
    wishes = replace(recording.wishes, policy=ScalingPolicy.DRAIN_TIME)
    with pytest.raises(InvalidResourceError, match="QueueDepth"):
        simulate_again(replace(recording, wishes=wishes))
