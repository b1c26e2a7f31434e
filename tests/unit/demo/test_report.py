"""The demo's verdict: a tour that kept its promises passes, and each broken one is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from import_local.demo.report import DemoReport

FATES = {
    "1": "live",
    "2": "live",
    "3": "archived",
    "4": "rejected: ImageMissing",
}
KEPT = DemoReport(
    expected_jobs={"Succeeded": 303, "Failed": 1},
    expected_products=138,
    expected_fates=FATES,
    objects_by_phase={"Succeeded": 303, "Failed": 1},
    rows_by_state={"COMPLETED": 303, "FAILED": 1},
    products=138,
    image_rows=138,
    stored_images=84,
    stored_thumbnails=168,
    stored_bytes=1,
    workers_minimum=2,
    workers_maximum=6,
    workers_at_end=2,
    scale_decision_seconds=0.3,
    first_job_by_new_worker_seconds=2.0,
    job_p50_seconds=0.5,
    job_p95_seconds=1.0,
    titles={"1": "Laptop", "2": "Mouse", "3": "Modem", "4": "Mystery"},
    fates=FATES,
    findable=["2", "1"],
    live_seconds=12.0,
    asked_for="Laptop",
    found=["Laptop Stand", "Laptop"],
    wrong_token_message="the provider refused the access token",
)


def test_a_tour_that_kept_every_promise_has_no_problems() -> None:
    assert KEPT.problems() == []
    assert KEPT.to_json()["problems"] == []


def test_who_is_kept_out_is_named_with_why() -> None:
    assert KEPT.live_and_kept_out() == (
        "2 of 4; kept out: 'Modem' archived; 'Mystery' rejected: ImageMissing"
    )
    assert replace(KEPT, fates={"1": "live"}).live_and_kept_out() == "1 of 1; kept out: none"


def test_a_problem_names_no_more_than_a_few() -> None:
    (problem,) = replace(
        KEPT,
        fates=FATES | {str(number): "live" for number in range(10, 18)},
        findable=list(FATES)[:2] + [str(number) for number in range(10, 18)],
    ).problems()
    assert problem.endswith("'14' is live, expected not there and 3 more")


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"objects_by_phase": {"Succeeded": 302, "Failed": 2}}, "objects by phase"),
        ({"rows_by_state": {"COMPLETED": 303, "FAILED": 1, "PENDING": 1}}, "rows by phase"),
        ({"products": 137}, "137 products"),
        ({"item_errors": 2}, "2 products or images failed"),
        ({"stored_thumbnails": 83}, "thumbnails"),
        ({"workers_maximum": 2}, "never grew"),
        ({"workers_at_end": 6}, "ended at 6"),
        ({"scale_decision_seconds": None}, "scale decision"),
        ({"first_job_by_new_worker_seconds": None}, "new worker"),
        ({"changed_by_second_import": ["row ('Product', 'x')"]}, "importing again changed row"),
        (
            {"fates": FATES | {"2": "rejected: Spam"}, "findable": ["1"]},
            "'Mouse' is rejected: Spam, expected live",
        ),
        ({"fates": FATES | {"4": "rejected: PriceMissing"}}, "expected rejected: ImageMissing"),
        ({"fates": FATES | {"2": "lost on its way"}, "findable": ["1"]}, "'Mouse' is lost on its way"),
        ({"fates": {"1": "live", "2": "live", "3": "archived"}}, "'Mystery' is not there"),
        ({"findable": ["1"]}, "live and not found by search: 'Mouse'"),
        ({"findable": ["1", "2", "4"]}, "not live and found by search: 'Mystery'"),
        ({"found": []}, "a search for 'Laptop' found []"),
        ({"found": ["Laptop Stand"]}, "a search for 'Laptop' found ['Laptop Stand']"),
        ({"asked_for": ""}, "a search for ''"),
        ({"wrong_token_message": "error 17"}, "unclear"),
    ],
)
def test_each_broken_promise_is_named(broken: dict[str, Any], named: str) -> None:
    problems = replace(KEPT, **broken).problems()
    assert len(problems) == 1
    assert named in problems[0]
