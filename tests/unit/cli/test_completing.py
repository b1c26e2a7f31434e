"""What is completed after `kubectl imports`, and that kubectl itself asks for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from import_cli.completing import FILES, NO_FILES, complete
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, WORKER_POOL, Kind
from import_local.binaries import find_kubectl

OBJECTS = {
    (IMPORT_JOB.kind, "imports"): ["acme-autumn", "acme-winter", "bean"],
    (IMPORT_JOB.kind, "other"): ["elsewhere"],
    (IMPORT_PROVIDER.kind, "imports"): ["shop"],
    (WORKER_POOL.kind, "imports"): ["product-imports"],
}


def names(kind: Kind, namespace: str) -> list[str]:
    return OBJECTS.get((kind.kind, namespace), [])


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("doc", ["doctor"]),
        ("ret", ["retry-failed", "retry", "retry-items"]),
        ("watch acme-", ["acme-autumn", "acme-winter"]),
        ("watch -n other ", ["elsewhere"]),
        ("cancel acme-autumn be", ["bean"]),
        ("watch acme-autumn ", []),
        ("scale ", ["product-imports"]),
        ("scale --auto ", ["product-imports"]),
        ("pause --provider ", ["shop"]),
        ("status -o ", ["text", "json"]),
        ("status --output j", ["json"]),
        ("doctor --al", ["--alertmanager"]),
        ("drain --wait --w", []),
        ("nothing ", []),
    ],
)
def test_words_are_completed(typed: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMPORTS_NAMESPACE", raising=False)
    answer = complete(typed.split(" "), names)
    assert [word for word, _ in answer.candidates] == words
    assert answer.directive == NO_FILES


def test_files_are_left_to_the_shell() -> None:
    assert complete(["try", ""], names).directive == FILES
    assert complete(["top", "--svg", ""], names).directive == FILES


def test_kubectl_asks_for_them(tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    result = subprocess.run(
        [find_kubectl(), "__complete", "imports", "doc"],
        env={"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path), "KUBECONFIG": os.devnull},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.splitlines() == [
        "doctor\tCheck an installation from end to end, each thing that is wrong with a fix.",
        f":{NO_FILES}",
    ]
