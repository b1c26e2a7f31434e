"""The application as deploy/ has it; images, addresses and numbers are the installation's, nothing else is changed."""

import copy
import dataclasses
import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pulumi
import pytest
import yaml
from cluster_world import CONTEXT, program, settings
from infra.application import CONNECTIONS_SECRET, Application, ApplicationArgs, restricted_labels
from infra.configuration import ConfigurationError
from infra.manifests import DEPLOY, Changes, address_changes, change, overlay_addresses
from infra.placement import WORKER_PLACEMENT

ROOT = Path(__file__).parents[3]
REPOSITORY = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/imports-production"
IMAGES = {
    name: f"{REPOSITORY}/import-{name}@sha256:{letter * 64}"
    for name, letter in (("operator", "a"), ("worker", "b"), ("gateway", "c"))
}
ADDRESSES = {"api-servers": "10.40.0.0/16", "api-service": "172.20.0.1/32", "databases": "10.40.0.0/16"}


def make(**values):
    import pulumi_kubernetes as kubernetes

    return Application(
        CONTEXT,
        ApplicationArgs(
            settings=settings("application", **values),
            kubeconfig="{}",
            provider=kubernetes.Provider("objects", kubeconfig="{}"),
            connections={
                "DATABASE_URL": "postgresql://imports:secret@db/imports",
                "AWS_REGION": "eu-central-1",
            },
            addresses=ADDRESSES,
            worker_placement=WORKER_PLACEMENT,
        ),
    )


CHANGES = Changes(
    images=IMAGES,
    replicas={"import-operator": 2, "import-gateway": 4},
    max_workers=80,
    worker_placement=WORKER_PLACEMENT,
    addresses=address_changes(overlay_addresses("production"), ADDRESSES),
    monitoring_namespace="observability",
    environment={"import-gateway": {"PUBLIC_URL": "https://imports.example.com"}},
)


@functools.cache
def _built(overlay):
    """What kustomize makes of an overlay, which is what the provider hands to the transform."""
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    command = [str(kubectl), "kustomize", str(DEPLOY / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def _manifests(*folders):
    """The documents of deploy/ as they are written, before kustomize."""
    for folder in folders:
        for path in sorted((DEPLOY / folder).glob("*.yaml")):
            if path.name != "kustomization.yaml":
                yield from (each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each)


def test_the_first_run_needs_no_images():
    done = program(make)
    assert not done.of("kubernetes:kustomize/v2:Directory")
    kinds = {
        each.inputs["spec"]["names"]["kind"] for each in done.resources if each.type.endswith("Definition")
    }
    assert {"ImportJob", "WorkerPool", "ImportProvider"} <= kinds


def test_definitions_outlive_the_stack_as_every_import_would_go_with_them():
    definitions = [each for each in program(make).resources if each.type.endswith("CustomResourceDefinition")]
    assert definitions
    assert all(each.retain for each in definitions)


def test_namespace_and_connections_are_there_before_the_pods():
    done = program(lambda: make(images=IMAGES))
    overlay = done.one("kubernetes:kustomize/v2:Directory")
    assert overlay.inputs["directory"].endswith("deploy/overlays/production")
    secret = done.one("kubernetes:core/v1:Secret")
    assert {secret.urn, done.one("kubernetes:core/v1:Namespace").urn} <= set(overlay.dependencies)
    assert secret.inputs["metadata"]["name"] == CONNECTIONS_SECRET
    assert "stringData" in secret.secret_inputs


def test_the_overlay_alone_takes_over_what_is_there():
    done = program(lambda: make(images=IMAGES))
    providers = {
        each.name: each.inputs.get("upsertExistingObjects") for each in done.of("pulumi:providers:kubernetes")
    }
    assert providers == {"objects": None, "imports-test-application-overlay": "true"}


def test_it_can_be_previewed():
    assert program(lambda: make(images=IMAGES), preview=True).of("kubernetes:kustomize/v2:Directory")


def test_the_namespace_is_as_strict_as_in_the_manifests():
    (namespace,) = [each for each in _manifests("base") if each["kind"] == "Namespace"]
    assert restricted_labels() == {
        key: value for key, value in namespace["metadata"]["labels"].items() if key.startswith("pod-security")
    }


def test_every_placeholder_image_is_replaced():
    containers = []
    for manifest in _manifests("base", "components/worker-pool"):
        changed = change(manifest, CHANGES)
        if changed["kind"] in {"Deployment", "WorkerPool"}:
            pod = changed["spec"]["template"]["spec"]
            containers += [*pod.get("initContainers", []), *pod["containers"]]
    used = {each["image"] for each in containers}
    assert used == set(IMAGES.values())


def test_other_images_are_left_alone():
    manifest = {
        "kind": "Deployment",
        "metadata": {"name": "other"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "envoy:1"}]}}},
    }
    assert change(manifest, CHANGES)["spec"]["template"]["spec"]["containers"][0]["image"] == "envoy:1"


def test_workers_are_put_on_their_nodes_and_bounded():
    (pool,) = [change(each, CHANGES) for each in _manifests("components/worker-pool")]
    assert pool["spec"]["scaling"]["maxReplicas"] == 80
    pod = pool["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"imports.avnz.io/nodes": "workers"}
    assert pod["tolerations"][0]["value"] == "workers"


@pytest.mark.parametrize("overlay", ["dev", "staging", "production"])
def test_the_overlays_as_kustomize_builds_them_become_this_installation_s(overlay):
    named = overlay_addresses(overlay)
    addresses = {role: f"10.99.{number}.0/24" for number, role in enumerate(named)}
    changes = dataclasses.replace(CHANGES, addresses=address_changes(named, addresses))
    before = _built(overlay)
    after = [change(each, changes) for each in before]
    policies = json.dumps([each for each in after if each["kind"] == "NetworkPolicy"])
    for role in ("api-servers", "api-service", "databases"):
        assert f'"{named[role]}"' not in policies, role
    # What is open to everybody stays as it is written.
    assert '"0.0.0.0/0"' in policies
    images = set(re.findall(r'"image": "([^"]+)"', json.dumps(after)))
    assert images == set(IMAGES.values())
    (metrics,) = [each for each in after if each["metadata"]["name"] == "import-metrics"]
    selector = metrics["spec"]["ingress"][0]["from"][0]["namespaceSelector"]
    assert selector["matchLabels"] == {"kubernetes.io/metadata.name": "observability"}
    (pool,) = [each for each in after if each["kind"] == "WorkerPool"]
    assert pool["spec"]["scaling"]["maxReplicas"] == 80


def test_replicas_and_variables_are_the_stack_s():
    (gateway,) = [
        change(each, CHANGES)
        for each in _manifests("base")
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "import-gateway")
    ]
    assert gateway["spec"]["replicas"] == 4
    variables = gateway["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "PUBLIC_URL", "value": "https://imports.example.com"} in variables
    assert len({each["name"] for each in variables}) == len(variables)


def test_nothing_else_is_changed_and_the_manifest_given_stays():
    for manifest in _manifests("base"):
        before = copy.deepcopy(manifest)
        changed = change(manifest, CHANGES)
        assert manifest == before
        if manifest["kind"] not in {"Deployment", "WorkerPool", "NetworkPolicy"}:
            assert changed == manifest


def test_an_image_without_tag_or_digest_is_refused():
    with pytest.raises(
        ConfigurationError, match=r"images\.worker has neither tag nor digest\. Fix: end it with"
    ):
        settings("application", images={**IMAGES, "worker": f"{REPOSITORY}/import-worker"})


def test_outputs_are_put_in_place_without_being_looked_at():
    addresses = address_changes(
        {"databases": "10.30.0.0/16"}, {"databases": pulumi.Output.from_input("10.1.0.0/16")}
    )
    policy = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "import-worker"},
        "spec": {"egress": [{"to": [{"ipBlock": {"cidr": "10.30.0.0/16"}}]}]},
    }
    changed = change(policy, Changes(images=IMAGES, max_workers=1, addresses=addresses))
    assert isinstance(changed["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"], pulumi.Output)
