"""A webhook that is away, or that can't know, keeps no job from being created."""

import httpx2
import pytest
from admission_world import World, import_job, review
from eventually import eventually

from import_core.domain.backpressure import HealthLevel
from import_local.kubectl import KubectlError


async def create(world: World, name: str, company: str = "acme") -> None:
    await world.kubectl("create", "-f", "-", stdin=import_job(name, company))


async def test_dead_webhook_lets_jobs_through_and_refuses_again_when_it_is_back(world: World) -> None:
    await world.queue(HealthLevel.OVERLOAD, stopped=True)
    await create(world, "before-the-first-start")
    gateway = await world.start()
    await world.until_asked()
    with pytest.raises(KubectlError, match="ServiceUnavailable"):
        await create(world, "while-it-runs")
    gateway.kill()
    await gateway.process.wait()
    await create(world, "while-it-is-dead")
    await world.start()
    await world.until_asked()
    with pytest.raises(KubectlError, match="ServiceUnavailable"):
        await create(world, "after-it-is-back")


async def test_unknown_intake_lets_jobs_through(world: World) -> None:
    gateway = await world.start(DATABASE_URL="postgresql://nobody:x@127.0.0.1:9/none")
    await world.until_asked()
    before = await world.reviews()
    await create(world, "while-postgresql-is-away")
    reviews = await gateway.metric("imports_admission_reviews_total")
    assert {labels for labels, number in reviews.items() if number} == {'result="allowed"'}
    assert reviews['result="allowed"'] == before + 1

    async def unanswered() -> bool:
        # The answer did not wait for them to fail.
        failed = await gateway.metric("imports_admission_questions_failed_total")
        return {labels for labels, number in failed.items() if number} == {'about="queue"', 'about="company"'}

    await eventually(
        unanswered, what="questions to PostgreSQL counted as failed, and those to the API server not"
    )


async def test_last_answer_holds_while_the_store_is_away(world: World) -> None:
    await world.queue(HealthLevel.OVERLOAD, stopped=True)
    await world.start()
    await world.until_asked()
    with pytest.raises(KubectlError, match="ServiceUnavailable"):
        await create(world, "known")
    await world.execute("ALTER TABLE imports.queue_state RENAME TO away")
    for name in ("first", "second", "third"):
        with pytest.raises(KubectlError, match="ServiceUnavailable"):
            await create(world, name)
    await world.execute("ALTER TABLE imports.away RENAME TO queue_state")


async def test_store_is_asked_once_per_period_and_company(world: World) -> None:
    await world.queue(HealthLevel.HEALTHY)
    gateway = await world.start(INTAKE_CACHE_SECONDS="1000")
    url = f"https://127.0.0.1:{world.port}"
    async with httpx2.AsyncClient(base_url=url, verify=await world.ask(), trust_env=False) as client:
        for number in range(60):
            body = review(f"company-{number % 3}", namespace=world.namespace)
            answer = (await client.post("/admission/importjobs", json=body)).json()
            assert answer["response"] == {"uid": body["request"]["uid"], "allowed": True}
    assert await gateway.metric("imports_admission_questions_total") == {
        'about="queue"': 1.0,
        'about="company"': 3.0,
        'about="namespace"': 1.0,
    }


async def test_what_is_no_review_is_refused_with_the_field(world: World) -> None:
    await world.start()
    url = f"https://127.0.0.1:{world.port}"
    async with httpx2.AsyncClient(base_url=url, verify=await world.ask(), trust_env=False) as client:
        path = "/admission/importjobs"
        answer = await client.post(path, json={**review(), "apiVersion": "admission.k8s.io/v1beta1"})
        assert (answer.status_code, answer.text.split(":")[0]) == (400, "apiVersion")
        assert (await client.post(path, content=b"{")).status_code == 400
        assert (await client.post(path, content=b"x" * (2**20 + 1))).status_code == 413
        assert (await client.get(path)).status_code == 405
        assert (await client.get("/v1/imports")).status_code == 404
        too_many = review("acme", namespace=world.namespace, uid="x" * 200)
        assert (await client.post(path, json=too_many)).status_code == 400


async def test_missing_secret_keeps_the_api_up(world: World) -> None:
    await world.kubectl("delete", "secret", "import-gateway-certificate")
    gateway = await world.start()
    assert "There is no Secret" in gateway.log.read_text()
    await create(world, "without-a-webhook")
    await world.kubectl("create", "secret", "generic", "import-gateway-certificate")
    await eventually(world.bundle, what="a certificate once the Secret is there")
