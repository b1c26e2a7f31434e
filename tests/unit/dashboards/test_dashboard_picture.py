"""The picture of a dashboard shows what was answered, and says where nothing was."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from import_dashboards.model import Board, Panel, Row, ask
from import_dashboards.picture import Line, line_name, picture
from import_dashboards.words import in_words

QUERY = (ask("imports_leading"),)


def board(**panel: object) -> Board:
    made = Panel(title="Depth", meaning="It.", queries=QUERY, **panel)  # type: ignore[arg-type]
    return Board(name="one", title="One", answers="What?", rows=(Row(title="Now", panels=(made,)),))


def texts(drawn: str) -> list[str]:
    tree = ElementTree.fromstring(drawn)  # noqa: S314 - our own text
    return [each.text or "" for each in tree.iter() if each.tag.endswith("}text")]


def test_a_number_is_its_last_known_value_in_the_colour_of_its_threshold() -> None:
    line = Line(name="a", points=[(0, 1), (1, 12_000), (2, math.nan)])
    drawn = picture(
        board(kind="number", thresholds=((1_000, "red"),)), {"Now/Depth": [line]}, start=0, end=60
    )
    assert "12 k" in texts(drawn)
    assert "#cf222e" in drawn


def test_a_word_stands_for_a_value() -> None:
    words = {0: ("open", "green"), 1: ("stopped", "red")}
    drawn = picture(
        board(kind="number", words=words),
        {"Now/Depth": [Line(name="", points=[(0, 1)])]},
        start=0,
        end=60,
    )
    assert "stopped" in texts(drawn)


def test_lines_that_are_stacked_lie_on_each_other() -> None:
    lines = [Line(name=name, points=[(0, 10), (60, 10)]) for name in ("a", "b")]
    drawn = picture(board(kind="stack"), {"Now/Depth": lines}, start=0, end=60)
    assert drawn.count("<polygon") == 2
    first, second = (
        part.split('points="')[1].split('"')[0] for part in drawn.split("\n") if "<polyline" in part
    )
    assert float(second.split(",")[1].split()[0]) < float(first.split(",")[1].split()[0])
    assert {"a", "b"} <= set(texts(drawn))


def test_a_panel_without_any_value_says_so() -> None:
    drawn = picture(board(), {"Now/Depth": [Line(name="a", points=[(0, math.nan)])]}, start=0, end=60)
    assert "nothing measured" in texts(drawn)


def test_names_of_pods_are_no_markup() -> None:
    drawn = picture(board(), {"Now/Depth": [Line(name="<b>&", points=[(0, 1), (1, 2)])]}, start=0, end=60)
    assert "<b>&" in texts(drawn)


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0, "short", "0"),
        (1_234, "short", "1.23 k"),
        (0.5, "short", "0.5"),
        (0.995, "percentunit", "99.5 %"),
        (0.0032, "s", "3.2 ms"),
        (90, "s", "1.5 min"),
        (150 * 2**20, "bytes", "150 MiB"),
        (2.5, "ops", "2.5/s"),
        (math.nan, "s", "–"),
    ],
)
def test_values_have_units(value: float, unit: str, words: str) -> None:
    assert in_words(value, unit) == words


def test_a_legend_names_its_series() -> None:
    assert line_name("{{queue}} {{ state }}", {"queue": "q", "state": "active"}) == "q active"
    assert line_name("{{absent}}", {}) == ""
