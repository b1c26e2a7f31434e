"""A container's environment, command and volumes, as the kubelet plans them."""

import base64

import pytest

from import_local.kubelet.environment import build_command, build_environment, expand, list_references
from import_local.kubelet.errors import ContainerStartError
from import_local.kubelet.volumes import (
    get_mount_variables,
    list_volume_references,
    plan_volume,
    write_volume,
)

POD = {
    "metadata": {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "labels": {"app.x/y": "l"},
        "annotations": {"a": "1", "b": 'two "2"\n'},
    },
    "spec": {"serviceAccountName": "sa", "containers": []},
}
NODE = {"podIP": "127.64.0.9", "hostIP": "127.0.0.1", "nodeName": "local", "cpu": "64", "memory": "256Gi"}


def secret(version="5", **data):
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"kind": "Secret", "metadata": {"resourceVersion": version}, "data": encoded}


def config_map(**data):
    return {"kind": "ConfigMap", "metadata": {"resourceVersion": "6"}, "data": data}


def environment(container, references=None, base=None):
    return build_environment(POD, container, references or {}, base or {}, NODE)


def from_field(name, path):
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A $ $(", "$A $ $("),
        ("", ""),
    ],
)
def test_expansion(text, expected):
    assert expand(text, {"A": "1"}) == expected


def test_later_variables_win_and_see_the_earlier_ones():
    container = {
        "envFrom": [
            {"prefix": "P_", "configMapRef": {"name": "c"}},
            {"secretRef": {"name": "s"}},
            {"secretRef": {"name": "absent", "optional": True}},
        ],
        "env": [
            {"name": "KEY", "value": "own"},
            {"name": "BOTH", "value": "$(P_KEY)/$(KEY)/$(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "EMPTY"},
        ],
    }
    references = {
        ("ConfigMap", "c"): config_map(KEY="c"),
        ("Secret", "s"): secret(KEY="s", TOKEN="t"),
        ("Secret", "absent"): None,
    }
    result = environment(container, references, {"PATH": "/bin", "KEY": "base"})
    assert result == {
        "PATH": "/bin",
        "P_KEY": "c",
        "KEY": "own",
        "TOKEN": "t",
        "BOTH": "c/own/$(LATER)",
        "LATER": "x",
        "EMPTY": "",
    }
    assert list_references(container) == {("ConfigMap", "c"), ("Secret", "s"), ("Secret", "absent")}


def test_fields_of_the_pod():
    paths = {
        "metadata.name": "p",
        "metadata.namespace": "n",
        "metadata.uid": "u",
        "metadata.labels['app.x/y']": "l",
        "metadata.annotations['a']": "1",
        "metadata.annotations['none']": "",
        "status.podIP": "127.64.0.9",
        "status.hostIP": "127.0.0.1",
        "spec.nodeName": "local",
        "spec.serviceAccountName": "sa",
    }
    container = {"env": [from_field(f"V{index}", path) for index, path in enumerate(paths)]}
    assert list(environment(container).values()) == list(paths.values())


def test_an_unknown_field_is_named():
    with pytest.raises(ContainerStartError, match=r"spec\.other"):
        environment({"env": [from_field("A", "spec.other")]})


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("limits.memory", "1Mi", "512"),
        ("limits.memory", None, str(512 * 1024**2)),
        ("requests.cpu", "1m", "1500"),
        ("requests.cpu", "0", "2"),
        ("limits.cpu", None, "64"),
        ("requests.memory", None, "0"),
    ],
)
def test_resources_are_rounded_up_and_default_to_the_node(resource, divisor, expected):
    selector = {"resource": resource} | ({"divisor": divisor} if divisor else {})
    container = {
        "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "1500m"}},
        "env": [{"name": "A", "valueFrom": {"resourceFieldRef": selector}}],
    }
    assert environment(container) == {"A": expected}


def key_of(kind, **selector):
    return {"env": [{"name": "A", "valueFrom": {kind: selector}}]}


def test_a_missing_secret_is_waited_for_by_name():
    with pytest.raises(ContainerStartError, match='secret "s" not found') as caught:
        environment(key_of("secretKeyRef", name="s", key="k"), {("Secret", "s"): None})
    assert caught.value.reason == "CreateContainerConfigError"
    assert caught.value.wait_for == ("Secret", "n", "s", None)


def test_a_missing_key_is_waited_for_by_version():
    with pytest.raises(ContainerStartError, match="couldn't find key k in Secret n/s") as caught:
        environment(key_of("secretKeyRef", name="s", key="k"), {("Secret", "s"): secret(other="x")})
    assert caught.value.wait_for == ("Secret", "n", "s", "5")


def test_optional_keys_may_be_absent():
    container = key_of("configMapKeyRef", name="c", key="k", optional=True)
    assert environment(container, {("ConfigMap", "c"): config_map()}) == {}
    assert environment(container, {("ConfigMap", "c"): None}) == {}


def test_messages_never_show_secret_values():
    reference = secret(k="to\0p-secret")
    with pytest.raises(ContainerStartError) as caught:
        environment(key_of("secretKeyRef", name="s", key="k"), {("Secret", "s"): reference})
    assert "p-secret" not in str(caught.value)


def test_a_containers_own_command_wins_over_its_image():
    assert build_command({"command": ["a", "$(X)"], "args": ["b"]}, ("i",), {"X": "1"}) == ["a", "1", "b"]
    assert build_command({"args": ["$(X)"]}, ("i", "j"), {"X": "1"}) == ["i", "j", "1"]
    with pytest.raises(ContainerStartError, match='No command is known for image "img:1"') as caught:
        build_command({"image": "img:1"}, None, {})
    assert caught.value.reason == "ErrImageNeverPull"


def test_a_projected_volume_combines_its_sources(tmp_path):
    volume = {
        "name": "v",
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607, "audience": "me"}},
                {"configMap": {"name": "c", "items": [{"key": "ca.crt", "path": "tls/ca.crt"}]}},
                {"secret": {"name": "s"}},
                {
                    "downwardAPI": {
                        "items": [{"path": "ann", "fieldRef": {"fieldPath": "metadata.annotations"}}]
                    }
                },
            ]
        },
    }
    pod = POD | {"spec": {"volumes": [volume], "containers": []}}
    assert list_volume_references(pod) == {("ConfigMap", "c"), ("Secret", "s")}
    references = {
        ("ConfigMap", "c"): config_map(**{"ca.crt": "CA", "x": "y"}),
        ("Secret", "s"): secret(k="v"),
    }
    plan = plan_volume(pod, volume, references, NODE)
    assert plan.files == {"tls/ca.crt": b"CA", "k": b"v", "ann": b'a="1"\nb="two \\"2\\"\\n"'}
    assert [(token.path, token.audience, token.seconds) for token in plan.tokens] == [("token", "me", 3607)]
    write_volume(tmp_path / "v", plan)
    assert (tmp_path / "v" / "tls" / "ca.crt").read_bytes() == b"CA"
    assert (tmp_path / "v" / "k").stat().st_mode & 0o777 == 0o600


def test_a_volume_of_another_kind_is_named():
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "x"}}
    with pytest.raises(ContainerStartError, match="data: volumes of the kind persistentVolumeClaim"):
        plan_volume(POD, volume, {}, NODE)


def test_a_missing_item_is_named():
    volume = {"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "k"}]}}
    with pytest.raises(ContainerStartError, match="key k in Secret n/s"):
        plan_volume(POD, volume, {("Secret", "s"): secret()}, NODE)


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
def test_no_path_leads_out_of_a_volume(tmp_path, path):
    volume = {"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": path}]}}
    plan = plan_volume(POD, volume, {("Secret", "s"): secret(k="v")}, NODE)
    with pytest.raises(ContainerStartError, match="leads out"):
        write_volume(tmp_path / "v", plan)


def test_mounts_are_told_by_variables(tmp_path):
    pod = POD | {"spec": {"volumes": [{"name": "h", "hostPath": {"path": "/srv"}}], "containers": []}}
    container = {
        "volumeMounts": [
            {"name": "my-data", "mountPath": "/data"},
            {"name": "h", "mountPath": "/h", "subPath": "a/b"},
            {"name": "sa", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
        ]
    }
    assert get_mount_variables(pod, container, tmp_path) == {
        "IMPORT_LOCAL_MOUNT_MY_DATA": str(tmp_path / "my-data"),
        "IMPORT_LOCAL_MOUNT_H": "/srv/a/b",
        "IMPORT_LOCAL_MOUNT_SA": str(tmp_path / "sa"),
        "KUBERNETES_SERVICEACCOUNT_DIR": str(tmp_path / "sa"),
    }
