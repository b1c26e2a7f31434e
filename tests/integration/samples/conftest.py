"""One running sample server for the session, a client, and a way to ask Shopify's GraphQL."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from import_local.samples.app import RunningSamples, serve_samples
from import_local.samples.settings import ROASTIFY_KEY, SHOPIFY_TOKEN, SampleSettings


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def samples() -> AsyncIterator[RunningSamples]:
    async with serve_samples(SampleSettings()) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def http(samples: RunningSamples) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=samples.base_url, timeout=30, trust_env=False) as client:
        yield client


@dataclass(frozen=True)
class ShopClient:
    """Asks one shop of the running server."""

    http: httpx2.AsyncClient
    name: str
    token: str = SHOPIFY_TOKEN

    async def post(self, text: str, /, api_version: str = "2026-10", **variables: Any) -> httpx2.Response:
        return await self.http.post(
            f"/shopify/{self.name}/admin/api/{api_version}/graphql.json",
            headers={"X-Shopify-Access-Token": self.token},
            json={"query": text, "variables": variables},
        )

    async def ask(self, text: str, /, **variables: Any) -> Any:
        response = await self.post(text, **variables)
        assert response.status_code == 200, response.text
        body = response.json()
        assert "errors" not in body, body
        return body["data"]

    async def rest(self, path: str, **query: Any) -> httpx2.Response:
        return await self.http.get(
            path if path.startswith("http") else f"/shopify/{self.name}/admin/api/2026-10/{path}",
            params=query or None,
            headers={"X-Shopify-Access-Token": self.token},
        )


@pytest.fixture
def shop(http: httpx2.AsyncClient) -> Callable[..., ShopClient]:
    return lambda name, token=SHOPIFY_TOKEN: ShopClient(http, name, token)


@pytest.fixture
def roastify(http: httpx2.AsyncClient) -> Callable[..., Any]:
    async def get(account: str, path: str, key: str = ROASTIFY_KEY, **query: Any) -> httpx2.Response:
        headers = {"x-api-key": key} if key else {}
        return await http.get(f"/roastify/{account}/v1{path}", headers=headers, params=query or None)

    return get
