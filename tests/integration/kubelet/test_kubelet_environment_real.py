"""What a pod's process finds: variables, secrets, its service account's token, its volumes."""

import base64

import pytest
from kubelet_node import get_state, is_ended, is_running, is_waiting

from import_local.kubelet.api import MERGE_PATCH


async def create_secret(node, name, **data):
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}
    await node.api.request("POST", f"/api/v1/namespaces/{node.namespace}/secrets", body=body)


async def create_config_map(node, name, **data):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    await node.api.request("POST", f"/api/v1/namespaces/{node.namespace}/configmaps", body=body)


async def get_output(node, name):
    pod = await node.wait_pod(name, is_ended)
    log = await node.get_log(name)
    assert pod["status"]["phase"] == "Succeeded", log
    return dict(line.split("=", 1) for line in log.splitlines() if "=" in line), pod


def ref(variable, kind, **selector):
    return {"name": variable, "valueFrom": {kind: selector}}


async def test_variables_from_everywhere(node):
    await create_secret(node, "s", password="p$(X)w", other="o")
    await create_config_map(node, "c", key="value")
    pod = node.make_pod(
        "env",
        "env",
        spec={"restartPolicy": "Never"},
        envFrom=[{"secretRef": {"name": "s"}, "prefix": "S_"}],
        env=[
            ref("PASSWORD", "secretKeyRef", name="s", key="password"),
            ref("KEY", "configMapKeyRef", name="c", key="key"),
            ref("NONE", "configMapKeyRef", name="c", key="none", optional=True),
            ref("POD_NAME", "fieldRef", fieldPath="metadata.name"),
            ref("POD_UID", "fieldRef", fieldPath="metadata.uid"),
            ref("POD_NAMESPACE", "fieldRef", fieldPath="metadata.namespace"),
            ref("POD_IP", "fieldRef", fieldPath="status.podIP"),
            ref("HOST_IP", "fieldRef", fieldPath="status.hostIP"),
            ref("NODE", "fieldRef", fieldPath="spec.nodeName"),
            ref("ACCOUNT", "fieldRef", fieldPath="spec.serviceAccountName"),
            ref("LABEL", "fieldRef", fieldPath="metadata.labels['team']"),
            ref("LIMIT", "resourceFieldRef", resource="limits.memory", divisor="1Mi"),
            {"name": "COMBINED", "value": "$(POD_NAME)@$(POD_IP) $$(KEY) $(UNKNOWN)"},
        ],
        resources={"limits": {"memory": "1Gi"}},
    )
    pod["metadata"]["labels"] = {"team": "a"}
    await node.create(pod)
    found, pod = await get_output(node, "env")
    address = pod["status"]["podIP"]
    expected = {
        "S_password": "p$(X)w",
        "S_other": "o",
        "PASSWORD": "p$(X)w",
        "KEY": "value",
        "POD_NAME": "env",
        "POD_UID": pod["metadata"]["uid"],
        "POD_NAMESPACE": node.namespace,
        "POD_IP": address,
        "HOST_IP": "127.0.0.1",
        "NODE": node.name,
        "ACCOUNT": "default",
        "LABEL": "a",
        "LIMIT": "1024",
        "COMBINED": f"env@{address} $(KEY) $(UNKNOWN)",
        "KUBERNETES_SERVICE_HOST": node.api.address[0],
        "KUBERNETES_SERVICE_PORT": str(node.api.address[1]),
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "NONE" not in found
    assert address.startswith("127.")


async def test_the_kubelets_own_variables_do_not_leak(own_node):
    node = own_node
    await node.terminate()
    node.environment = {"DATABASE_URL": "secret", "HANDED_ON": "yes"}
    await node.start("--pass-env", "HANDED_ON")
    await node.run("env", "env", spec={"restartPolicy": "Never"})
    found, _ = await get_output(node, "env")
    assert "DATABASE_URL" not in found
    assert found["HANDED_ON"] == "yes"


@pytest.mark.parametrize("kind", ["secret", "key"])
async def test_a_pod_waits_for_its_secret(node, kind):
    if kind == "key":
        await create_secret(node, "late", other="x")
    env = [ref("A", "secretKeyRef", name="late", key="k")]
    await node.run("waits", 'echo "A=$A"', spec={"restartPolicy": "Never"}, env=env)
    pod = await node.wait_pod("waits", is_waiting("CreateContainerConfigError"))
    message = get_state(pod)["waiting"]["message"]
    if kind == "secret":
        assert message == 'secret "late" not found'
        await create_secret(node, "late", k="v")
    else:
        assert message == f"couldn't find key k in Secret {node.namespace}/late"
        path = f"/api/v1/namespaces/{node.namespace}/secrets/late"
        patch = {"stringData": {"k": "v"}}
        await node.api.request("PATCH", path, body=patch, content_type=MERGE_PATCH)
    found, _ = await get_output(node, "waits")
    assert found["A"] == "v"


async def test_the_process_acts_as_its_own_service_account(node):
    script = 'kubectl auth whoami -o jsonpath="NAME={.status.userInfo.username}"; echo; '
    script += 'cat "$KUBERNETES_SERVICEACCOUNT_DIR/namespace"; ls "$KUBERNETES_SERVICEACCOUNT_DIR"'
    await node.run("account", script, spec={"restartPolicy": "Never"})
    found, _ = await get_output(node, "account")
    log = await node.get_log("account")
    assert found["NAME"] == f"system:serviceaccount:{node.namespace}:default"
    assert node.namespace in log
    assert log.endswith("ca.crt\nnamespace\ntoken\n")


async def test_the_token_is_bound_to_the_pod(node):
    pod = await node.run("bound", image="sleeper:1")
    await node.wait_pod("bound", is_running)
    (file,) = (node.state / "pods" / pod["metadata"]["uid"]).rglob("token")
    token = file.read_text()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    answer = await node.api.request("POST", path, body=review)
    assert answer["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["bound"]


async def test_no_token_when_it_is_not_wanted(node):
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False}
    pod = await node.run("none", "env", spec=spec)
    found, _ = await get_output(node, "none")
    assert "KUBERNETES_SERVICEACCOUNT_DIR" not in found
    assert "KUBECONFIG" not in found
    # The folders of other tests' pods may be there for a moment longer than these.
    folder = node.state / "pods" / pod["metadata"]["uid"]
    assert folder.is_dir()
    assert not list(folder.rglob("token"))


async def test_volumes_are_folders_named_by_variables(node):
    await create_secret(node, "s", password="pw")
    await create_config_map(node, "c", key="value")
    audience_token = {"path": "t", "audience": "elsewhere", "expirationSeconds": 600}
    volumes = [
        {"name": "sec-ret", "secret": {"secretName": "s"}},
        {"name": "config", "configMap": {"name": "c", "items": [{"key": "key", "path": "a/b"}]}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "mine", "projected": {"sources": [{"serviceAccountToken": audience_token}]}},
        {
            "name": "down",
            "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]},
        },
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/mnt/{volume['name']}"} for volume in volumes]
    script = """
    echo "SECRET=$(cat $IMPORT_LOCAL_MOUNT_SEC_RET/password)"
    echo "CONFIG=$(cat $IMPORT_LOCAL_MOUNT_CONFIG/a/b)"
    echo "DOWN=$(cat $IMPORT_LOCAL_MOUNT_DOWN/name)"
    echo "CLAIMS=$(cut -d. -f2 $IMPORT_LOCAL_MOUNT_MINE/t)"
    echo "PARTS=$(tr . '\\n' < $IMPORT_LOCAL_MOUNT_MINE/t | grep -c .)"
    touch $IMPORT_LOCAL_MOUNT_SCRATCH/file && echo "SCRATCH=ok"
    """
    await node.run("vol", script, spec={"restartPolicy": "Never", "volumes": volumes}, volumeMounts=mounts)
    found, _ = await get_output(node, "vol")
    assert found["SECRET"] == "pw"
    assert found["CONFIG"] == "value"
    assert found["DOWN"] == "vol"
    assert found["SCRATCH"] == "ok"
    assert found["PARTS"] == "3"
    claims = base64.urlsafe_b64decode(found["CLAIMS"] + "==").decode()
    assert '"aud":["elsewhere"]' in claims


async def test_images_stand_for_commands(node):
    await node.run(
        "image", image="python:3", args=["-c", "print('A=$(HOSTNAME)')"], spec={"restartPolicy": "Never"}
    )
    found, _ = await get_output(node, "image")
    assert found["A"] == "image"


async def test_an_unknown_image_is_named_and_harms_nobody(node):
    await node.run("unknown", image="nobody/knows:1")
    await node.run("fine", image="sleeper:1")
    pod = await node.wait_pod("unknown", is_waiting("ErrImageNeverPull"))
    assert 'image "nobody/knows:1"' in get_state(pod)["waiting"]["message"]
    await node.wait_pod("fine", is_running)


async def test_pods_have_addresses_of_their_own(node):
    script = (
        "import http.server, os, threading\n"
        "http.server.HTTPServer((os.environ['POD_IP'], 8080), http.server.BaseHTTPRequestHandler)\n"
        "print('bound', flush=True)\n"
        "threading.Event().wait()\n"
    )
    env = [ref("POD_IP", "fieldRef", fieldPath="status.podIP")]
    for name in ("one", "two"):
        await node.run(name, image="python:3", args=["-c", script], env=env)
    addresses = {(await node.wait_pod(name, is_running))["status"]["podIP"] for name in ("one", "two")}
    assert len(addresses) == 2
    for name in ("one", "two"):
        log = await node.kubectl("logs", name, "--follow", "--limit-bytes=6")
        assert log == "bound\n"
