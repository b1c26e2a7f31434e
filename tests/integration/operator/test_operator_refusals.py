"""Objects that can't be served: a clear message on the object, nothing changed elsewhere."""

import pytest
from eventually import eventually
from operator_world import Cluster, Operators, TakingWorker

from import_core.adapters.kube.resources import DEPLOYMENT, IMPORT_JOB, WORKER_POOL
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_local.kubectl import KubectlError


async def test_refused_jobs_say_why_and_have_no_row(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    await operators.leading()
    await cluster.provider()
    made = {
        "foreign": await cluster.job("foreign", companyId="somebody-else"),
        "unmappable": await cluster.job("unmappable", fieldMapping={"title": "title["}),
        "homeless": await cluster.job("homeless", providerRef={"name": "nowhere"}),
    }
    expected = {
        "foreign": ("CompanyMismatch", "spec.companyId"),
        "unmappable": ("InvalidMapping", "spec.fieldMapping.title"),
        "homeless": ("ProviderNotFound", "there is no ImportProvider nowhere"),
    }
    for name, (reason, words) in expected.items():
        # One that was seen before its provider was has none for a moment.
        await cluster.condition(IMPORT_JOB, name, "Accepted", "False", reason=reason)
        status = await cluster.status(name)
        assert status["phase"] == "Pending"
        assert words in status["message"]
    uids = [body["metadata"]["uid"] for body in made.values()]
    assert await JobStore(database).read(uids) == {}

    async def described() -> bool:
        return "belongs to another company" in await cluster.kubectl("describe", IMPORT_JOB.plural, "foreign")

    await eventually(described, what="the Event in kubectl describe")


async def test_job_waits_for_its_provider(
    cluster: Cluster, operators: Operators, worker: TakingWorker
) -> None:
    await operators.leading()
    await cluster.pool()
    job = await cluster.job("early")
    await cluster.phase("early", "Pending")
    await cluster.provider()
    claim = await worker.take()
    assert claim.job.id == job["metadata"]["uid"]
    running = await cluster.phase("early", "Running")
    assert "there is no" not in running["message"]


async def test_api_server_refuses_what_its_schema_can_see(cluster: Cluster) -> None:
    await cluster.job("fixed")
    with pytest.raises(KubectlError, match="companyId is immutable"):
        await cluster.kubectl(
            "patch", IMPORT_JOB.plural, "fixed", "--type=merge", "-p", '{"spec": {"companyId": "other"}}'
        )


async def test_deployment_of_somebody_else_is_left_alone(cluster: Cluster, operators: Operators) -> None:
    labels = {"imports.avnz.io/pool": "taken"}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "mine", "image": "mine:1"}]},
        },
    }
    await cluster.create(DEPLOYMENT, "taken-workers", spec, labels=labels)
    await operators.leading()
    await cluster.pool("taken")
    condition = await cluster.condition(WORKER_POOL, "taken", "ScalingActive", "False")
    assert condition["reason"] == "ObjectConflict"
    assert "taken-workers" in condition["message"]
    assert (await cluster.get(DEPLOYMENT, "taken-workers"))["spec"]["replicas"] == 0


async def test_template_that_kubernetes_refuses_is_told(cluster: Cluster, operators: Operators) -> None:
    await operators.leading()
    template = {
        "spec": {"containers": [{"name": "worker", "image": "w:1", "ports": [{"containerPort": -1}]}]}
    }
    await cluster.create(WORKER_POOL, "broken", {"template": template})
    condition = await cluster.condition(WORKER_POOL, "broken", "ScalingActive", "False")
    assert condition["reason"] == "ObjectRefused"
    assert "containerPort" in condition["message"]
