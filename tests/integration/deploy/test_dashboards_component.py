"""The component with the dashboards: one ConfigMap each, found by its label, in the namespace of the overlay."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from rendering import PROJECT, render_folder

from import_dashboards.boards import BOARDS


def test_each_dashboard_is_a_config_map_that_the_sidecar_finds(tmp_path: Path) -> None:
    component = os.path.relpath(PROJECT / "deploy" / "components" / "dashboards", tmp_path.resolve())
    overlay = {"kind": "Kustomization", "namespace": "catalogues", "components": [component]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    objects = list(yaml.safe_load_all(render_folder(tmp_path)))
    assert {body["kind"] for body in objects} == {"ConfigMap"}
    assert all(body["metadata"]["namespace"] == "catalogues" for body in objects)
    assert all(body["metadata"]["labels"] == {"grafana_dashboard": "1"} for body in objects)
    texts = {name: text for body in objects for name, text in body["data"].items()}
    folder = PROJECT / "dashboards" / "grafana"
    assert texts == {f"{one.name}.json": (folder / f"{one.name}.json").read_text() for one in BOARDS}
