"""Bounds on unfinished jobs and on objects."""

import pytest

from import_core.domain.object_limits import ObjectLimits, decide_room_for_object

LIMITS = ObjectLimits(company_jobs=5, namespace_objects=10)


@pytest.mark.parametrize(
    ("jobs", "objects", "said"),
    [
        (4, 9, None),
        (None, None, None),
        (5, 9, "This company has 5 unfinished imports"),
        (0, 10, "There are 10 ImportJobs in this namespace"),
        (None, 10, "There are 10 ImportJobs"),
        (5, None, "This company has"),
    ],
)
def test_bounds(jobs: int | None, objects: int | None, said: str | None) -> None:
    refusal = decide_room_for_object(LIMITS, company_jobs=jobs, namespace_objects=objects)
    if said is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.message.startswith(said)
