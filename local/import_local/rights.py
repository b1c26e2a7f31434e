"""What the processes' accounts may do, read off deploy/base: `kubectl imports doctor` asks whether they may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

BASE = Path(__file__).resolve().parents[2] / "deploy" / "base"
ACCOUNT = "ServiceAccount"


def rights_file() -> str:
    """All rights as JSON, by account; each is a verb, group, resource, name and whether it has no namespace."""
    documents = [
        document
        for path in sorted(BASE.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document
    ]
    roles = {
        (document["kind"], document["metadata"]["name"]): document["rules"]
        for document in documents
        if document["kind"] in {"Role", "ClusterRole"}
    }
    rights: dict[str, list[dict[str, Any]]] = {}
    for document in documents:
        if document["kind"] not in {"RoleBinding", "ClusterRoleBinding"}:
            continue
        rules = roles[document["roleRef"]["kind"], document["roleRef"]["name"]]
        everywhere = document["kind"] == "ClusterRoleBinding"
        for subject in document["subjects"]:
            if subject["kind"] == ACCOUNT:
                rights.setdefault(subject["name"], []).extend(_rights(rules, everywhere=everywhere))
    return json.dumps(rights, indent=1, sort_keys=True) + "\n"


def _rights(rules: list[dict[str, Any]], *, everywhere: bool) -> Iterator[dict[str, Any]]:
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames", [""]):
                    for verb in rule["verbs"]:
                        yield {
                            "verb": verb,
                            "group": group,
                            "resource": resource,
                            "name": name,
                            "everywhere": everywhere,
                        }
