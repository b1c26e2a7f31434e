"""Every overlay as a real API server takes it, and the one for production as it runs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from rendering import PROJECT, Json, render, worker_deployment

from import_local.demo.manifests import get_connection, get_import_job
from import_local.installation import Installation
from import_local.kubectl import KubectlError, run_kubectl
from import_local.samples.settings import ROASTIFY_KEY

NAMESPACE = ("--namespace", "imports")
STRICT = ("--server-side", "--force-conflicts", "--validate=strict", "--warnings-as-errors")
OVERLAYS = ("local", "faults", "dev", "staging", "production")
DEFAULT = "production"
"""The one that an installation starts from: it has every object that the others have."""


async def dry_run(kubeconfig: Path, objects: list[Json]) -> str:
    """What the API server says: schemas, admission, and restricted pod security of templates as warnings."""
    document = yaml.safe_dump_all(objects).encode()
    return await run_kubectl(kubeconfig, "apply", *STRICT, "--dry-run=server", "-f", "-", stdin=document)


def objects_of(overlay: str) -> list[Json]:
    """As sent, and what the operator would send for the pool; local names a webhook by a URL that is filled in."""
    objects: list[Json] = list(yaml.safe_load_all(render(overlay)))
    pools = [body for body in objects if body["kind"] == "WorkerPool"]
    made = [worker_deployment(pool) for pool in pools]
    for deployment in made:
        del deployment["metadata"]["ownerReferences"]
    return [*objects, *made]


async def apply_namespace(kubeconfig: Path) -> None:
    namespace = next(body for body in objects_of(DEFAULT) if body["kind"] == "Namespace")
    document = json.dumps(namespace).encode()
    await run_kubectl(kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=document)


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_api_server_accepts_every_object(installation: Installation, overlay: str) -> None:
    await apply_namespace(installation.kubeconfig)
    objects = objects_of(overlay)
    answer = await dry_run(installation.kubeconfig, objects)
    assert answer.count("serverside-applied (server dry run)") == len(objects)


def _first_container(objects: list[Json]) -> Json:
    operator = next(b for b in objects if b["kind"] == "Deployment" and "operator" in b["metadata"]["name"])
    container: Json = operator["spec"]["template"]["spec"]["containers"][0]
    return container


def _monitor(objects: list[Json]) -> Json:
    monitor: Json = next(b for b in objects if b["kind"] == "PodMonitor")["spec"]
    return monitor


@pytest.mark.parametrize(
    ("said", "plant"),
    [
        ("not declared in schema", lambda objects: _first_container(objects).update(readynessProbe={})),
        ("PodSecurity", lambda objects: _first_container(objects)["securityContext"].pop("capabilities")),
        ("not declared in schema", lambda objects: _monitor(objects).update(podMetricEndpoints=[])),
        ("spec.selector", lambda objects: _monitor(objects).pop("selector")),
    ],
)
async def test_api_server_tells_what_is_planted(
    installation: Installation, said: str, plant: Callable[[list[Json]], Any]
) -> None:
    await apply_namespace(installation.kubeconfig)
    objects = copy.deepcopy(objects_of(DEFAULT))
    plant(objects)
    with pytest.raises(KubectlError, match=said):
        await dry_run(installation.kubeconfig, objects)


async def test_default_overlay_runs_and_imports(installation: Installation) -> None:
    """`kubectl apply -k` as the how-to has it; each image stands for the command that its build file names."""
    kubeconfig = installation.kubeconfig
    folder = PROJECT / "deploy" / "overlays" / DEFAULT
    await run_kubectl(kubeconfig, "apply", "-k", folder)
    for deployment in ("import-operator", "import-gateway"):
        rollout = ("rollout", "status", f"deployment/{deployment}", "--timeout=120s")
        await run_kubectl(kubeconfig, *NAMESPACE, *rollout, timeout=130)
    ready = (
        "wait",
        "workerpool/product-imports",
        "--for=jsonpath={.status.readyReplicas}=2",
        "--timeout=90s",
    )
    await run_kubectl(kubeconfig, *NAMESPACE, *ready, timeout=100)
    await _import_a_catalogue(installation)
    await _check_pods(kubeconfig)
    before = await _generations(kubeconfig)
    await run_kubectl(kubeconfig, "apply", "-k", folder)
    assert await _generations(kubeconfig) == before, "applied again, something is rolled out again"


async def _import_a_catalogue(installation: Installation) -> None:
    connection = get_connection(
        name="acme-roastify",
        company_id="acme",
        provider_type="roastify",
        base_url=f"{installation.roastify_url}/vendure/v1",
        credentials={"apiKey": ROASTIFY_KEY},
    )
    job = get_import_job(name="first", company_id="acme", provider="acme-roastify")
    job["spec"]["images"] = {"enabled": False}
    document = yaml.safe_dump_all([*connection, job]).encode()
    await run_kubectl(installation.kubeconfig, "create", "-f", "-", stdin=document)
    done = ("wait", "importjob/first", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s")
    await run_kubectl(installation.kubeconfig, *NAMESPACE, *done, timeout=100)
    async with await psycopg.AsyncConnection.connect(installation.database_url) as connected:
        cursor = await connected.execute('SELECT count(*) FROM "Product" WHERE "companyId" = %s', ["acme"])
        row = await cursor.fetchone()
    assert row is not None
    assert row[0] > 0


async def _generations(kubeconfig: Path) -> str:
    """How often each object's spec has changed."""
    kinds = "deployments,workerpools,networkpolicies,poddisruptionbudgets,podmonitors,services"
    columns = "custom-columns=:.kind,:.metadata.name,:.metadata.generation"
    return await run_kubectl(kubeconfig, *NAMESPACE, "get", kinds, "-o", columns)


async def _check_pods(kubeconfig: Path) -> None:
    """All of them got past restricted pod security, which refuses one that asks for more."""
    answer = json.loads(await run_kubectl(kubeconfig, *NAMESPACE, "get", "pods", "-o", "json"))
    names = [pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in answer["items"]]
    assert sorted(names) == [*["import-gateway"] * 3, *["import-operator"] * 2, *["import-worker"] * 2]
    bad = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "planted", "namespace": "imports"},
        "spec": {"containers": [{"name": "one", "image": "import-worker:0"}]},
    }
    with pytest.raises(KubectlError, match=r"violates PodSecurity .restricted"):
        await run_kubectl(kubeconfig, "create", "-f", "-", stdin=json.dumps(bad).encode())
