"""The demo's verdict: a tour that kept its promises passes, and each broken one is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from import_local.demo.report import DemoReport

KEPT = DemoReport(
    expected_jobs={"Succeeded": 303, "Failed": 1},
    expected_products=138,
    expected_in_catalogue=54,
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
    live_products=54,
    live_seconds=12.0,
    asked_for="Laptop",
    found=["Laptop Stand", "Laptop"],
    wrong_token_message="the provider refused the access token",
)


def test_a_tour_that_kept_every_promise_has_no_problems() -> None:
    assert KEPT.problems() == []
    assert KEPT.to_json()["problems"] == []


def test_what_is_archived_or_held_back_is_not_expected_to_be_live() -> None:
    assert replace(KEPT, live_products=49, archived_products=3, withheld_products=2).problems() == []


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
        ({"live_products": 50, "archived_products": 3}, "50 products went live, expected 51"),
        (
            {"live_products": 40, "archived_products": 3, "withheld_products": 11},
            "14 products of 54 were kept",
        ),
        ({"live_products": 0}, "0 products went live"),
        ({"live_products": 53}, "53 products went live, expected 54"),
        ({"live_products": 55}, "55 products went live, expected 54"),
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
