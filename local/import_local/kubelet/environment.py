"""A container's environment, command line and downward values: pure functions of the pod and its references."""

import base64
import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from lightkube.utils.quantity import parse_quantity

from import_local.kubelet.errors import ContainerStartError

Json = dict[str, Any]
# The objects that a pod refers to, by (kind, name); None is an object that does not exist.
References = Mapping[tuple[str, str], Json | None]

CONFIG_ERROR = "CreateContainerConfigError"
_EXPANSION = re.compile(r"\$\$|\$\(([^()$]+)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME) by the variable's value; an unknown name stays as it is, and $$ is a literal $."""

    def replace(match: re.Match[str]) -> str:
        if match.group() == "$$":
            return "$"
        return variables.get(match.group(1), match.group())

    return _EXPANSION.sub(replace, text)


def list_references(container: Json) -> set[tuple[str, str]]:
    """Return (kind, name) of every Secret and ConfigMap that a container's environment refers to."""
    found = set()
    for source in container.get("envFrom") or ():
        for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if key in source:
                found.add((kind, source[key]["name"]))
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        for key, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            if key in source:
                found.add((kind, source[key]["name"]))
    return found


def read_data(reference: Json) -> dict[str, bytes]:
    """Return the contents of a Secret or ConfigMap, decoded."""
    data = {key: text.encode() for key, text in (reference.get("data") or {}).items()}
    if reference.get("kind") == "Secret":
        return {key: base64.b64decode(content) for key, content in data.items()}
    data |= {key: base64.b64decode(text) for key, text in (reference.get("binaryData") or {}).items()}
    return data


def get_reference(
    pod: Json, references: References, kind: str, name: str, *, optional: bool
) -> dict[str, bytes] | None:
    """Return the contents of a referenced object; None if it may be absent and is.

    Raises ContainerStartError when it must exist and does not.
    """
    found = references.get((kind, name))
    if found is None:
        if optional:
            return None
        raise ContainerStartError(
            CONFIG_ERROR,
            f'{kind.lower()} "{name}" not found',
            (kind, pod["metadata"]["namespace"], name, None),
        )
    return read_data(found)


def build_environment(
    pod: Json, container: Json, references: References, base: Mapping[str, str], node: Mapping[str, str]
) -> dict[str, str]:
    """Return a container's whole environment: `base`, then envFrom, then env, the later one winning.

    `node` has the values that only the node knows: podIP, hostIP, nodeName, and its allocatable cpu and
    memory. Raises ContainerStartError for a reference that does not exist.
    """
    variables = dict(base)
    for source in container.get("envFrom") or ():
        for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if key in source:
                contents = get_reference(
                    pod, references, kind, source[key]["name"], optional=bool(source[key].get("optional"))
                )
                for name, content in (contents or {}).items():
                    variables[source.get("prefix", "") + name] = decode(
                        content, kind, source[key]["name"], name
                    )
    for variable in container.get("env") or ():
        name = variable["name"]
        if "valueFrom" not in variable:
            variables[name] = expand(variable.get("value", ""), variables)
            continue
        value = read_source(pod, container, variable["valueFrom"], references, node)
        if value is not None:
            variables[name] = value
    return variables


def decode(value: bytes, kind: str, name: str, key: str) -> str:
    """Return a value as text; raises ContainerStartError if the environment cannot hold it."""
    if b"\0" in value:
        raise ContainerStartError(CONFIG_ERROR, f"key {key} of {kind} {name} holds a zero byte")
    return value.decode("utf-8", "surrogateescape")


def read_source(
    pod: Json, container: Json, source: Json, references: References, node: Mapping[str, str]
) -> str | None:
    """Return the value of a `valueFrom`; None for an optional one that is absent."""
    for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        if field in source:
            return read_key(pod, references, kind, source[field])
    if "fieldRef" in source:
        return read_field(pod, source["fieldRef"]["fieldPath"], node)
    if "resourceFieldRef" in source:
        return read_resource(pod, container, source["resourceFieldRef"], node)
    raise ContainerStartError(CONFIG_ERROR, f"valueFrom {', '.join(source)} is not implemented")


def read_key(pod: Json, references: References, kind: str, selector: Json) -> str | None:
    """Return one key of a Secret or ConfigMap; None for an optional one that is absent."""
    name, key, optional = selector["name"], selector["key"], bool(selector.get("optional"))
    contents = get_reference(pod, references, kind, name, optional=optional)
    if contents is not None and key in contents:
        return decode(contents[key], kind, name, key)
    if optional:
        return None
    namespace = pod["metadata"]["namespace"]
    version = (references.get((kind, name)) or {}).get("metadata", {}).get("resourceVersion")
    raise ContainerStartError(
        CONFIG_ERROR,
        f"couldn't find key {key} in {kind} {namespace}/{name}",
        (kind, namespace, name, version),
    )


def read_field(pod: Json, path: str, node: Mapping[str, str]) -> str:
    """Return a pod's field by its downward path; raises ContainerStartError for an unknown one."""
    metadata = pod["metadata"]
    if match := _SUBSCRIPT.fullmatch(path):
        return str((metadata.get(match.group(1)) or {}).get(match.group(2), ""))
    if path in {"metadata.labels", "metadata.annotations"}:
        pairs = (metadata.get(path.partition(".")[2]) or {}).items()
        return "\n".join(f"{key}={quote(value)}" for key, value in sorted(pairs))
    values = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": node["nodeName"],
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.hostIP": node["hostIP"],
        "status.hostIPs": node["hostIP"],
        "status.podIP": node["podIP"],
        "status.podIPs": node["podIP"],
    }
    if path not in values:
        raise ContainerStartError(CONFIG_ERROR, f"the field {path} is not supported")
    return str(values[path])


def quote(text: str) -> str:
    """Quote a value as the downward API does in a file."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def read_resource(pod: Json, container: Json, selector: Json, node: Mapping[str, str]) -> str:
    """Return a request or limit in units of the divisor, rounded up.

    A limit that is not set is the node's allocatable amount, as Kubernetes has it.
    """
    name = selector.get("containerName")
    if name:
        spec = pod["spec"]
        every = [*(spec.get("initContainers") or ()), *spec["containers"]]
        container = next((item for item in every if item["name"] == name), container)
    section, _, resource = selector["resource"].partition(".")
    resources = container.get("resources") or {}
    text = (resources.get(section) or {}).get(resource)
    if text is None:
        text = node.get(resource, "0") if section == "limits" else "0"
    divisor = str(selector.get("divisor") or "1")
    return str(divide_quantity(text, "1" if divisor == "0" else divisor))


def divide_quantity(text: str, divisor: str) -> int:
    """Divide two Kubernetes quantities, rounding up."""
    quotient = (parse_quantity(str(text)) or Decimal(0)) / (parse_quantity(divisor) or Decimal(1))
    return int(quotient.to_integral_value(ROUND_CEILING))


def parse_bytes(text: str) -> int:
    """Return a memory quantity in bytes."""
    return divide_quantity(text, "1")


def build_command(
    container: Json, image_command: tuple[str, ...] | None, variables: Mapping[str, str]
) -> list[str]:
    """Return the command line: the container's `command`, else the image's, followed by its `args`.

    Raises ContainerStartError when there is no command at all.
    """
    command = [expand(word, variables) for word in container.get("command") or ()]
    if not command:
        if image_command is None:
            raise ContainerStartError(
                "ErrImageNeverPull",
                f'No command is known for image "{container.get("image", "")}": images stand for commands here; '
                "add it to the kubelet's image table, or give the container a command",
            )
        command = list(image_command)
    return command + [expand(word, variables) for word in container.get("args") or ()]
