"""What the demo measured, as a table, as JSON, and judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from import_local.demo.fates import LIVE

NAMED = 5
"""Products that a problem names, at most."""


@dataclass(slots=True)
class DemoReport:
    """Figures of one tour, read from PostgreSQL, S3 and the API server. Times in seconds, sizes in bytes."""

    expected_jobs: dict[str, int]
    expected_products: int
    expected_fates: dict[str, str]
    """What is to become of each product of the catalogue that goes live, by external id; see fates.py."""
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
    titles: dict[str, str] = field(default_factory=dict)
    fates: dict[str, str] = field(default_factory=dict)
    """What has become of them."""
    findable: list[str] = field(default_factory=list)
    """External ids of those that a search for their own titles finds."""
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
        wrong = [
            f"{self.titles.get(external_id, external_id)!r} is {self.fates.get(external_id, 'not there')},"
            f" expected {self.expected_fates.get(external_id, 'not there')}"
            for external_id in sorted({*self.fates, *self.expected_fates})
            if self.fates.get(external_id) != self.expected_fates.get(external_id)
        ]
        found = [_first("of the products going live", wrong)] if wrong else []
        live = {external_id for external_id, fate in self.fates.items() if fate == LIVE}
        if hidden := live - set(self.findable):
            found.append(_first("live and not found by search", self._named(hidden)))
        if shown := set(self.findable) - live:
            found.append(_first("not live and found by search", self._named(shown)))
        if not self.asked_for or self.asked_for not in self.found:
            found.append(f"a search for {self.asked_for!r} found {self.found}")
        return found

    def _named(self, external_ids: Iterable[str]) -> list[str]:
        return sorted(repr(self.titles.get(external_id, external_id)) for external_id in external_ids)

    def live_and_kept_out(self) -> str:
        """How many products are live, and each of the others with why it is not."""
        kept_out = [
            f"{self.titles[external_id]!r} {fate}" for external_id, fate in self.fates.items() if fate != LIVE
        ]
        live = f"{len(self.fates) - len(kept_out)} of {len(self.fates)}"
        return f"{live}; kept out: {'; '.join(kept_out) or 'none'}"

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
            "products live, embedded, checked and indexed": self.live_and_kept_out(),
            "until all were live or kept out": _seconds(self.live_seconds),
            "found by their titles": f"{len(self.findable)} products",
            "a search for the first of them": ", ".join(self.found),
            "wrong token": self.wrong_token_message,
            "the whole tour": _seconds(self.tour_seconds),
            "machine": self.machine,
        }
        for name, value in rows.items():
            table.add_row(name, value)
        return table


def _first(what: str, items: Sequence[str]) -> str:
    more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return f"{what}: {', '.join(items[:NAMED])}{more}"


def _as_phases(states: dict[str, int]) -> dict[str, int]:
    names = {"COMPLETED": "Succeeded", "FAILED": "Failed", "CANCELLED": "Cancelled"}
    return {names.get(state, state): count for state, count in states.items()}


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"
