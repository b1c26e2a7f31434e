"""What is in dashboards/ for the cluster's own monitoring: Grafana dashboards and Alertmanager's routing.

Found by their content. The rules beside them come with the application: `make generate` puts them into
deploy/components/monitoring.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DASHBOARDS = Path(__file__).resolve().parent.parent / "dashboards"


@dataclass(frozen=True, kw_only=True)
class WatchFiles:
    """Everything by the file's name without its ending."""

    dashboards: Mapping[str, str] = field(default_factory=dict)
    """Grafana dashboards, as JSON text."""
    alertmanager: Mapping[str, Any] | None = None
    """Alertmanager's configuration."""


def read_watch_files(folder: Path = DASHBOARDS) -> WatchFiles:
    """Read the folder, or nothing where there is none; raises ValueError naming a file that can't be read."""
    dashboards: dict[str, str] = {}
    alertmanager: Mapping[str, Any] | None = None
    for path in sorted(folder.rglob("*")):
        if path.suffix not in {".json", ".yaml", ".yml"}:
            continue
        text = path.read_text(encoding="utf-8")
        try:
            # Templates and tests beside them may hold several documents; ours hold one.
            content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path} can't be read: {error}") from error
        if not isinstance(content, dict):
            continue
        if isinstance(content.get("panels"), list):
            dashboards[path.stem] = text
        elif "route" in content and "receivers" in content:
            alertmanager = content
    return WatchFiles(dashboards=dashboards, alertmanager=alertmanager)
