"""Tests that read pages need Chromium: without one they are skipped, and fail where CI says that nothing may be."""

from __future__ import annotations

import os
import shutil

import pytest

from import_worker.browsing.browser import EXECUTABLES

NO_CHROMIUM = f"no Chromium on PATH: install one of {', '.join(EXECUTABLES)}"


def require_chromium() -> None:
    """Skip the test where there is no Chromium; fail it where the environment variable CI is set."""
    if any(map(shutil.which, EXECUTABLES)):
        return
    if os.environ.get("CI"):
        pytest.fail(f"{NO_CHROMIUM}; CI is set, and there this test may not be skipped", pytrace=False)
    pytest.skip(NO_CHROMIUM)
