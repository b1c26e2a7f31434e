"""The control plane is a real one: it schedules, authorises, and refuses strangers."""

import json
import ssl
from pathlib import Path

import httpx2
import pytest
from eventually import eventually

from import_local.errors import ForeignClusterError
from import_local.kubectl import KubectlError, apply_definitions, run_kubectl
from import_local.parts.control_plane import ControlPlane

_DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: samples.tests.avnz.io}
spec:
  group: tests.avnz.io
  names: {kind: Sample, plural: samples}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, required: [size]}}}}
"""


async def test_server_says_the_version_that_was_built(control_plane: Path) -> None:
    version = json.loads(await run_kubectl(control_plane, "version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == "v1.36.3"


async def test_a_deployment_becomes_a_pending_pod(control_plane: Path) -> None:
    await run_kubectl(control_plane, "create", "namespace", "deployed")
    # No node has this label, whatever other tests register: the scheduler's verdict is the last word.
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"nodeSelector": {"nowhere": "yes"}, "containers": [{"name": "web", "image": "web:1"}]},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "deployed"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    await run_kubectl(control_plane, "create", "-f", "-", stdin=json.dumps(deployment).encode())
    await run_kubectl(
        control_plane,
        *("wait", "deployment/web", "-n", "deployed", "--timeout=30s"),
        "--for=jsonpath={.status.unavailableReplicas}=1",
    )
    await run_kubectl(
        control_plane,
        *("wait", "pod", "-l", "app=web", "-n", "deployed", "--timeout=60s"),
        "--for=condition=PodScheduled=False",
    )


async def test_deleting_a_namespace_ends_everything_in_it(control_plane: Path) -> None:
    await run_kubectl(control_plane, "create", "namespace", "short-lived")
    await run_kubectl(control_plane, "create", "configmap", "kept", "-n", "short-lived")
    await run_kubectl(control_plane, "delete", "namespace", "short-lived", "--timeout=40s")
    with pytest.raises(KubectlError, match="NotFound"):
        await run_kubectl(control_plane, "get", "configmap", "kept", "-n", "short-lived")


async def test_a_user_has_only_the_rights_it_was_given(
    control_plane: Path, control_plane_server: ControlPlane
) -> None:
    alice = control_plane_server.kubeconfig_for("alice", groups=("readers",), namespace="default")
    with pytest.raises(KubectlError, match=r'User "alice" cannot list resource "configmaps"'):
        await run_kubectl(alice, "get", "configmaps")
    await run_kubectl(control_plane, "create", "clusterrole", "look", "--verb=list", "--resource=configmaps")
    await run_kubectl(
        control_plane,
        "create",
        "rolebinding",
        "look",
        "--clusterrole=look",
        "--group=readers",
        "-n",
        "default",
    )

    async def may_look() -> bool:
        try:
            return "kube-root-ca.crt" in await run_kubectl(alice, "get", "configmaps", "-o", "name")
        except KubectlError as refused:
            if "cannot list resource" not in str(refused):
                raise
            return False

    # The API server hears of its own roles a moment after they are written.
    await eventually(may_look, seconds=60, what="alice's right")


async def test_a_service_account_signs_in_with_its_token(
    control_plane: Path, control_plane_server: ControlPlane
) -> None:
    token = await run_kubectl(control_plane, "create", "token", "default", "-n", "default")
    kubeconfig = control_plane_server.kubeconfig_with_token("default-account", token)
    assert "system:serviceaccount:default:default" in await run_kubectl(kubeconfig, "auth", "whoami")


async def test_nobody_gets_in_with_a_wrong_token(control_plane_server: ControlPlane) -> None:
    stranger = control_plane_server.kubeconfig_with_token("stranger", "wrong")
    with pytest.raises(KubectlError, match="Unauthorized"):
        await run_kubectl(stranger, "get", "--raw", "/version")


async def test_anonymous_requests_are_refused(control_plane_server: ControlPlane) -> None:
    trusting = ssl.create_default_context(cafile=str(control_plane_server.authority.certificate))
    async with httpx2.AsyncClient(verify=trusting, trust_env=False) as client:
        assert (await client.get(f"{control_plane_server.server}/version")).status_code == 401


def test_kubeconfigs_and_keys_are_private(control_plane: Path) -> None:
    folder = control_plane.parent.parent
    files = [path for path in folder.rglob("*") if path.suffix in {".key", ".yaml"}]
    assert len(files) > 5
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


async def test_another_cluster_is_refused(control_plane_server: ControlPlane, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(
        control_plane_server.kubeconfig.read_text().replace(
            control_plane_server.server, "https://10.0.0.1:6443"
        )
    )
    with pytest.raises(ForeignClusterError, match=r"leads to https://10\.0\.0\.1:6443"):
        control_plane_server.ensure_own(other)


async def test_definitions_are_served_once_applied(control_plane: Path, tmp_path: Path) -> None:
    (tmp_path / "samples.yaml").write_text(_DEFINITION)
    names = await apply_definitions(control_plane, tmp_path)
    assert names == ["customresourcedefinition.apiextensions.k8s.io/samples.tests.avnz.io"]
    assert await run_kubectl(control_plane, "get", "samples", "-A", "-o", "name") == ""
    assert await apply_definitions(control_plane, tmp_path) == names
    await run_kubectl(control_plane, "delete", *names)


async def test_the_cluster_keeps_its_state_over_a_restart(servers_folder: Path) -> None:
    logs = servers_folder / "restarted-logs"
    logs.mkdir()
    first = ControlPlane(servers_folder / "restarted-cluster", log_folder=logs)
    await first.start()
    try:
        await run_kubectl(first.kubeconfig, "create", "namespace", "kept")
    finally:
        await first.stop()
    assert first.children == []
    second = ControlPlane(servers_folder / "restarted-cluster", log_folder=logs, ports=first.ports)
    await second.start()
    try:
        assert second.server == first.server
        assert (
            await run_kubectl(second.kubeconfig, "get", "namespace", "kept", "-o", "name")
            == "namespace/kept\n"
        )
    finally:
        await second.stop()
