"""What the demo measured, as a table, as JSON, and judged."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

MOST_KEPT_OUT = 0.25
"""Of a catalogue. The real one has none; the generated one has archived products, and some without price or image."""


@dataclass(slots=True)
class DemoReport:
    """Figures of one tour, read from PostgreSQL, S3 and the API server. Times in seconds, sizes in bytes."""

    expected_jobs: dict[str, int]
    expected_products: int
    expected_in_catalogue: int
    objects_by_phase: dict[str, int] = field(default_factory=dict)
    rows_by_state: dict[str, int] = field(default_factory=dict)
    products: int = 0
    image_rows: int = 0
    stored_images: int = 0
    stored_thumbnails: int = 0
    stored_bytes: int = 0
    item_errors: int = 0
    workers_minimum: int = 0
    workers_maximum: int = 0
    workers_at_end: int = 0
    scale_decision_seconds: float | None = None
    first_job_by_new_worker_seconds: float | None = None
    job_p50_seconds: float | None = None
    job_p95_seconds: float | None = None
    changed_by_second_import: list[str] = field(default_factory=list)
    live_products: int = 0
    archived_products: int = 0
    withheld_products: int = 0
    live_seconds: float | None = None
    asked_for: str = ""
    found: list[str] = field(default_factory=list)
    wrong_token_message: str = ""
    tour_seconds: float = 0.0
    machine: str = ""

    def problems(self) -> list[str]:
        """What is not as it should be; empty means that the tour kept every promise."""
        found = []
        for name, actual in (("objects", self.objects_by_phase), ("rows", _as_phases(self.rows_by_state))):
            if actual != self.expected_jobs:
                found.append(f"{name} by phase are {actual}, expected {self.expected_jobs}")
        if self.products != self.expected_products:
            found.append(f"{self.products} products in PostgreSQL, expected {self.expected_products}")
        if self.item_errors:
            found.append(f"{self.item_errors} products or images failed")
        if self.stored_images == 0 or self.stored_thumbnails < self.stored_images:
            found.append(f"{self.stored_images} images and {self.stored_thumbnails} thumbnails are stored")
        if self.workers_maximum <= self.workers_minimum:
            found.append("the fleet never grew")
        if self.workers_at_end != self.workers_minimum:
            found.append(f"the fleet ended at {self.workers_at_end} workers, not at {self.workers_minimum}")
        if self.scale_decision_seconds is None:
            found.append("no scale decision was seen")
        if self.first_job_by_new_worker_seconds is None:
            found.append("no new worker took a job")
        found += self._problems_of_going_live()
        found += [f"importing again changed {what}" for what in self.changed_by_second_import]
        if (
            "credentials" not in self.wrong_token_message.lower()
            and "token" not in self.wrong_token_message.lower()
        ):
            found.append(f"the wrong token's message is unclear: {self.wrong_token_message!r}")
        return found

    def _problems_of_going_live(self) -> list[str]:
        found = []
        kept_out = self.archived_products + self.withheld_products
        if self.live_products + kept_out != self.expected_in_catalogue:
            found.append(
                f"{self.live_products} products went live, expected {self.expected_in_catalogue - kept_out}:"
                f" of {self.expected_in_catalogue}, {self.archived_products} are archived and quality control"
                f" held back {self.withheld_products}"
            )
        if kept_out > self.expected_in_catalogue * MOST_KEPT_OUT:
            found.append(f"{kept_out} products of {self.expected_in_catalogue} were kept from going live")
        if not self.asked_for or self.asked_for not in self.found:
            found.append(f"a search for {self.asked_for!r} found {self.found}")
        return found

    def to_json(self) -> dict[str, Any]:
        """All figures and the verdict, for `.local/demo-report.json`."""
        return {**asdict(self), "problems": self.problems()}

    def to_table(self) -> Table:
        """The figures as a person reads them."""
        table = Table(title="What the tour did", show_header=False, title_justify="left")
        rows = {
            "jobs": ", ".join(f"{count} {phase}" for phase, count in sorted(self.objects_by_phase.items())),
            "products": str(self.products),
            "images": f"{self.image_rows} rows, {self.stored_images} objects",
            "thumbnails": str(self.stored_thumbnails),
            "bytes in S3": f"{self.stored_bytes:,}",
            "workers": f"{self.workers_minimum} → {self.workers_maximum} → {self.workers_at_end}",
            "depth change → scale decision": _seconds(self.scale_decision_seconds),
            "depth change → first job by a new worker": _seconds(self.first_job_by_new_worker_seconds),
            "job duration p50 / p95": f"{_seconds(self.job_p50_seconds)} / {_seconds(self.job_p95_seconds)}",
            "written by importing again": ", ".join(self.changed_by_second_import) or "nothing",
            "products live, embedded, checked and indexed": (
                f"{self.live_products} of {self.expected_in_catalogue} in {_seconds(self.live_seconds)}"
            ),
            "found by search": ", ".join(self.found),
            "wrong token": self.wrong_token_message,
            "the whole tour": _seconds(self.tour_seconds),
            "machine": self.machine,
        }
        for name, value in rows.items():
            table.add_row(name, value)
        return table


def _as_phases(states: dict[str, int]) -> dict[str, int]:
    names = {"COMPLETED": "Succeeded", "FAILED": "Failed", "CANCELLED": "Cancelled"}
    return {names.get(state, state): count for state, count in states.items()}


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"
