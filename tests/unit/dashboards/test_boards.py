"""What dashboards ask for exists: metrics and labels by the reference page, and JSON that Grafana can load."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from infra.watch_files import read_watch_files

from import_dashboards.boards import BOARDS
from import_dashboards.files import generated_files
from import_dashboards.model import Board, ask, led, quantile, rare, without_zero

ROOT = Path(__file__).parents[3]
PROCESS_METRICS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
OF_EVERY_TARGET = {"namespace", "pod", "container", "job", "le"}
BY_NAME = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)


def described_metrics() -> dict[str, set[str]]:
    """Labels by the name of a series, as docs/reference/metrics.md has them."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for name, kind, labels in re.findall(r"^\| `(imports_\w+)` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE):
        names = [name + end for end in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]
        found |= {series: set(re.findall(r"`(\w+)`", labels)) for series in names}
    return found


def expressions(board: Board) -> list[str]:
    return [query.expression for panel in board.panels for query in panel.queries]


@BY_NAME
def test_every_metric_of_a_dashboard_is_there_with_its_labels(board: Board) -> None:
    described = described_metrics()
    for expression in expressions(board):
        metrics = re.findall(r"\b(?:imports|process)_[a-z0-9_]+", expression)
        assert metrics, expression
        assert set(metrics) <= described.keys() | PROCESS_METRICS, expression
        known = set().union(*(described.get(name, set()) for name in metrics)) | OF_EVERY_TARGET
        used = {
            label.strip()
            for labels in re.findall(r"\b(?:by|on) \(([^)]+)\)", expression)
            for label in labels.split(",")
        }
        used |= set(re.findall(r"(\w+)=~?\"", expression))
        assert used <= known, expression


@BY_NAME
def test_a_legend_names_labels_that_the_answer_has(board: Board) -> None:
    for panel in board.panels:
        for query in panel.queries:
            kept = {
                label.strip()
                for labels in re.findall(r"\bby \(([^)]+)\)", query.expression)
                for label in labels.split(",")
            }
            assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= kept, (panel.title, query)


@BY_NAME
def test_every_panel_is_told_apart_and_says_what_it_means(board: Board) -> None:
    for row in board.rows:
        titles = [panel.title for panel in row.panels]
        assert len(titles) == len(set(titles))
        assert sum(panel.width for panel in row.panels) % 24 == 0, row.title
    assert all(panel.meaning.endswith(".") for panel in board.panels)


@BY_NAME
def test_its_json_is_complete(board: Board) -> None:
    document = json.loads(generated_files()[Path("dashboards/grafana") / f"{board.name}.json"])
    assert document["uid"] == f"imports-{board.name}"
    assert [variable["name"] for variable in document["templating"]["list"]] == ["datasource", "namespace"]
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels] == [panel.title for panel in board.panels]
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels:
        assert panel["targets"]
        assert all('namespace=~"$namespace"' in target["expr"] for target in panel["targets"])
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"] is True


def test_the_infrastructure_program_finds_them_all() -> None:
    assert set(read_watch_files().dashboards) >= {board.name for board in BOARDS}


def test_the_chosen_namespaces_are_asked_for_in_every_selector() -> None:
    query = ask(rare(f'sum ({led("imports_jobs_held")}) + sum (process_open_fds{{pod="a"}})'))
    assert query.expression.count('namespace=~"$namespace"') == 3
    assert 'process_open_fds{namespace=~"$namespace", pod="a"}' in query.expression
    assert without_zero(query.expression) + " or on () vector(0)" == query.expression


def test_a_quantile_keeps_its_selector_behind_the_bucket() -> None:
    assert quantile(0.9, 'imports_x_seconds{pod="a"}', "loop") == (
        "histogram_quantile(0.9, sum by (loop, le)"
        ' (rate(imports_x_seconds_bucket{pod="a"}[$__rate_interval])))'
    )
