"""Which index the settings choose, and what they refuse."""

import sys

import pytest
from pydantic import ValidationError

from import_core.adapters.postgres import Database
from import_core.adapters.search.opening import open_search_index
from import_core.adapters.search.postgres import PostgresSearchIndex
from import_core.adapters.search.settings import SearchSettings
from import_core.adapters.settings import describe_problems
from import_core.domain.errors import MissingPackageError

DATABASE = Database("postgresql://nobody:x@127.0.0.1:1/none", application="tests", minimum=0)


def test_postgresql_is_the_default() -> None:
    assert isinstance(open_search_index(SearchSettings(), DATABASE), PostgresSearchIndex)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"search_index": "opensearch"}, "OPENSEARCH_URL is not set"),
        ({"search_index": "solr"}, "search_index"),
        ({"opensearch_index": "Upper Case"}, "opensearch_index"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError) as raised:
        SearchSettings(**values)  # type: ignore[arg-type]
    assert named in "\n".join(describe_problems(raised.value))


def test_a_missing_client_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensearchpy", None)
    settings = SearchSettings(search_index="opensearch", opensearch_url="http://user:s3cret@127.0.0.1:1")  # type: ignore[arg-type]
    assert "s3cret" not in repr(settings)
    with pytest.raises(MissingPackageError, match=r"import-operator\[opensearch\]"):
        open_search_index(settings, DATABASE)
