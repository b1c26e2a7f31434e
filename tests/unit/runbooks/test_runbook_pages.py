"""Runbooks have one form, every alert has its page, and a block says where its commands can be run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from runbooks import FOLDER, PAGES, SECTIONS, blocks

from import_local.alert_rules import alerts, runbook_name

ROOT = Path(__file__).parents[3]
LANGUAGES = {"sh", "sql", "sh aws", "sh cluster"}
ELSEWHERE = {"sh aws": {"aws"}, "sh cluster": {"kubectl"}}
"""Blocks that no test runs: they need an AWS account, or would take away what the other tests use."""
BY_NAME = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.mark.parametrize("alert", sorted({alert.name for alert in alerts()}))
def test_every_alert_has_its_page(alert: str) -> None:
    page = FOLDER / runbook_name(alert)
    assert page.exists()
    assert f"({page.name})" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_no_page_is_of_an_alert_that_is_gone() -> None:
    named = {runbook_name(alert.name) for alert in alerts()}
    assert {page.name for page in PAGES if page.name.startswith("import-")} == named


@BY_NAME
def test_a_page_has_the_five_sections_in_their_order(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert tuple(headings) == SECTIONS
    for section in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]:
        assert section.strip()


@BY_NAME
def test_what_is_wrong_and_a_command_come_first(page: Path) -> None:
    lead = page.read_text(encoding="utf-8").split("## Symptoms")[0]
    assert "```sh\n" in lead
    assert len(lead.splitlines()) <= 20
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 150


@BY_NAME
def test_blocks_say_where_they_run(page: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for block in blocks(page):
        assert block.language in LANGUAGES
        if block.language == "sql":
            continue
        checked = subprocess.run([bash, "-n"], input=block.text, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr
        allowed = ELSEWHERE.get(block.language)
        if allowed is not None:
            called = {re.sub(r"^\w+=\$\(", "", line).split()[0] for line in block.text.splitlines()}
            assert called <= allowed


@BY_NAME
def test_names_on_aws_are_those_of_the_infrastructure_program(page: Path) -> None:
    snapshot = (ROOT / "tests" / "unit" / "infra" / "snapshots" / "production.txt").read_text(
        encoding="utf-8"
    )
    for block in blocks(page):
        for name in re.findall(r"\bimports-(?:production|staging)-(?:redis|postgres)\b", block.text):
            assert name.replace("staging", "production") in snapshot


def test_every_loop_is_named_where_one_looks_for_it() -> None:
    sources = (ROOT / "operator" / "import_operator").rglob("*.py")
    found = [re.findall(r'\bLoop\(\s*"([a-z-]+)"', source.read_text(encoding="utf-8")) for source in sources]
    loops = {name for names in found for name in names}
    assert {"dispatch", "steps", "stalled", "fleet"} <= loops
    runbook = (FOLDER / "import-loop-stuck.md").read_text(encoding="utf-8")
    assert {loop for loop in loops if f"`{loop}`" not in runbook} == set()
    page = (ROOT / "docs" / "reference" / "lifecycle.md").read_text(encoding="utf-8")
    listed = page.split("The operator's loops")[1].split("**Rollouts.**")[0]
    assert {loop for loop in loops if not re.search(rf"\b{loop}\b", listed)} == set()
