"""What every answer keeps to: problem documents, headers, bounds, and neighbours that are away."""

from typing import Any

import httpx2
import pytest
from eventually import eventually
from gateway_world import SPEC, Gateway, World
from test_gateway_imports import problem

from import_local.credentials import write_private
from import_local.kubectl import run_kubectl
from import_local.ports import free_port


@pytest.fixture
def gateway(steady_gateway: Gateway) -> Gateway:
    """Nothing here depends on what the database holds."""
    return steady_gateway


@pytest.mark.parametrize("caller", ["operations", None])
async def test_unknown_path_and_method(gateway: Gateway, caller: str | None) -> None:
    problem(await gateway.call("GET", "/v1/nothing", caller=caller), 404, "not-found")
    answer = await gateway.call("PUT", "/v1/imports", caller=caller)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, POST"
    problem(await gateway.call("POST", "/openapi.json", caller=caller), 405, "method-not-allowed")


@pytest.mark.parametrize("name", ["%00", "a%20b", "..%2f", "x" * 300, "%f0%9f%98%80"])
async def test_name_that_none_can_have_is_not_found(gateway: Gateway, name: str) -> None:
    answer = await gateway.call("GET", gateway.one(name))
    problem(answer, 404, "not-found")


@pytest.mark.parametrize(
    ("content", "media_type", "status", "slug"),
    [
        (b"{}", "text/plain", 415, "unsupported-media-type"),
        (b"{}", None, 415, "unsupported-media-type"),
        (b"{", "application/json", 400, "malformed-request"),
        (b"\xff", "application/json", 400, "malformed-request"),
        (b'{"spec": NaN}', "application/json", 400, "malformed-request"),
        (b'{"a": 1, "a": 2}', "application/json", 400, "malformed-request"),
        (b"[" * 30_000, "application/json", 400, "malformed-request"),
        (b"[" * 25 + b"]" * 25, "application/json", 400, "malformed-request"),
        (b" " * 65_537, "application/json", 413, "too-large"),
        (b"null", "application/json", 422, "invalid"),
        (b'{"spec": {"companyId": "\\ud800"}}', "application/json", 400, "malformed-request"),
    ],
)
async def test_body_that_can_not_be_read(
    gateway: Gateway, content: bytes, media_type: str | None, status: int, slug: str
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    answer = await gateway.call("POST", "/v1/imports", content=content, headers=headers)
    problem(answer, status, slug)


async def test_body_without_a_length_is_bounded_too(gateway: Gateway) -> None:
    async def endless() -> Any:
        for _ in range(70):
            yield b" " * 1000

    headers = {"Content-Type": "application/json"}
    answer = await gateway.call("POST", "/v1/imports", content=endless(), headers=headers)
    problem(answer, 413, "too-large")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("phase=Nope", "phase"),
        ("cursor=nonsense", "cursor"),
        ("cursor=1.0", "cursor"),
        ("unknown=1", "unknown"),
    ],
)
async def test_wrong_parameter_is_named(gateway: Gateway, query: str, pointer: str) -> None:
    answer = problem(await gateway.call("GET", f"/v1/imports?{query}"), 422, "invalid")
    assert [error["pointer"] for error in answer["errors"]] == [pointer]


@pytest.mark.parametrize("key", ["", "\x7f", "x" * 256])
async def test_key_that_can_not_be_one(gateway: Gateway, key: str) -> None:
    headers = {"Idempotency-Key": key}
    problem(await gateway.call("POST", "/v1/imports", json={"spec": SPEC}, headers=headers), 422, "invalid")


async def test_every_answer_has_an_id_and_safe_headers(gateway: Gateway) -> None:
    answer = await gateway.call("GET", "/v1/imports", headers={"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers
    strange = await gateway.call("GET", "/v1/imports", headers={"X-Request-Id": "a b"})
    assert strange.headers["x-request-id"] not in {"", "a b"}


async def test_database_away_is_said_with_a_time_to_come_back(world: World) -> None:
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/none"
    async with world.gateway(database_url=url, request_seconds=5) as gateway:
        answer = await gateway.call("GET", "/v1/imports")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        created = await gateway.call("POST", "/v1/imports", json={"spec": SPEC})
        assert created.status_code == 201, "imports are taken while the database is away"


async def test_api_server_away_is_said_with_a_time_to_come_back(world: World) -> None:
    kubeconfig = world.cluster.gateway_kubeconfig
    text = kubeconfig.read_text()
    address = next(line for line in text.splitlines() if "server:" in line).rpartition(":")[2].strip(" \"'")
    away = kubeconfig.with_name("away.yaml")
    write_private(away, text.replace(f":{address}", f":{free_port()}"))
    async with world.gateway(kubeconfig=away) as gateway:
        answer = problem(await gateway.call("GET", "/v1/imports"), 503, "unavailable")
        assert "API server" in answer["detail"]
        assert (await gateway.call("GET", "/readyz", caller=None)).status_code == 200


REFUSAL = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: {name}}}
webhooks:
  - name: room.imports.avnz.io
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Fail
    timeoutSeconds: 5
    clientConfig: {{url: "https://127.0.0.1:{port}/admit", caBundle: {bundle}}}
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
    rules: [{{apiGroups: [imports.avnz.io], apiVersions: [v1alpha1], operations: [CREATE], resources: [importjobs]}}]
"""


async def test_refused_intake_is_passed_on_with_the_webhooks_time(
    gateway: Gateway, world: World, refusing_webhook: tuple[int, str]
) -> None:
    """A real API server asks a real webhook that answers 503, as the gateway's own does when there is no room."""
    port, bundle = refusing_webhook
    name = f"refuse-{world.cluster.namespace}"
    manifest = REFUSAL.format(name=name, port=port, bundle=bundle, namespace=world.cluster.namespace)
    await run_kubectl(world.cluster.admin, "apply", "-f", "-", stdin=manifest.encode())

    async def submit() -> httpx2.Response:
        return await gateway.call("POST", "/v1/imports", json={"spec": SPEC})

    async def refused_at_last() -> httpx2.Response | None:
        # Also an API server that has no answer yet is a 503: only the webhook's own refusal ends the wait.
        answer = await submit()
        return answer if "intake-refused" in answer.text else None

    async def taken_again() -> bool:
        return (await submit()).status_code == 201

    try:
        answer = await eventually(refused_at_last)
        refused = problem(answer, 503, "intake-refused")
        assert refused["detail"] == "There is no room; come back in about 7 minutes"
        assert answer.headers["retry-after"] == "420"
    finally:
        await run_kubectl(world.cluster.admin, "delete", "validatingwebhookconfiguration", name)
        # The API server asks it for a moment longer: no other test must meet that.
        await eventually(taken_again)


async def test_database_without_our_tables_is_said_and_ends_no_replica(
    world: World, empty_database_url: str
) -> None:
    async with world.gateway(database_url=empty_database_url) as gateway:
        async with gateway.events("/v1/events", caller="operations") as stream:
            assert stream.response.status_code == 200
            answer = await gateway.call("GET", "/v1/imports")
            assert answer.status_code == 503
            assert answer.json()["type"].endswith("/unavailable")
            assert "not migrated" in answer.json()["detail"]
            metrics = gateway.services.metrics.registry

            async def counted() -> bool:
                return bool(metrics.get_sample_value("imports_live_failures_total", {"part": "overview"}))

            await eventually(counted)
        assert not any(task.done() for task in gateway.tasks)
