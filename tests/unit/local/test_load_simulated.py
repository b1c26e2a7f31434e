"""What the simulator makes of a load test's imports."""

from __future__ import annotations

from itertools import pairwise

from import_local.load.mix import plan_imports
from import_local.load.simulated import POLICIES, SAMPLE_SECONDS, simulate_load


def test_a_fleet_of_fifty_is_asked_for_and_every_import_ends() -> None:
    found = simulate_load(plan_imports(600), seconds=10.0)
    assert [each.policy for each in found.outcomes] == list(POLICIES)
    assert [each.unfinished for each in found.outcomes] == [0] * len(POLICIES)
    assert found.default.most_workers == found.fleets.maximum
    assert 10.0 < found.done_seconds < 600.0


def test_its_course_is_fine_enough_to_be_drawn() -> None:
    found = simulate_load(plan_imports(50), seconds=5.0)
    moments = [at for at, _ in found.depth()[0].points]
    assert {round(later - earlier, 3) for earlier, later in pairwise(moments)} == {SAMPLE_SECONDS}
    assert found.depth()[0].last == 0
    assert found.workers()[0].last == found.fleets.minimum
