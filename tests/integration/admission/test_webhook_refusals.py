"""What a submitter sees through plain kubectl while the API server asks the webhook."""

import json

import httpx2
import pytest
from admission_world import World, import_job
from eventually import eventually

from import_core.domain.backpressure import HealthLevel
from import_local.kubectl import KubectlError, run_kubectl
from import_local.ports import free_port


async def apply(world: World, name: str, company: str = "acme", *options: str) -> str:
    return await world.kubectl("apply", *options, "-f", "-", stdin=import_job(name, company))


async def until_level_is_known(world: World, name: str, company: str) -> str:
    """The message of the first refusal: what was remembered before the queue got full has passed by then."""

    async def refused() -> str | None:
        try:
            await apply(world, name, company, "--dry-run=server")
        except KubectlError as error:
            return str(error)
        return None

    return str(await eventually(refused, what="a refusal"))


async def test_refusals_by_tier_and_level(world: World) -> None:
    for company, tier in (("big", "ENTERPRISE"), ("middle", "PRO"), ("small", "BASIC")):
        await world.company(company, tier)
    await world.queue(HealthLevel.DEGRADED)
    await world.start()
    for company in ("big", "middle", "small", "unheard-of"):
        await apply(world, f"early-{company}", company)

    await world.queue(HealthLevel.CRITICAL)
    message = await until_level_is_known(world, "late-small", "small")
    assert "(ServiceUnavailable)" in message
    assert (
        'admission webhook "importjobs.imports.avnz.io" denied the request: The import queue is very long'
        in message
    )
    assert "BASIC companies can't add to it now. There should be room in about" in message
    for company in ("middle", "unheard-of"):
        with pytest.raises(KubectlError, match="can't add to it now"):
            await apply(world, f"late-{company}", company)
    await apply(world, "late-big", "big")

    await world.queue(HealthLevel.OVERLOAD, stopped=True)
    message = await until_level_is_known(world, "last-big", "big")
    assert "The import queue is full (12,000 imports wait or run). There should be room in" in message

    # What is there already can be changed, applied again and deleted, however full the queue is.
    changed = import_job("early-small", "small", suspend=True)
    await world.kubectl("apply", "-f", "-", stdin=changed)
    await world.kubectl("annotate", "importjob", "early-big", "imports.avnz.io/retry=1")
    await world.kubectl("delete", "importjob", "early-middle", "--wait=false")
    # Server-side apply that creates is a creation, too.
    with pytest.raises(KubectlError, match="ServiceUnavailable"):
        await apply(world, "last-small", "small", "--server-side")

    await world.queue(HealthLevel.HEALTHY)
    await eventually(lambda: _taken(world, "again", "small"), what="intake after the queue got short")
    names = json.loads(await world.kubectl("get", "importjobs", "-o", "json"))["items"]
    assert {item["metadata"]["name"] for item in names} == {
        "early-big",
        "early-small",
        "early-unheard-of",
        "late-big",
        "again",
    }


async def _taken(world: World, name: str, company: str) -> bool:
    try:
        await apply(world, name, company)
    except KubectlError:
        return False
    return True


async def test_kubectl_asks_once_and_does_not_wait(world: World) -> None:
    await world.queue(HealthLevel.OVERLOAD, stopped=True)
    await world.start()
    await world.until_asked()
    before = await world.reviews()
    answer = await run_kubectl_verbose(world, import_job("job"))
    assert answer.count("POST https://") == 1
    assert "Retry-After" not in answer
    assert " 503 Service Unavailable" in answer
    assert await world.reviews() == before + 1


async def run_kubectl_verbose(world: World, body: dict[str, object]) -> str:
    with pytest.raises(KubectlError) as caught:
        await world.kubectl("create", "-v=8", "-f", "-", stdin=body)
    return str(caught.value)


async def test_over_http_the_same_refusal_says_when_to_come_back(world: World) -> None:
    await world.queue(HealthLevel.OVERLOAD, stopped=True)
    port = free_port()
    await world.start(HTTP_PORT=str(port))
    await world.kubectl("create", "serviceaccount", "shop")
    account = f"--serviceaccount={world.namespace}:shop"
    await world.kubectl("create", "rolebinding", "shop", "--role=imports-submitter", account)
    token = await world.kubectl("create", "token", "shop", "--audience=import-gateway")
    headers = {"Authorization": f"Bearer {token.strip()}"}
    spec = import_job("job")["spec"]
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=20) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/v1/imports", json={"spec": spec})
    assert answer.status_code == 503
    # 7,500 too many for a BASIC company, at 60 a minute: an hour is the most that is ever said.
    assert answer.headers["Retry-After"] == "3600"
    assert answer.json()["detail"].startswith("The import queue is full (12,000 imports wait or run)")


async def test_bounds_on_unfinished_jobs_and_on_objects(world: World) -> None:
    await world.queue(HealthLevel.HEALTHY)
    await world.start(INTAKE_CACHE_SECONDS="1000", COMPANY_JOBS_LIMIT="2", NAMESPACE_OBJECTS_LIMIT="3")
    await world.until_asked()
    for number in range(2):
        await world.execute(
            """INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES (%s, 'busy', 'shop')""",
            (f"row-{number}",),
        )
    message = await until_level_is_known(world, "one-more", "busy")
    assert "This company has 2 unfinished imports" in message
    # Counted by the gateway itself between two looks: it has not looked again since the first of these.
    for number in range(3):
        await apply(world, f"job-{number}", f"company-{number}")
    with pytest.raises(KubectlError, match="There are 3 ImportJobs in this namespace"):
        await apply(world, "job-3", "company-3")


async def test_other_namespaces_are_not_asked_about(world: World) -> None:
    await world.queue(HealthLevel.OVERLOAD, stopped=True)
    await world.start()
    await world.until_asked()
    before = await world.reviews()
    other = f"{world.namespace}-other"
    await run_kubectl(world.admin, "create", "namespace", other)
    body = json.dumps(import_job("job")).encode()
    await run_kubectl(world.admin, "--namespace", other, "create", "-f", "-", stdin=body)
    await run_kubectl(world.admin, "delete", "namespace", other, "--wait=false")
    assert await world.reviews() == before
