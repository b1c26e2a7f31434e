"""The queries that people on call are given ask for fields and events that the code writes."""

import re
from pathlib import Path

import pytest
from infra.logs import SAVED_QUERIES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "read-logs.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BLOCKS = [text for language, text in FENCED if language in {"", "logql"}]
QUERIES = {**{f"page-{number}": text for number, text in enumerate(BLOCKS)}, **SAVED_QUERIES}
SOURCE = "\n".join(
    path.read_text(encoding="utf-8")
    for process in ("core", "operator", "worker", "gateway")
    for path in (ROOT / process).rglob("*.py")
)
OUTCOMES = {f"job.{outcome}" for outcome in ("completed", "failed", "retried", "handed_back", "lost")}
"""Put together where the job ends."""
LANGUAGE = frozenset(
    re.findall(
        r"\w+",
        "as asc avg bin by count count_over_time desc earliest fields filter h in ispresent json latest limit"
        " line_format m max n namespace pct quantile_over_time sort stats sum unwrap",
    )
)
"""Words of the query languages, and the collectors' own labels."""
RENDERED = {"event", "level", "timestamp", "exception", "process"}
"""Fields that every line gets by configuration."""


def events(text: str) -> set[str]:
    return set(
        re.findall(r"\b(?:import|job|jobs|page|claim|message|worker|workers|request)\.[a-z_]+\b", text)
    )


def fields(query: str) -> set[str]:
    """What is left of a query without its values, the collectors' fields and the language's words."""
    names = set(re.findall(r"\{\{\.([a-zA-Z]+)\}\}", query))
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|@\w+|kubernetes\.\w+|\bas \w+', " ", query)
    bare = re.sub(r"\bphases[._]\w+", "phases", bare)
    aliases = set(re.findall(r"\bas (\w+)", query))
    return (names | set(re.findall(r"\b[a-zA-Z_]+\b", bare))) - LANGUAGE - aliases


@pytest.mark.parametrize("event", sorted(set().union(*map(events, [PAGE, *QUERIES.values()]))))
def test_every_event_is_written_somewhere(event: str) -> None:
    assert event in OUTCOMES or f'"{event}"' in SOURCE


@pytest.mark.parametrize("name", QUERIES)
def test_every_field_is_written_somewhere(name: str) -> None:
    found = fields(QUERIES[name])
    assert found, "every query asks for something of ours"
    for field in found - RENDERED:
        assert re.search(rf"\b{field}=|\"{field}\":", SOURCE), field


def test_the_page_has_queries_for_both_stores() -> None:
    assert PAGE.count("```logql") >= 4
    assert len(BLOCKS) - PAGE.count("```logql") >= 4
