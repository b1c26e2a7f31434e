"""Every overlay keeps to the policies, and each policy finds what is planted against it."""

from __future__ import annotations

import copy
import os
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment_policies import EVERYWHERE, IN_CLUSTERS, Json, problems, workloads
from rendering import FOR_CLUSTERS, OVERLAYS, PROJECT, render_folder, rendered_objects, with_workers


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_keeps_to_the_policies(overlay: str) -> None:
    checks = IN_CLUSTERS if overlay in FOR_CLUSTERS else EVERYWHERE
    assert problems(rendered_objects(overlay), checks) == []


@pytest.mark.parametrize("overlay", FOR_CLUSTERS)
def test_overlay_is_complete(overlay: str) -> None:
    names = {(body["kind"], body["metadata"]["name"]) for body in rendered_objects(overlay)}
    assert names >= {
        ("Namespace", "imports"),
        ("Deployment", "import-operator"),
        ("Deployment", "import-gateway"),
        ("Deployment", "product-imports-workers"),
        ("WorkerPool", "product-imports"),
        ("NetworkPolicy", "default-deny"),
    }
    assert not any(kind == "ConfigMap" for kind, _ in names), "addresses are for kustomize only"


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_two_of_each_process_where_it_counts(overlay: str) -> None:
    replicas = {
        body["metadata"]["name"]: body["spec"].get("replicas")
        for body in rendered_objects(overlay)
        if body["kind"] == "Deployment" and body["metadata"]["name"].startswith("import-")
    }
    assert replicas["import-operator"] == 2
    assert replicas["import-gateway"] >= 2


def test_images_have_the_projects_version() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    for overlay in FOR_CLUSTERS:
        for body in workloads(rendered_objects(overlay)):
            for container in body["spec"]["template"]["spec"]["containers"]:
                assert container["image"].endswith(f":{version}"), (overlay, container["image"])


@pytest.mark.parametrize(("with_steps", "processes"), [(False, 3), (True, 4)])
def test_the_overlay_of_the_how_to_works_as_it_is_written(
    tmp_path: Path, with_steps: bool, processes: int
) -> None:
    page = (PROJECT / "docs" / "how-to" / "install.md").read_text()
    written = next(
        block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "Kustomization" in block
    )
    if with_steps:
        written = written.replace("  # - ../", "  - ../")
    relative = os.path.relpath(PROJECT.resolve(), tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(written.replace("../import-operator", relative))
    addresses = PROJECT / "deploy" / "overlays" / "production" / "network-addresses.yaml"
    shutil.copy(addresses, tmp_path)
    objects = with_workers(list(yaml.safe_load_all(render_folder(tmp_path))))
    assert problems(objects, IN_CLUSTERS) == []
    images = {
        one["image"] for body in workloads(objects) for one in body["spec"]["template"]["spec"]["containers"]
    }
    assert len(images) == processes
    assert all(image.startswith("registry.example.com/import-") and "@sha256:" in image for image in images)


@pytest.mark.parametrize("overlay", FOR_CLUSTERS)
def test_no_placeholder_address_is_left(overlay: str) -> None:
    assert "192.0.2." not in str(rendered_objects(overlay))


def find(objects: list[Json], kind: str, name: str) -> Json:
    return next(b for b in objects if b["kind"] == kind and b["metadata"]["name"] == name)


def pod(objects: list[Json]) -> Json:
    found: Json = find(objects, "Deployment", "import-operator")["spec"]["template"]["spec"]
    return found


def container(objects: list[Json]) -> Json:
    found: Json = pod(objects)["containers"][0]
    return found


def role(objects: list[Json]) -> list[Json]:
    rules: list[Json] = find(objects, "Role", "import-operator")["rules"]
    return rules


def policy(objects: list[Json], name: str = "import-operator") -> Json:
    spec: Json = find(objects, "NetworkPolicy", name)["spec"]
    return spec


def remove(objects: list[Json], kind: str, name: str) -> None:
    objects.remove(find(objects, kind, name))


def volume(**source: Any) -> Json:
    return {"name": "planted", **source}


PLANTED: list[tuple[str, Callable[[list[Json]], Any]]] = [
    ("does not enforce restricted", lambda o: find(o, "Namespace", "imports")["metadata"].pop("labels")),
    ("is not in the namespace", lambda o: find(o, "Role", "import-worker")["metadata"].pop("namespace")),
    ("no requests.cpu", lambda o: container(o)["resources"]["requests"].pop("cpu")),
    ("no limits.memory", lambda o: container(o)["resources"]["limits"].pop("memory")),
    ("container migrate: no limits.memory", lambda o: pod(o)["initContainers"][0].pop("resources")),
    ("no livenessProbe", lambda o: container(o).pop("livenessProbe")),
    ("no readinessProbe", lambda o: container(o).pop("readinessProbe")),
    (
        "killed for not being ready",
        lambda o: container(o).update(livenessProbe=container(o)["readinessProbe"]),
    ),
    ("may run as root", lambda o: pod(o)["securityContext"].pop("runAsNonRoot")),
    ("may run as root", lambda o: container(o)["securityContext"].update(runAsUser=0)),
    ("no seccomp profile", lambda o: pod(o)["securityContext"].pop("seccompProfile")),
    ("may gain privileges", lambda o: container(o)["securityContext"].pop("allowPrivilegeEscalation")),
    ("can be written to", lambda o: container(o)["securityContext"].update(readOnlyRootFilesystem=False)),
    ("keeps capabilities", lambda o: container(o)["securityContext"]["capabilities"].update(add=["NET_RAW"])),
    ("hostNetwork", lambda o: pod(o).update(hostNetwork=True)),
    ("folder of the node", lambda o: pod(o)["volumes"].append(volume(hostPath={"path": "/"}))),
    ("port of the node", lambda o: container(o)["ports"][0].update(hostPort=8080)),
    ("another image tomorrow", lambda o: container(o).update(image="import-operator:latest")),
    ("another image tomorrow", lambda o: container(o).update(image="registry:5000/import-operator")),
    (
        "a value in the manifests",
        lambda o: find(o, "Secret", "import-gateway-certificate").update(data={"a": "YQ=="}),
    ),
    (
        "DATABASE_URL is written out",
        lambda o: container(o)["env"].append({"name": "DATABASE_URL", "value": "postgresql://a:b@c/d"}),
    ),
    ("* in verbs", lambda o: role(o)[0].update(verbs=["*"])),
    ("* in resources", lambda o: role(o)[0].update(resources=["importjobs/*"])),
    ("act as others", lambda o: role(o)[0].update(verbs=["impersonate"])),
    (
        "Secrets of every namespace",
        lambda o: find(o, "ClusterRole", "import-gateway")["rules"].append(
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
        ),
    ),
    ("default account", lambda o: pod(o).pop("serviceAccountName")),
    ("an account without rights", lambda o: remove(o, "RoleBinding", "import-worker")),
    ("token that is not needed", lambda o: pod(o).pop("automountServiceAccountToken")),
    ("0 PodDisruptionBudgets", lambda o: remove(o, "PodDisruptionBudget", "import-worker")),
    ("may be in one topology", lambda o: pod(o)["topologySpreadConstraints"].pop(1)),
    ("no NetworkPolicy denies", lambda o: remove(o, "NetworkPolicy", "default-deny")),
    ("at any port", lambda o: policy(o)["egress"][0].pop("ports")),
    ("egress, anybody", lambda o: policy(o)["egress"][0].pop("to")),
    (
        "private addresses",
        lambda o: policy(o, "import-worker")["egress"][2]["to"][0]["ipBlock"].pop("except"),
    ),
    (
        "every namespace",
        lambda o: policy(o, "import-gateway")["ingress"][1].update({"from": [{"namespaceSelector": {}}]}),
    ),
    ("no NetworkPolicy is about it", lambda o: remove(o, "NetworkPolicy", "import-worker")),
    ("has no port called", lambda o: container(o).pop("ports")),
    ("selects no pod", lambda o: remove(o, "Deployment", "import-operator")),
]


@pytest.mark.parametrize(
    ("found", "plant"), PLANTED, ids=[f"{i}-{words}" for i, (words, _) in enumerate(PLANTED)]
)
def test_what_is_planted_is_found(found: str, plant: Callable[[list[Json]], Any]) -> None:
    objects = copy.deepcopy(rendered_objects("production"))
    plant(objects)
    told = problems(objects, IN_CLUSTERS)
    assert any(found in problem for problem in told), told
