"""`kubectl imports simulate` end to end: it needs no cluster, and says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from import_cli.main import app


def simulate(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["simulate", *words])
    return result.exit_code, result.stdout, result.stderr


def test_compares_policies_over_a_given_trace_and_draws(tmp_path: Path) -> None:
    trace, picture = tmp_path / "arrivals.csv", tmp_path / "out.svg"
    trace.write_text("at,products,company\n0,10,<acme>\n5,20,other\n", encoding="utf-8")
    code, out, _ = simulate(
        "--trace", str(trace), "--policy", "hpa", "--policy", "fixed", "--svg", str(picture)
    )
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["policy", "hpa", "fixed"]
    drawing = ElementTree.fromstring(picture.read_text(encoding="utf-8"))  # noqa: S314 - our own
    assert len(drawing.findall("{http://www.w3.org/2000/svg}polyline")) == 2


def test_json_is_for_programs() -> None:
    code, out, _ = simulate("--scenario", "quiet", "--jobs", "50", "--policy", "hpa", "-o", "json")
    document = json.loads(out)
    assert code == 0
    assert (document["jobs"], document["policies"][0]["policy"]) == (50, "hpa")
    assert {"workerHours", "cost", "waitingP95", "sloMisses", "interrupted"} <= set(document["policies"][0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scenario", "none"), "No scenario none"),
        (("--policy", "magic"), "No policy magic"),
        (("--min", "5", "--max", "4"), "--max must not be below --min"),
        (("--trace", "/nowhere/arrivals.csv"), "Can't read"),
        (
            ("--scenario", "quiet", "--jobs", "1", "--policy", "fixed", "--svg", "/nowhere/a.svg"),
            "can't write",
        ),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_reason(words: tuple[str, ...], message: str) -> None:
    code, _, problems = simulate(*words)
    assert code == 2
    assert message in problems


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    trace = tmp_path / "arrivals.jsonl"
    trace.write_text('{"at": 0, "products": 1}\n{"at": 0}\n', encoding="utf-8")
    code, _, problems = simulate("--trace", str(trace))
    assert code == 2
    assert "line 2: products" in " ".join(problems.split())
