"""Asks the installation's search, as a person would: by `kubectl imports search`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from import_local.demo.cluster import DemoError

SECONDS = 60


def find_products(environment: Mapping[str, str], *, company: str, query: str) -> list[str]:
    """Titles of the company's products that a search finds, best first. Raises DemoError."""
    program = Path(sys.executable).with_name("kubectl-imports")
    outcome = subprocess.run(
        [program, "search", company, query, "-o", "json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if outcome.returncode != 0:
        raise DemoError(f"the search failed: {outcome.stderr.strip()[:500]}")
    return [str(item["title"]) for item in json.loads(outcome.stdout)["items"]]
