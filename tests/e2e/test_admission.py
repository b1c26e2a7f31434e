"""The whole installation's API server asks its gateway about new imports, and reaches it over TLS that it trusts."""

from __future__ import annotations

import re

import httpx2

from e2e.world import NAMESPACE, World, job


async def allowed(world: World) -> float:
    """Reviews that the gateway has answered with yes."""
    words = ("-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/name=import-gateway")
    outcome = await world.kubectl(*words, "-o", "jsonpath={.items[0].status.podIP}")
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        text = (await client.get(f"http://{outcome.out}:8080/metrics")).text
    found = re.search(r'^imports_admission_reviews_total\{result="allowed"\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_new_imports_are_asked_about(world: World) -> None:
    before = await allowed(world)
    await world.apply(job("asked-about", company="asked", provider_name="asked"))
    assert await allowed(world) == before + 1
    # A change is not.
    await world.apply(job("asked-about", company="asked", provider_name="asked", suspend=True))
    assert await allowed(world) == before + 1
    outcome = await world.kubectl("-n", NAMESPACE, "delete", "importjob", "asked-about")
    assert outcome.code == 0


async def test_gateway_is_where_the_environment_says(world: World) -> None:
    url = world.environment["GATEWAY_URL"]
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/v1/imports")).status_code == 401
