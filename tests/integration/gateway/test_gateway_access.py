"""Who gets in: real tokens of real ServiceAccounts, reviewed by a real API server under RBAC."""

from pathlib import Path

import pytest
from eventually import eventually
from gateway_world import SPEC, Gateway, World
from test_gateway_imports import problem

from import_core.domain.callers import Action
from import_local.kubectl import run_kubectl
from import_local.parts.control_plane import ControlPlane

RIGHTS = {
    "importjobs.imports.avnz.io": {"create", "delete", "get", "list", "patch"},
    "secrets": {"get", "update"},  # one by name: tests/integration/admission/test_gateway_rights.py
    "subjectaccessreviews.authorization.k8s.io": {"create"},
    "tokenreviews.authentication.k8s.io": {"create"},
    "workerpools.imports.avnz.io": {"list"},
}
OWN = {"selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"}


@pytest.fixture
def gateway(steady_gateway: Gateway) -> Gateway:
    """Nothing here depends on what the database holds."""
    return steady_gateway


async def rights(kubeconfig: Path, namespace: str) -> dict[str, set[str]]:
    """What the account may do with resources, without what everybody may."""
    table = await run_kubectl(kubeconfig, "-n", namespace, "auth", "can-i", "--list", "--no-headers")
    found: dict[str, set[str]] = {}
    for line in table.splitlines():
        resource = line.split(maxsplit=1)[0]
        if not resource.startswith("[") and resource.partition(".")[0] not in OWN:
            found.setdefault(resource, set()).update(line.rsplit("[", 1)[1].rstrip("]").split())
    return found


async def test_gateway_has_exactly_the_rights_it_uses(gateway: Gateway) -> None:
    cluster = gateway.cluster
    assert await rights(cluster.gateway_kubeconfig, cluster.namespace) == RIGHTS
    elsewhere = {name: verbs for name, verbs in RIGHTS.items() if "review" in name}
    assert await rights(cluster.gateway_kubeconfig, "default") == elsewhere


CASES = [
    ("GET", "/v1/imports", Action.LIST),
    ("GET", "/v1/events", Action.LIST),
    ("GET", "/health/queue", Action.LIST),
    ("GET", "{one}", Action.READ),
    ("GET", "{one}/events", Action.READ),
    ("GET", "{one}/errors", Action.READ),
    ("POST", "/v1/imports", Action.SUBMIT),
    ("POST", "{one}/retry", Action.RETRY),
    ("POST", "{one}/cancel", Action.CANCEL),
    ("GET", "/v1/search?companyId=acme&q=shirt", Action.SEARCH),
    ("POST", "/v1/queue/pause", Action.PAUSE),
    ("POST", "/v1/queue/resume", Action.PAUSE),
    ("GET", "/v1/figures", Action.LIST),
    ("POST", "/v1/sessions/links", Action.LINK),
    ("DELETE", "/v1/sessions/links/0123456789ab", Action.LINK),
]
ALLOWED = {
    "nobody": set(),
    "viewer": {Action.LIST, Action.READ},
    "submitter": {Action.LIST, Action.READ, Action.SUBMIT, Action.RETRY, Action.CANCEL, Action.LINK},
}


@pytest.mark.parametrize(("method", "path", "action"), CASES)
async def test_every_route_asks_for_its_right(
    gateway: Gateway, method: str, path: str, action: Action
) -> None:
    url = path.format(one=gateway.one("missing"))
    assert (await gateway.call(method, url, caller=None)).status_code == 401
    for caller, actions in ALLOWED.items():
        if action not in actions:
            answer = problem(await gateway.call(method, url, caller=caller, json={}), 403, "not-allowed")
            assert action.words in answer["detail"]
        elif not url.endswith("/v1/events"):
            allowed = await gateway.call(method, url, caller=caller, json={})
            # 503: this gateway has no Redis, which links are kept in.
            assert allowed.status_code in {200, 404, 422, 503}, allowed.text


async def test_token_must_be_made_for_the_gateway(
    gateway: Gateway, control_plane_server: ControlPlane
) -> None:
    cluster = gateway.cluster
    for wrong in (
        await cluster.token("operations", audience="https://another"),
        cluster.tokens["operations"][:-4] + "AAAA",
        "x",
        "a" * 20_000,
    ):
        answer = await gateway.client.get("/v1/imports", headers={"Authorization": f"Bearer {wrong}"})
        problem(answer, 401, "not-authenticated")
        assert answer.headers["www-authenticate"] == "Bearer"
    for header in ("Basic eDp5", "Bearer", ""):
        answer = await gateway.client.get("/v1/imports", headers={"Authorization": header})
        problem(answer, 401, "not-authenticated")


async def test_other_namespaces_are_not_served(gateway: Gateway) -> None:
    answer = await gateway.call("GET", "/v1/imports/default/any", caller="viewer")
    problem(answer, 403, "not-allowed")


async def test_who_sends_too_much_is_asked_to_wait_and_others_are_not(world: World) -> None:
    async with world.gateway(calls_per_minute=0.5, calls_burst=3) as gateway:
        answers = [await gateway.call("GET", "/v1/me", caller="viewer") for _ in range(4)]
        assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
        problem(answers[3], 429, "too-many-requests")
        assert 1 <= int(answers[3].headers["retry-after"]) <= 120
        assert (await gateway.call("GET", "/v1/me", caller="submitter")).status_code == 200


async def test_session_tells_what_the_caller_may_do(gateway: Gateway) -> None:
    answer = (await gateway.call("GET", "/v1/me", caller="submitter")).json()
    assert answer["username"].endswith(":submitter")
    assert answer["may"] == {"list": True, "submit": True, "retry": True, "cancel": True, "pause": False}


async def test_page_signs_in_by_a_cookie_that_only_its_own_origin_can_write_with(gateway: Gateway) -> None:
    token = gateway.cluster.tokens["submitter"]
    own = {"Origin": gateway.url}
    refused = await gateway.client.post(
        "/session", json={"token": token}, headers={"Origin": "https://evil.example"}
    )
    problem(refused, 403, "foreign-origin")
    problem(
        await gateway.client.post("/session", json={"token": "nonsense"}, headers=own),
        401,
        "not-authenticated",
    )
    signed = await gateway.client.post("/session", json={"token": token}, headers=own)
    assert signed.status_code == 201
    cookie = signed.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/" in cookie
    assert token not in signed.text

    assert (await gateway.client.get("/v1/imports")).status_code == 200, "reading needs no origin"
    body = {"spec": SPEC}
    for headers in (
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": gateway.url + "1"},
    ):
        problem(await gateway.client.post("/v1/imports", json=body, headers=headers), 403, "foreign-origin")
    assert (await gateway.client.post("/v1/imports", json=body, headers=own)).status_code == 201

    problem(
        await gateway.client.delete("/session", headers={"Origin": "https://evil.example"}),
        403,
        "foreign-origin",
    )
    assert (await gateway.client.delete("/session", headers=own)).status_code == 204
    assert (await gateway.client.get("/v1/imports")).status_code == 401


async def test_cookie_is_bound_to_https_where_browsers_use_it(world: World) -> None:
    async with world.gateway(public_url="https://imports.example") as gateway:
        token = gateway.cluster.tokens["viewer"]
        headers = {"Origin": "https://imports.example"}
        signed = await gateway.client.post("/session", json={"token": token}, headers=headers)
        assert signed.headers["set-cookie"].startswith("__Host-imports-session=")
        assert "secure" in signed.headers["set-cookie"].lower()
        foreign = await gateway.client.post(
            "/session", json={"token": token}, headers={"Origin": gateway.url}
        )
        problem(foreign, 403, "foreign-origin")


async def test_right_that_is_given_or_taken_counts_soon(gateway: Gateway) -> None:
    cluster = gateway.cluster
    assert (await gateway.call("GET", "/v1/imports", caller="nobody")).status_code == 403
    await run_kubectl(
        *(cluster.admin, "-n", cluster.namespace, "create", "rolebinding", "late", "--role=imports-viewer"),
        f"--serviceaccount={cluster.namespace}:nobody",
    )

    async def allowed() -> bool:
        return (await gateway.call("GET", "/v1/imports", caller="nobody")).status_code == 200

    await eventually(allowed)
    await run_kubectl(cluster.admin, "-n", cluster.namespace, "delete", "rolebinding", "late")
