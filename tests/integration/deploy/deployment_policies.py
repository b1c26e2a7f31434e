"""What every object that is deployed must keep to: each check yields sentences about what does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Json = dict[str, Any]
Check = Callable[[Sequence[Json]], Iterator[str]]

NAMESPACE = "imports"
CLUSTER_KINDS = {
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
}
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
WRITING_VERBS = {"create", "update", "patch", "delete", "deletecollection"}


def name(body: Json) -> str:
    return f"{body['kind']}/{body['metadata']['name']}"


def workloads(objects: Sequence[Json]) -> list[Json]:
    return [body for body in objects if body["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}]


def pod_of(body: Json) -> Json:
    pod: Json = body["spec"]["template"]["spec"]
    return pod


def containers(objects: Sequence[Json]) -> Iterator[tuple[str, Json, Json]]:
    """(name for people, pod, container), init containers too."""
    for body in workloads(objects):
        pod = pod_of(body)
        for container in [*(pod.get("initContainers") or ()), *pod["containers"]]:
            yield f"{name(body)}, container {container['name']}", pod, container


def namespace_is_restricted(objects: Sequence[Json]) -> Iterator[str]:
    spaces = [body for body in objects if body["kind"] == "Namespace"]
    if not spaces:
        yield "there is no Namespace"
    for space in spaces:
        labels = space["metadata"].get("labels") or {}
        if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{name(space)} does not enforce restricted pod security"


def everything_is_in_the_namespace(objects: Sequence[Json]) -> Iterator[str]:
    for body in objects:
        if body["kind"] not in CLUSTER_KINDS and body["metadata"].get("namespace") != NAMESPACE:
            yield f"{name(body)} is not in the namespace {NAMESPACE}"


def resources_are_bounded(objects: Sequence[Json]) -> Iterator[str]:
    """No CPU limit is asked for: it throttles a process that is behind, on a node that is idle."""
    for who, _, container in containers(objects):
        resources = container.get("resources") or {}
        for part, names in (
            ("requests", ("cpu", "memory", "ephemeral-storage")),
            ("limits", ("memory", "ephemeral-storage")),
        ):
            for resource in names:
                if resource not in (resources.get(part) or {}):
                    yield f"{who}: no {part}.{resource}"


def probes_are_there(objects: Sequence[Json]) -> Iterator[str]:
    for body in workloads(objects):
        for container in pod_of(body)["containers"]:
            for probe in ("readinessProbe", "livenessProbe"):
                if probe not in container:
                    yield f"{name(body)}, container {container['name']}: no {probe}"
            ready, live = container.get("readinessProbe"), container.get("livenessProbe")
            if ready is not None and ready == live:
                yield f"{name(body)}, container {container['name']}: is killed for not being ready"


def security_contexts_are_restricted(objects: Sequence[Json]) -> Iterator[str]:
    for who, pod, container in containers(objects):
        of_pod, own = pod.get("securityContext") or {}, container.get("securityContext") or {}
        merged = {**of_pod, **own}
        if merged.get("runAsNonRoot") is not True or merged.get("runAsUser") == 0:
            yield f"{who}: may run as root"
        if (merged.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
            yield f"{who}: no seccomp profile RuntimeDefault"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{who}: may gain privileges"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{who}: root file system can be written to"
        capabilities = own.get("capabilities") or {}
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{who}: keeps capabilities"


def host_is_out_of_reach(objects: Sequence[Json]) -> Iterator[str]:
    for body in workloads(objects):
        pod = pod_of(body)
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(field):
                yield f"{name(body)}: {field}"
        for volume in pod.get("volumes") or ():
            if "hostPath" in volume:
                yield f"{name(body)}: volume {volume['name']} is a folder of the node"
    for who, _, container in containers(objects):
        if any("hostPort" in port for port in container.get("ports") or ()):
            yield f"{who}: takes a port of the node"


def images_are_pinned(objects: Sequence[Json]) -> Iterator[str]:
    for who, _, container in containers(objects):
        image = container["image"]
        tag = image.rsplit("/", 1)[-1].partition(":")[2]
        if "@sha256:" not in image and tag in {"", "latest"}:
            yield f"{who}: {image} is another image tomorrow"


def secrets_are_referred_to(objects: Sequence[Json]) -> Iterator[str]:
    """No Secret carries a value, and no variable that reads like one is written out."""
    for body in objects:
        if body["kind"] == "Secret" and (body.get("data") or body.get("stringData")):
            yield f"{name(body)} has a value in the manifests"
    for who, _, container in containers(objects):
        for variable in container.get("env") or ():
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY|_URL$", variable["name"]) and variable.get("value"):
                yield f"{who}: {variable['name']} is written out"


def rights_are_spelled_out(objects: Sequence[Json]) -> Iterator[str]:
    for body in objects:
        if body["kind"] not in {"Role", "ClusterRole"}:
            continue
        for rule in body["rules"]:
            for field in ("apiGroups", "resources", "verbs", "nonResourceURLs"):
                if any("*" in value for value in rule.get(field) or ()):
                    yield f"{name(body)}: * in {field}"
            if set(rule["verbs"]) & {"bind", "escalate", "impersonate"}:
                yield f"{name(body)}: may give rights, or act as others"
            cluster_wide = body["kind"] == "ClusterRole" and "secrets" in (rule.get("resources") or ())
            if cluster_wide:
                yield f"{name(body)}: reaches Secrets of every namespace"


def tokens_are_mounted_where_used(objects: Sequence[Json]) -> Iterator[str]:
    """A pod's account is bound to rights, and an init container, which uses none, sees no token."""
    bound = {
        subject["name"]
        for body in objects
        if body["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        for subject in body.get("subjects") or ()
        if subject["kind"] == "ServiceAccount"
    }
    for body in workloads(objects):
        pod = pod_of(body)
        automatic = pod.get("automountServiceAccountToken") is not False
        if pod.get("serviceAccountName", "default") == "default":
            yield f"{name(body)}: runs under the namespace's default account"
        if automatic and pod.get("serviceAccountName") not in bound:
            yield f"{name(body)}: a token of an account without rights"
        for container in pod.get("initContainers") or ():
            mounted = any(m["mountPath"] == TOKEN_FOLDER for m in container.get("volumeMounts") or ())
            if automatic or mounted:
                yield f"{name(body)}, container {container['name']}: a token that is not needed"


def disruptions_are_bounded(objects: Sequence[Json]) -> Iterator[str]:
    budgets = [
        body["spec"]["selector"]["matchLabels"] for body in objects if _is(body, "PodDisruptionBudget")
    ]
    for body in workloads(objects):
        labels = body["spec"]["template"]["metadata"]["labels"]
        matching = [wanted for wanted in budgets if wanted.items() <= labels.items()]
        if len(matching) != 1:
            yield f"{name(body)}: {len(matching)} PodDisruptionBudgets, where evictions need exactly one"


def pods_are_spread(objects: Sequence[Json]) -> Iterator[str]:
    for body in workloads(objects):
        labels = body["spec"]["template"]["metadata"]["labels"]
        spread = pod_of(body).get("topologySpreadConstraints") or ()
        keys = {one["topologyKey"] for one in spread}
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone"):
            if key not in keys:
                yield f"{name(body)}: all of its pods may be in one {key}"
        if any(not one["labelSelector"]["matchLabels"].items() <= labels.items() for one in spread):
            yield f"{name(body)}: is spread by the labels of others"


def network_is_closed(objects: Sequence[Json]) -> Iterator[str]:
    """All is denied first; then no policy opens a direction to anybody at any port."""
    policies = [body for body in objects if _is(body, "NetworkPolicy")]
    if not any(_denies_all(policy) for policy in policies):
        yield "no NetworkPolicy denies everything by default"
    for policy in policies:
        spec = policy["spec"]
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction) or ():
                if not rule.get("ports"):
                    yield f"{name(policy)}: {direction} at any port"
                dns = {port["port"] for port in rule.get("ports") or ()} == {53}
                if not rule.get(peers) and not dns:
                    yield f"{name(policy)}: {direction}, anybody"
                for peer in rule.get(peers) or ():
                    yield from _open_block(name(policy), peer)
    yield from _unreached(policies, objects)


def _is(body: Json, kind: str) -> bool:
    return bool(body["kind"] == kind)


def _denies_all(policy: Json) -> bool:
    spec = policy["spec"]
    rules = spec.get("ingress") or spec.get("egress")
    both = set(spec.get("policyTypes") or ()) == {"Ingress", "Egress"}
    return spec["podSelector"] == {} and both and not rules


def _open_block(policy: str, peer: Json) -> Iterator[str]:
    block = peer.get("ipBlock") or {}
    private = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"}
    if block.get("cidr") == "0.0.0.0/0" and not private <= set(block.get("except") or ()):
        yield f"{policy}: opens private addresses with the public ones"
    if block.get("cidr") == "::/0":
        yield f"{policy}: opens private addresses with the public ones"
    if peer in ({"namespaceSelector": {}}, {"podSelector": {}, "namespaceSelector": {}}):
        yield f"{policy}: opens to every namespace"


def _unreached(policies: Sequence[Json], objects: Sequence[Json]) -> Iterator[str]:
    """A workload that no policy names could not even reach its database."""
    for body in workloads(objects):
        labels = body["spec"]["template"]["metadata"]["labels"]
        selectors = [policy["spec"]["podSelector"].get("matchLabels") for policy in policies]
        if not any(wanted and wanted.items() <= labels.items() for wanted in selectors):
            yield f"{name(body)}: no NetworkPolicy is about it"


def scraped_ports_exist(objects: Sequence[Json]) -> Iterator[str]:
    """prometheus-operator finds nothing, and says nothing, where a port's name is wrong."""
    for monitor in (body for body in objects if _is(body, "PodMonitor")):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        found = False
        for body in workloads(objects):
            if not wanted.items() <= body["spec"]["template"]["metadata"]["labels"].items():
                continue
            found = True
            ports = {
                port.get("name") for one in pod_of(body)["containers"] for port in one.get("ports") or ()
            }
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                if endpoint["port"] not in ports:
                    yield f"{name(monitor)}: {name(body)} has no port called {endpoint['port']}"
        if not found:
            yield f"{name(monitor)}: selects no pod"


EVERYWHERE: tuple[Check, ...] = (
    namespace_is_restricted,
    everything_is_in_the_namespace,
    resources_are_bounded,
    probes_are_there,
    security_contexts_are_restricted,
    host_is_out_of_reach,
    images_are_pinned,
    secrets_are_referred_to,
    rights_are_spelled_out,
    tokens_are_mounted_where_used,
    disruptions_are_bounded,
    pods_are_spread,
    scraped_ports_exist,
)
IN_CLUSTERS: tuple[Check, ...] = (*EVERYWHERE, network_is_closed)


def problems(objects: Sequence[Json], checks: Sequence[Check]) -> list[str]:
    """Everything that the checks find."""
    return [problem for check in checks for problem in check(objects)]
