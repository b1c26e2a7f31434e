"""The pools for the steps after an import: one for each queue, as the models take them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from import_core.domain.resources.worker_pool import parse_worker_pool
from import_core.domain.steps import StepKind
from import_gateway.settings import GatewaySettings
from import_local.demo.manifests import get_step_pools

ROOT = Path(__file__).parents[3]
OPTIONAL = {
    "DATABASE_DIRECT_URL",
    "REDIS_URL",
    "PUBLIC_URL",
    "EMBEDDING_MODEL_PATH",
    "VECTOR_INDEX",
    "MILVUS_ADDRESS",
    "MILVUS_TOKEN",
    "MILVUS_COLLECTION",
    "SEARCH_INDEX",
    "OPENSEARCH_URL",
    "OPENSEARCH_INDEX",
}
"""What the gateway reads where the Secret has it: the same values as those of the workers."""
COMPONENT = ROOT / "deploy/components/catalogue-sync"


def component() -> list[dict[str, Any]]:
    listed = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text())["resources"]
    return [yaml.safe_load((COMPONENT / name).read_text()) for name in listed]


def sample() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "deploy/samples/workerpools-steps.yaml").read_text()))


def demo() -> list[dict[str, Any]]:
    return get_step_pools(image="import-worker:local", maximum=2, cooldown_seconds=5)


@pytest.mark.parametrize("pools", [component, sample])
def test_pools_name_the_image_with_the_packages_of_steps(pools: Any) -> None:
    images = {c["image"] for body in pools() for c in body["spec"]["template"]["spec"]["containers"]}
    assert images == {"import-worker-enrich:dev"}
    assert "FROM base-enrich AS worker-enrich\n" in (ROOT / "deploy/images/Dockerfile").read_text()


def test_the_gateway_is_given_all_that_searches_need_of_the_connections() -> None:
    deployment = next(yaml.safe_load_all((ROOT / "deploy/base/gateway-deployment.yaml").read_text()))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {
        each["name"]: each["valueFrom"]["secretKeyRef"]
        for each in container["env"]
        if "fieldRef" not in each["valueFrom"]
    }
    assert set(given) == {"DATABASE_URL", *OPTIONAL}
    for name, key in given.items():
        wanted = {"name": "import-connections", "key": name}
        assert key == (wanted if name == "DATABASE_URL" else {**wanted, "optional": True})
    assert {str(field.validation_alias) for field in GatewaySettings.model_fields.values()} >= OPTIONAL


@pytest.mark.parametrize("pools", [component, sample, demo])
def test_each_step_has_its_pool_with_five_jobs_at_once(pools: Any) -> None:
    found = {parse_worker_pool(body).spec.queue: parse_worker_pool(body).spec for body in pools()}
    assert list(found) == [kind.value for kind in StepKind]
    assert {spec.concurrency for spec in found.values()} == {5}
    assert {body["metadata"]["name"] for body in pools()} == set(found)
