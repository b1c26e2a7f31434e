"""Every command of every runbook does what it says, on a whole installation with the jobs that the pages name.

Not run: blocks marked `sh aws` (they need an account) and `sh cluster` (they take away what the other tests use,
or need a monitoring stack).

Its name makes it the last of these tests: after a FLUSHALL every connection waits a minute before its next call.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import sys
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from runbooks import PAGES, Block, blocks

from e2e.world import World, job, provider, secret
from import_core.adapters.kube.resources import WORKER_POOL
from import_local.binaries import find_kubectl
from import_local.demo.manifests import POOL, get_worker_pool
from import_local.samples.settings import SHOPIFY_TOKEN

TESTS = Path(__file__).parents[1]
_CHANGES = re.compile(
    r"imports (?:drain|pause|resume|retry|stop|open|reset|cancel)|(?:^|\s)(?:patch|scale|delete|create|annotate)\s"
    r"|flushall|config set|rollout restart"
)
_DRY = re.compile(r"^.*--dry-run.*$", re.MULTILINE)
_SEVERAL_LINES = re.compile(r"\\$|<<|^ ", re.MULTILINE)
"""Commands that go on in the next line."""
_done: set[str] = set()
"""What only looks, or starts a process anew: once is enough, whatever page it is on."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def programs(servers_folder: Path) -> AsyncIterator[str]:
    """A PATH with kubectl, `kubectl imports` (forked_imports.py), and redis-cli where this machine may have none."""
    folder = servers_folder / "runbook-programs"
    folder.mkdir()
    fork, socket = TESTS / "e2e" / "forked_imports.py", folder / "imports.socket"
    for name, words in (
        ("redis-cli", f"{sys.executable} {TESTS / 'redis_cli.py'}"),
        ("kubectl-imports", f"{sys.executable} -SEI {fork} run {socket}"),
    ):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, str(fork), "serve", str(socket)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert await server.stdout.readline() == b"ready\n"
        own = [str(folder), sysconfig.get_path("scripts"), str(find_kubectl().parent)]
        yield os.pathsep.join([*own, os.environ["PATH"]])
    finally:
        server.terminate()
        await server.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def acme(world: World) -> AsyncIterator[World]:
    """The company, connection, job and schedule that the pages name; afterwards all is as the other tests want it."""
    shop = f"{world.installation.shopify_url}/tiny-3-1-runbooks"
    await world.apply(
        secret("acme-shopify", accessToken=SHOPIFY_TOKEN),
        provider("acme-shopify", company="acme", kind="shopify", url=shop),
    )
    schedule = {
        "apiVersion": "imports.avnz.io/v1alpha1",
        "kind": "ImportSchedule",
        "metadata": {"name": "acme-nightly", "namespace": "imports"},
        "spec": {
            "schedule": "0 3 1 1 *",
            "jobTemplate": {"spec": {"companyId": "acme", "providerRef": {"name": "acme-shopify"}}},
        },
    }
    await world.apply(job("acme-autumn", company="acme", provider_name="acme-shopify"), schedule)
    assert (await world.finished("acme-autumn"))["phase"] == "Succeeded"
    yield world
    await world.kubectl("-n", "imports", "scale", "deployment/import-operator", "--replicas=1")
    await world.kubectl("-n", "imports", "delete", "importschedule", "acme-nightly")
    await world.until(
        WORKER_POOL, POOL, lambda pool: (pool.get("status") or {}).get("readyReplicas", 0) >= 2, seconds=120
    )


async def _put_back(world: World) -> None:
    """End what a page has left: pauses and breakers at once, the pool as the other tests want it."""
    if await world.sql("SELECT 1 FROM imports.queue_state WHERE paused"):
        await world.imports("resume")
    await world.sql("DELETE FROM imports.pause")
    await world.apply(get_worker_pool(minimum=2, maximum=4, image="import-worker:dev", cooldown_seconds=5))


async def _run(world: World, block: Block, programs: str) -> str:
    if block.language == "sql":
        return str(await _sql(world, block.text))
    outcome = await world.run("bash", "-euc", block.text, environment={"PATH": programs})
    assert outcome.code == 0, f"{block.text}{outcome.err}\n{outcome.out}"
    return outcome.out


async def _sql(world: World, statements: str) -> list[tuple[object, ...]]:
    url = world.installation.database_url
    async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
        cursor = await connection.execute(statements.encode())
        return await cursor.fetchall()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
async def test_the_commands_of_a_runbook_work(acme: World, programs: str, page: Path) -> None:
    try:
        for block in blocks(page):
            if block.language not in {"sh", "sql"}:
                continue
            left = _left_to_do(block)
            if "imports retry-items" in left:
                await _fail_an_item(acme)
            if left:
                async with asyncio.timeout(200):
                    await _run(acme, Block(block.language, left), programs)
    finally:
        await _put_back(acme)


def _left_to_do(block: Block) -> str:
    """The block without the lines that only look and were run before; empty if nothing is left."""
    changes = _CHANGES.search(_DRY.sub("", block.text))
    if changes or block.language == "sql" or _SEVERAL_LINES.search(block.text):
        done = block.text in _done and (not changes or "rollout restart" in block.text)
        _done.add(block.text)
        return "" if done else block.text
    fresh = [line for line in block.text.splitlines(keepends=True) if line not in _done]
    _done.update(fresh)
    return "".join(fresh)


async def _fail_an_item(world: World) -> None:
    assert (await world.finished("acme-autumn"))["phase"] == "Succeeded"
    await world.sql(
        """INSERT INTO imports.item_error (job_id, external_id, stage, url, reason, message)
        SELECT id, 'gid://shopify/Product/1', 'download', '', 'Timeout', 'planted' FROM "ProductImportJob"
        WHERE "objectName" = 'acme-autumn' ON CONFLICT DO NOTHING"""
    )
