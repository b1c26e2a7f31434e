"""A pod's volumes, materialised as folders: what they hold is planned purely, then written."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from import_local.kubelet.environment import (
    CONFIG_ERROR,
    References,
    get_reference,
    read_field,
    read_resource,
)
from import_local.kubelet.errors import ContainerStartError
from import_local.kubelet.records import make_folder, write_file

Json = dict[str, Any]

SERVICE_ACCOUNT_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
DEFAULT_TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A service-account token to be kept fresh in a volume; `seconds` is the life to ask for."""

    path: str
    audience: str
    seconds: int


@dataclass(slots=True)
class VolumePlan:
    """The files of one volume, by relative path, and the tokens among them."""

    files: dict[str, bytes] = field(default_factory=dict)
    tokens: list[TokenFile] = field(default_factory=list)


def list_volume_references(pod: Json) -> set[tuple[str, str]]:
    """Return (kind, name) of every Secret and ConfigMap that a pod's volumes refer to."""
    found = set()
    for volume in pod["spec"].get("volumes") or ():
        for source in get_sources(volume):
            if "secret" in source:
                found.add(("Secret", source["secret"].get("secretName") or source["secret"]["name"]))
            if "configMap" in source:
                found.add(("ConfigMap", source["configMap"]["name"]))
    return found


def get_sources(volume: Json) -> list[Json]:
    """Return a volume's sources: those of a projected volume, else the volume itself."""
    if "projected" in volume:
        return list(volume["projected"].get("sources") or ())
    return [volume]


def plan_volume(pod: Json, volume: Json, references: References, node: dict[str, str]) -> VolumePlan:
    """Return what a volume holds; raises ContainerStartError for what is missing or not implemented."""
    plan = VolumePlan()
    for source in get_sources(volume):
        if "secret" in source:
            secret = source["secret"]
            name = secret.get("secretName") or secret["name"]
            plan.files |= plan_items(pod, references, "Secret", name, secret)
        elif "configMap" in source:
            config_map = source["configMap"]
            plan.files |= plan_items(pod, references, "ConfigMap", config_map["name"], config_map)
        elif "downwardAPI" in source:
            for item in source["downwardAPI"].get("items") or ():
                if "fieldRef" in item:
                    value = read_field(pod, item["fieldRef"]["fieldPath"], node)
                else:
                    value = read_resource(pod, {}, item["resourceFieldRef"], node)
                plan.files[item["path"]] = value.encode()
        elif "serviceAccountToken" in source:
            token = source["serviceAccountToken"]
            seconds = int(token.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS)
            plan.tokens.append(TokenFile(token["path"], token.get("audience", ""), seconds))
        elif not {"emptyDir", "hostPath"} & source.keys():
            kind = ", ".join(key for key in source if key != "name")
            raise ContainerStartError(
                CONFIG_ERROR, f"volume {volume['name']}: volumes of the kind {kind} are not supported"
            )
    return plan


def plan_items(pod: Json, references: References, kind: str, name: str, source: Json) -> dict[str, bytes]:
    """Return the files of a Secret or ConfigMap: the chosen items, else all keys."""
    optional = bool(source.get("optional"))
    contents = get_reference(pod, references, kind, name, optional=optional)
    if contents is None:
        return {}
    if not source.get("items"):
        return contents
    files = {}
    for item in source["items"]:
        if item["key"] in contents:
            files[item["path"]] = contents[item["key"]]
        elif not optional:
            namespace = pod["metadata"]["namespace"]
            version = (references[kind, name] or {})["metadata"]["resourceVersion"]
            raise ContainerStartError(
                CONFIG_ERROR,
                f"references non-existent key {item['key']} in {kind} {namespace}/{name}",
                (kind, namespace, name, version),
            )
    return files


def write_volume(folder: Path, plan: VolumePlan) -> None:
    """Write a volume's files below its folder."""
    make_folder(folder)
    for name, content in plan.files.items():
        path = get_inner_path(folder, name)
        make_folder(path.parent)
        write_file(path, content)


def get_inner_path(folder: Path, name: str) -> Path:
    """Return a path below a folder; raises ContainerStartError for one that would lead out of it."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ContainerStartError(CONFIG_ERROR, f"the path {name!r} leads out of its volume")
    return folder / relative


def get_volume_folder(pod: Json, name: str, volumes: Path) -> Path:
    """Return where a volume is on this machine: a hostPath is where it says, the others are in the pod's folder."""
    for volume in pod["spec"].get("volumes") or ():
        if volume["name"] == name and "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
    return volumes / name


def get_mount_variables(pod: Json, container: Json, volumes: Path) -> dict[str, str]:
    """Return the variables that tell a container where its volumes are, since they cannot be mounted."""
    variables = {}
    for mount in container.get("volumeMounts") or ():
        name = "".join(letter if letter.isalnum() else "_" for letter in mount["name"]).upper()
        folder = get_volume_folder(pod, mount["name"], volumes)
        path = get_inner_path(folder, mount["subPath"]) if mount.get("subPath") else folder
        variables[f"IMPORT_LOCAL_MOUNT_{name}"] = str(path)
        if mount["mountPath"].rstrip("/") == SERVICE_ACCOUNT_MOUNT:
            variables["KUBERNETES_SERVICEACCOUNT_DIR"] = str(path)
    return variables
