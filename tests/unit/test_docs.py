"""The documentation holds together: links lead somewhere, no page is left out, generated pages are current."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from import_local import generate
from import_worker.providers.registry import PROVIDERS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", flags=re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    return CODE.sub(lambda code: re.sub(r"[\[\]]", "", code.group()), page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    found = LINK.findall(prose(page))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and GitLab make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != ROOT], ids=name)
def test_every_page_is_linked_from_its_folder(page: Path) -> None:
    index = page.parent / "README.md" if page.name != "README.md" else ROOT / "README.md"
    targets = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert page in targets


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_every_provider_has_a_page_for_those_who_import_from_it(provider: str) -> None:
    page = ROOT / "docs/how-to" / f"{provider}-catalogues.md"
    index = ROOT / "docs/how-to/README.md"
    assert page in {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    sample = (ROOT / "deploy/samples" / f"provider-{provider}.yaml").resolve()
    assert sample in {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}


def test_the_tests_that_the_readme_names_exist() -> None:
    named = re.findall(r"tests/[\w/.]+", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("path", generate.generated_files(), ids=str)
def test_generated_files_are_current(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == generate.generated_files()[path]


def test_every_setting_and_metric_is_described() -> None:
    for text in (generate.settings_page(), generate.metrics_page()):
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        assert len(rows) > 20
        assert [row for row in rows if row.rstrip("| ").count("|") < 2] == []
