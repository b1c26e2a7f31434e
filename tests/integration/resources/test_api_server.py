"""The definitions in a real API server: it accepts, refuses, fills and shows what the models say."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from custom_resource_cases import ACCEPTED, REFUSED, Case
from lightkube import ApiError, AsyncClient, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace

from import_core.domain.resources.common import GROUP, VERSION
from import_core.domain.resources.crd import DEFINITIONS
from import_core.domain.resources.import_job import parse_import_job
from import_core.domain.resources.import_provider import parse_import_provider
from import_core.domain.resources.import_schedule import parse_import_schedule
from import_core.domain.resources.worker_pool import parse_worker_pool
from import_local.kubectl import KubectlError, run_kubectl

NAMESPACE = "custom-resources"
PARSERS = {
    "ImportJob": parse_import_job,
    "ImportProvider": parse_import_provider,
    "ImportSchedule": parse_import_schedule,
    "WorkerPool": parse_worker_pool,
}
RESOURCES = {
    definition.kind: create_namespaced_resource(GROUP, VERSION, definition.kind, definition.plural)
    for definition in DEFINITIONS
}
ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT.parent / "shared" / "examples"
FILES = [*sorted(EXAMPLES.glob("*.yaml")), *sorted((ROOT / "deploy" / "samples").glob("*.yaml"))]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(control_plane_server: Any) -> AsyncIterator[AsyncClient]:
    config = KubeConfig.from_file(control_plane_server.kubeconfig)
    client = AsyncClient(config=config, namespace=NAMESPACE, trust_env=False)
    await client.create(Namespace(metadata=ObjectMeta(name=NAMESPACE)))
    yield client
    await client.delete(Namespace, NAMESPACE)
    await client.close()


async def submit(
    client: AsyncClient, case: Case, name: str = "sample", *, dry_run: bool = True
) -> dict[str, Any]:
    resource = RESOURCES[case.kind].from_dict(case.body(name))
    return dict((await client.create(resource, dry_run=dry_run)).to_dict())


async def kubectl(kubeconfig: Path, *words: str | Path, stdin: bytes | None = None) -> str:
    return await run_kubectl(kubeconfig, "--namespace", NAMESPACE, *words, stdin=stdin)


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
async def test_accepts_and_fills_the_same_defaults(client: AsyncClient, case: Case) -> None:
    stored = await submit(client, case)
    ours = PARSERS[case.kind](case.body())
    from_server = PARSERS[case.kind](stored)
    assert from_server.spec == ours.spec
    # Reading what the server stored must find no default of ours that the server didn't fill.
    assert from_server.spec.to_json() == without_rewritten_times(stored["spec"])


def without_rewritten_times(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with its time as we would write it: nanoseconds are cut to microseconds."""
    after = spec.get("filter", {}).get("updatedAfter")
    if after is None:
        return spec
    return spec | {"filter": {"updatedAfter": after.replace("123456789", "123456")}}


@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_refuses_naming_the_field(client: AsyncClient, case: Case) -> None:
    with pytest.raises(ApiError) as caught:
        await submit(client, case)
    assert caught.value.response.status_code == 422
    # The server writes a key of a map in brackets or behind a dot, depending on its kind.
    message = str(caught.value).replace("[title]", ".title").replace("[memory]", ".memory")
    assert case.blames in message


async def test_a_refused_address_is_not_repeated(client: AsyncClient) -> None:
    with pytest.raises(ApiError, match="baseUrl: must be an http or https URL") as caught:
        await submit(client, Case("ImportProvider", {"baseUrl": "https://user:hunter2@acme.example"}))
    assert "hunter2" not in str(caught.value)


async def test_an_unknown_field_is_refused_by_kubectl(control_plane: Path, client: AsyncClient) -> None:
    body = Case("ImportJob", {"fieldMappings": {}}).body("misspelt")
    with pytest.raises(KubectlError, match=r'unknown field "spec\.fieldMappings"'):
        await kubectl(control_plane, "apply", "-f", "-", stdin=json.dumps(body).encode())


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
async def test_example_files_apply_unchanged(control_plane: Path, client: AsyncClient, file: Path) -> None:
    bodies = list(yaml.safe_load_all(await asyncio.to_thread(file.read_text)))
    for body in bodies:
        body["metadata"]["namespace"] = NAMESPACE
    text = yaml.safe_dump_all(bodies).encode()
    await kubectl(control_plane, "apply", "-f", "-", stdin=text)
    await kubectl(control_plane, "apply", "-f", "-", stdin=text)
    for body in bodies:
        if body["kind"] in PARSERS:
            name = body["metadata"]["name"]
            stored = PARSERS[body["kind"]](
                json.loads(await kubectl(control_plane, "get", body["kind"], name, "-o", "json"))
            )
            assert stored.spec == PARSERS[body["kind"]](body).spec
            assert stored.metadata.generation == 1  # applying again changed nothing
    await kubectl(control_plane, "delete", "-f", "-", stdin=text)


@pytest.mark.parametrize(
    ("kind", "change", "blames"),
    [
        ("ImportJob", {"companyId": "other"}, "companyId is immutable"),
        ("ImportJob", {"providerRef": {"name": "other"}}, "providerRef is immutable"),
        ("ImportProvider", {"companyId": "other"}, "companyId is immutable"),
        ("ImportSchedule", {"jobTemplate": {"spec": {"companyId": "other"}}}, "companyId is immutable"),
        ("ImportProvider", {"type": "roastify"}, "type is immutable"),
    ],
)
async def test_what_identifies_an_object_never_changes(
    client: AsyncClient, kind: str, change: dict[str, Any], blames: str
) -> None:
    await submit(client, Case(kind), "fixed", dry_run=False)
    resource = RESOURCES[kind]
    with pytest.raises(ApiError, match=blames):
        await client.patch(resource, "fixed", {"spec": change}, patch_type=merge())
    other = {"timeoutSeconds": 7} if kind == "ImportProvider" else {"suspend": True}
    changed = await client.patch(resource, "fixed", {"spec": other}, patch_type=merge())
    assert changed.to_dict()["spec"].items() >= other.items()
    await client.delete(resource, "fixed")


def merge() -> Any:
    from lightkube.types import PatchType

    return PatchType.MERGE


async def test_status_is_a_subresource_with_its_own_bounds(client: AsyncClient) -> None:
    await submit(client, Case("ImportJob"), "with-status", dry_run=False)
    job = RESOURCES["ImportJob"]
    await client.patch(job, "with-status", {"status": {"phase": "Running"}}, patch_type=merge())
    assert (await client.get(job, "with-status")).to_dict().get("status") is None
    await patch_status(client, "ImportJob", "with-status", {"phase": "Running", "progress": {"percent": 40}})
    assert (await client.get(job, "with-status")).to_dict()["status"]["progress"] == {"percent": 40}
    for wrong in ({"phase": "Walking"}, {"progress": {"percent": 101}}, {"waitingReason": "Tired"}):
        with pytest.raises(ApiError, match="status"):
            await patch_status(client, "ImportJob", "with-status", wrong)
    await client.delete(job, "with-status")


async def patch_status(client: AsyncClient, kind: str, name: str, status: dict[str, Any]) -> None:
    resource: Any = RESOURCES[kind].Status
    await client.patch(resource, name, {"status": status}, patch_type=merge())


async def test_kubectl_scale_holds_a_number_and_lets_it_go(control_plane: Path, client: AsyncClient) -> None:
    await submit(client, Case("WorkerPool"), "scaled", dry_run=False)
    pool = RESOURCES["WorkerPool"]
    await kubectl(control_plane, "scale", "workerpool/scaled", "--replicas=3")
    assert parse_worker_pool((await client.get(pool, "scaled")).to_dict()).spec.replicas == 3
    await patch_status(client, "WorkerPool", "scaled", {"replicas": 2})
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}/workerpools/scaled/scale"
    scale = json.loads(await kubectl(control_plane, "get", "--raw", path))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 2)
    with pytest.raises(KubectlError, match=r"spec\.replicas"):
        await kubectl(control_plane, "scale", "workerpool/scaled", "--replicas=1001")
    automatic = '{"spec":{"replicas":null}}'
    await kubectl(control_plane, "patch", "workerpool/scaled", "--type=merge", "-p", automatic)
    assert "replicas" not in (await client.get(pool, "scaled")).to_dict()["spec"]
    await client.delete(pool, "scaled")


async def rows(control_plane: Path, *words: str) -> list[list[str]]:
    table = await kubectl(control_plane, "get", *words, "--no-headers")
    return [line.split() for line in table.splitlines()]


async def test_columns_answer_the_first_question(control_plane: Path, client: AsyncClient) -> None:
    for kind in RESOURCES:
        await submit(client, Case(kind), "shown", dry_run=False)
    job_status = {"phase": "Queued", "attempts": 2, "progress": {"percent": 40}, "waitingReason": "Retry"}
    await patch_status(client, "ImportJob", "shown", job_status)
    conditions = [
        {"type": name, "status": status, "reason": "R", "lastTransitionTime": "2026-01-31T12:00:00Z"}
        for name, status in (("Reachable", "True"), ("CredentialsValid", "False"))
    ]
    provider_status = {"conditions": conditions, "breaker": {"state": "Closed"}}
    await patch_status(client, "ImportProvider", "shown", provider_status)
    pool_status = {"queueDepth": 120, "desiredReplicas": 12, "readyReplicas": 5, "busyReplicas": 4}
    await patch_status(client, "WorkerPool", "shown", pool_status | {"lastScaleReason": "QueueDepth"})
    schedule_status = {
        "active": 1,
        "lastScheduleTime": "2026-01-31T02:00:00Z",
        "nextScheduleTime": "2026-02-01T02:03:20Z",
        "conditions": [dict(conditions[0], type="Held", status="False")],
    }
    await patch_status(client, "ImportSchedule", "shown", schedule_status)
    (schedule,) = await rows(control_plane, "isc")
    assert schedule[:9] == ["shown", "0", "2", "*", "*", "*", "Etc/UTC", "false", "1"]
    assert schedule[10:12] == ["2026-02-01T02:03:20Z", "False"]
    (job,) = await rows(control_plane, "ij")
    assert job[:7] == ["shown", "Queued", "40", "acme-shopify", "acme", "2", "Retry"]
    (provider,) = await rows(control_plane, "ipr")
    assert provider[:6] == ["shown", "shopify", "acme", "True", "False", "Closed"]
    (pool,) = await rows(control_plane, "wp")
    assert pool[:8] == ["shown", "120", "12", "5", "4", "2", "50", "QueueDepth"]
    everything = await rows(control_plane, "imports")
    assert {row[0].split("/")[0] for row in everything} >= {
        f"{definition.singular}.{GROUP}" for definition in DEFINITIONS
    }
    (selected,) = await rows(control_plane, "ij", "--field-selector=status.phase=Queued,spec.companyId=acme")
    assert selected[:7] == job[:7]  # the age goes on
    assert await rows(control_plane, "ij", "--field-selector=status.phase=Running") == []
    await asyncio.gather(*(client.delete(resource, "shown") for resource in RESOURCES.values()))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("importjob", "copies a company's products"),
        ("importjob.spec.fieldMapping", "JMESPath expression over the provider's product"),
        ("importjob.spec.images.thumbnails", "the longest side in pixels"),
        ("importjob.status.waitingReason", "Why a queued job does not run"),
        ("importschedule.spec.jobTemplate.spec.companyId", "Id of the company to import for"),
        ("importprovider.spec.credentialsSecretRef", "Shopify: accessToken"),
        ("workerpool.spec.scaling.targetJobsPerWorker", "a depth of 100 asks for 10 workers"),
        ("workerpool.spec.template.spec.containers", "the first is the worker"),
    ],
)
async def test_explain_reads_like_documentation(control_plane: Path, path: str, words: str) -> None:
    explained = " ".join((await kubectl(control_plane, "explain", path)).split())
    assert words in explained
