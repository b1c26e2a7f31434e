"""Reads that are asked for together share a request, and never get an answer older than their question."""

import asyncio

import pytest

from import_local.kubelet.errors import ApiError
from import_local.kubelet.references import ReferenceReader

WANTED = {("Secret", "s")}


class SlowApi:
    """Answers a request with its number, once it is allowed to."""

    def __init__(self):
        self.requests = 0
        self.allowed = asyncio.Semaphore(0)
        self.status = 200

    async def request(self, method, path):
        self.requests += 1
        number = self.requests
        await self.allowed.acquire()
        if self.status != 200:
            raise ApiError(self.status, "", "")
        return {"number": number, "path": path}


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_later_readers_share_a_later_request():
    api = SlowApi()
    reader = ReferenceReader(api)
    first = asyncio.create_task(reader.read("n", WANTED))
    await settle()
    later = [asyncio.create_task(reader.read("n", WANTED)) for _ in range(5)]
    await settle()
    assert api.requests == 1
    api.allowed.release()
    await settle()
    assert api.requests == 2
    api.allowed.release()
    assert (await first)["Secret", "s"]["number"] == 1
    assert [found["Secret", "s"]["number"] for found in await asyncio.gather(*later)] == [2] * 5
    api.allowed.release()
    assert (await reader.read("n", WANTED))["Secret", "s"]["number"] == 3


async def test_a_cancelled_reader_does_not_harm_the_others():
    api = SlowApi()
    reader = ReferenceReader(api)
    first = asyncio.create_task(reader.read("n", WANTED))
    second = asyncio.create_task(reader.read("n", WANTED))
    await settle()
    first.cancel()
    api.allowed.release()
    assert (await second)["Secret", "s"]["number"] == 1


async def test_errors_reach_every_reader_and_absence_is_no_error():
    api = SlowApi()
    reader = ReferenceReader(api)
    api.status = 500
    readers = [asyncio.create_task(reader.read("n", WANTED)) for _ in range(2)]
    api.allowed.release()
    for task in readers:
        with pytest.raises(ApiError):
            await task
    api.status = 404
    api.allowed.release()
    assert await reader.read("n", WANTED) == {("Secret", "s"): None}
