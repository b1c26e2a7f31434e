"""Packages that only some installations have: each is missed by the same error, which says what to do."""

import sys
from collections.abc import Callable

import pytest

from import_core.adapters.models.gemini import GeminiModel
from import_core.adapters.search.opensearch import connect
from import_core.domain.errors import BrowserMissingError, ImportOperatorError, MissingPackageError
from import_worker.browsing.browser import ChromiumBrowser


@pytest.mark.parametrize(
    ("module", "use", "error", "words"),
    [
        (
            "google.genai",
            lambda: GeminiModel(api_key="k", model="m"),
            MissingPackageError,
            r"Gemini needs .*suffix -enrich, or install import-operator\[enrich\]",
        ),
        (
            "opensearchpy",
            lambda: connect("http://127.0.0.1:1"),
            MissingPackageError,
            r"SEARCH_INDEX=opensearch needs .*import-operator\[opensearch\]",
        ),
        (
            "playwright.async_api",
            lambda: ChromiumBrowser().find(),
            BrowserMissingError,
            r"Reading pages needs .*worker-scraping, or install import-operator\[scraping\]",
        ),
    ],
)
def test_a_missing_package_says_which_image_and_which_extra_have_it(
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    use: Callable[[], object],
    error: type[ImportOperatorError],
    words: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(error, match=words):
        use()
