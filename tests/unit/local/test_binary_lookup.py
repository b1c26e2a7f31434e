"""Where binaries are looked for, and what makes a cached build outdated."""

from pathlib import Path

import pytest

from import_local.binaries import (
    ALERTMANAGER,
    COMPOSE_CONFIG,
    KUBERNETES,
    OBJECT_STORE,
    PROMETHEUS,
    GoModule,
    find_kubectl,
    find_kubernetes_binaries,
    find_monitoring_binaries,
)


def _module(folder: Path, *, version: str = "v1", flags: str = "-s", requirement: str = "v0.1.0") -> GoModule:
    (folder / "sample").mkdir(exist_ok=True)
    (folder / "sample" / "go.mod").write_text("module sample\n")
    (folder / "sample" / "go.sum").write_text(f"example.com/part {requirement}\n")
    return GoModule("sample", version, {"sample": "sample"}, flags, modules=folder)


def test_key_changes_with_everything_that_changes_the_build(tmp_path: Path) -> None:
    keys = [
        _module(tmp_path).key,
        _module(tmp_path, version="v2").key,
        _module(tmp_path, flags="-w").key,
        _module(tmp_path, requirement="v0.2.0").key,
    ]
    assert len(set(keys)) == 4
    assert _module(tmp_path).key == keys[0]
    (tmp_path / "sample" / "main.go").write_text("package main\n")
    assert _module(tmp_path).key not in keys


_OWNERS = {
    "kubernetes": "k8s.io/kubernetes",
    "versitygw": "github.com/versity/versitygw",
    "prometheus": "github.com/prometheus/prometheus",
    "alertmanager": "github.com/prometheus/alertmanager",
    "compose-config": "github.com/compose-spec/compose-go/v2",
}


@pytest.mark.parametrize(
    "module",
    [KUBERNETES, OBJECT_STORE, PROMETHEUS, ALERTMANAGER, COMPOSE_CONFIG],
    ids=lambda module: module.name,
)
def test_the_named_version_is_the_pinned_one(module: GoModule) -> None:
    owner = _OWNERS[module.name]
    assert f"{owner} {module.version}" in (module.folder / "go.mod").read_text()


def _programs(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def test_kubebuilder_assets_come_before_path_and_count_only_when_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = _programs(tmp_path / "assets", ["etcd", "kube-apiserver", "kubectl"])
    on_path = _programs(tmp_path / "path", list(KUBERNETES.packages))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    monkeypatch.setenv("PATH", str(on_path))
    assert find_kubernetes_binaries() == on_path
    whole = _programs(tmp_path / "whole", list(KUBERNETES.packages))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(whole))
    assert find_kubernetes_binaries() == whole
    (whole / "etcd").chmod(0o644)
    monkeypatch.setenv("PATH", "")
    assert find_kubernetes_binaries() is None


def test_kubectl_comes_from_path_else_from_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(_programs(tmp_path / "path", ["kubectl"])))
    assert find_kubectl() == tmp_path / "path" / "kubectl"
    monkeypatch.setenv("PATH", "/nonexistent")
    assert find_kubectl().is_file()


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ("alertmanager, version 0.28.1 (branch: HEAD)", True),
        ("alertmanager, version 0.25.0 (branch: debian/sid)", False),
        ("alertmanager, version  (branch: )", False),
    ],
)
async def test_programs_on_the_path_count_when_they_are_whole_and_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, counts: bool
) -> None:
    on_path = _programs(tmp_path / "path", ["alertmanager"])
    (on_path / "alertmanager").write_text(f"#!/bin/sh\necho '{said}'\n")
    monkeypatch.setenv("PATH", str(on_path))
    assert await find_monitoring_binaries(ALERTMANAGER) is None, "amtool is missing"
    (on_path / "amtool").write_text("#!/bin/sh\n")
    (on_path / "amtool").chmod(0o755)
    assert await find_monitoring_binaries(ALERTMANAGER) == (on_path if counts else None)
