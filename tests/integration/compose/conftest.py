"""What the tests of the Compose files share."""

from collections.abc import AsyncIterator

import pytest_asyncio

from import_local.samples.app import RunningSamples, serve_samples


@pytest_asyncio.fixture(loop_scope="session")
async def samples() -> AsyncIterator[RunningSamples]:
    async with serve_samples() as running:
        yield running
