"""An installation for fault tests: who goes through which link, what can be killed alone, what is left."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import psutil
import psycopg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from import_local.control import delete_data
from import_local.errors import LocalError
from import_local.installation import Installation
from import_local.kubectl import KubectlError, run_kubectl
from import_local.part_set import Options
from import_local.state import StateFolder

# The operator is not what is tested here, and takes its time to start.
_OPTIONS = Options(durable=False, operator=False, faults=True, kubelet=("--crash-backoff", "0"))
# Seconds, told from those of any other test that runs at the same time.
_LASTING = str(100_000 + os.getpid())
_KILLED_HOLDER = """
import asyncio, os, signal, sys
from pathlib import Path
from import_local.installation import Installation
from import_local.part_set import Options

async def main():
    options = Options(durable=False, operator=False, faults=True)
    async with Installation(Path(sys.argv[1]), options=options) as installation:
        await installation.faults.redis.fail_over()
        await installation.faults.postgres.fail_over()
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installation(servers_folder: Path) -> AsyncIterator[Installation]:
    async with Installation(servers_folder / "faults", options=_OPTIONS) as running:
        yield running
    await asyncio.to_thread(delete_data, running.state)


async def _secret(installation: Installation, name: str) -> dict[str, str]:
    words = ("get", "secret", name, "-n", "imports", "-o", "json")
    found = json.loads(await run_kubectl(installation.kubeconfig, *words))
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


async def _answer(database_url: str) -> object:
    async with await psycopg.AsyncConnection.connect(database_url, connect_timeout=10) as connection:
        return await (await connection.execute("SELECT 42")).fetchone()


async def test_operator_and_workers_have_links_of_their_own_and_tests_none(
    installation: Installation,
) -> None:
    faults = installation.faults
    operator = await _secret(installation, "import-connections")
    workers = await _secret(installation, "import-worker-connections")
    direct = installation.environment
    addresses = [where["DATABASE_URL"] for where in (operator, workers, direct)]
    assert len(set(addresses)) == 3
    faults.link("workers-postgres").cut()
    with pytest.raises(psycopg.OperationalError):
        await _answer(workers["DATABASE_URL"])
    assert await _answer(operator["DATABASE_URL"]) == (42,)
    faults.link("operator-postgres").cut()
    with pytest.raises(psycopg.OperationalError):
        await _answer(operator["DATABASE_URL"])
    assert await _answer(direct["DATABASE_URL"]) == (42,)
    faults.heal_links()
    assert [await _answer(address) for address in addresses] == [(42,)] * 3


async def test_workers_reach_store_and_sample_shops_by_links(installation: Installation) -> None:
    faults = installation.faults
    workers = await _secret(installation, "import-worker-connections")
    allowed = workers["PROVIDER_ALLOW"].split(",")
    assert f"127.0.0.1:{faults.link('workers-provider').port}" in allowed
    assert workers["IMAGE_ALLOW"] == workers["PROVIDER_ALLOW"]
    catalogue = f"{faults.roastify_url}/tiny-1-1/v1/products"
    async with httpx2.AsyncClient(
        trust_env=False, timeout=10, headers={"x-api-key": "rty_test_example"}
    ) as client:
        page = (await client.get(catalogue)).json()
        assert faults.roastify_url.removesuffix("/roastify") in json.dumps(page), "images go by the link too"
        faults.link("workers-provider").cut()
        with pytest.raises(httpx2.TransportError):
            await client.get(catalogue)
        assert (await client.get(workers["S3_ENDPOINT_URL"])).status_code == 403
        faults.link("workers-s3").cut()
        with pytest.raises(httpx2.TransportError):
            await client.get(workers["S3_ENDPOINT_URL"])
    faults.heal_links()


async def test_databases_fail_over_and_the_tests_addresses_follow(installation: Installation) -> None:
    faults = installation.faults
    workers = await _secret(installation, "import-worker-connections")
    before = (installation.database_url, installation.redis_url)
    await asyncio.gather(faults.postgres.fail_over(), faults.redis.fail_over())
    assert not {*before} & {installation.database_url, installation.redis_url}
    assert await _answer(workers["DATABASE_URL"]) == (42,)
    async with Redis.from_url(workers["REDIS_URL"]) as through, Redis.from_url(installation.redis_url) as own:
        await through.set("written", "by a worker")
        assert await own.get("written") == b"by a worker"
    run = installation.state.read_run()
    assert run is not None
    assert {record.pid for record in run.children} == {child.pid for child in installation.children}
    assert all(record.process() is not None for record in run.children)


async def test_the_api_server_goes_and_comes_alone(installation: Installation) -> None:
    faults, kubeconfig = installation.faults, installation.kubeconfig
    await run_kubectl(kubeconfig, "create", "configmap", "kept", "-n", "imports")
    before = {child.name: child.pid for child in installation.children}
    await faults.api_server.stop()
    await faults.api_server.stop()
    with pytest.raises(KubectlError):
        await run_kubectl(kubeconfig, "get", "configmaps", "-n", "imports", timeout=20)
    await faults.api_server.start()
    after = {child.name: child.pid for child in installation.children}
    assert {name for name, pid in before.items() if after[name] != pid} == {"kube-apiserver"}
    assert list(after) == list(before), "clients are still stopped before servers"
    assert await run_kubectl(kubeconfig, "get", "configmap", "kept", "-n", "imports", "-o", "name")


async def test_pods_outlive_the_node_agent(installation: Installation) -> None:
    faults, kubeconfig = installation.faults, installation.kubeconfig
    container = {"name": "main", "image": "import-worker:1", "command": ["sleep", _LASTING]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "lasting", "namespace": "imports"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    await run_kubectl(kubeconfig, "create", "-f", "-", stdin=json.dumps(pod).encode())
    ready = ("wait", "pod/lasting", "-n", "imports", "--for=condition=Ready", "--timeout=60s")
    await run_kubectl(kubeconfig, *ready)
    before = next(child.pid for child in installation.children if child.name == "kubelet")
    pods = [process for process in psutil.process_iter(["cmdline"]) if _is_lasting(process)]
    assert len(pods) == 1
    await faults.node.kill()
    assert not psutil.pid_exists(before)
    assert pods[0].is_running()
    await faults.end_all()
    assert next(child.pid for child in installation.children if child.name == "kubelet") != before
    await run_kubectl(kubeconfig, *ready)
    assert pods[0].is_running()
    await run_kubectl(kubeconfig, "delete", "pod", "lasting", "-n", "imports", "--timeout=30s")
    await asyncio.to_thread(psutil.wait_procs, pods, 10)
    assert not pods[0].is_running(), "the new agent cares for the pod"


def _is_lasting(process: psutil.Process) -> bool:
    return process.info["cmdline"] == ["sleep", _LASTING]


async def test_other_installations_have_no_faults(tmp_path: Path) -> None:
    plain = Options(durable=False, operator=False, context="nonesuch")
    stopped = Installation(tmp_path / "plain", options=plain)
    with contextlib.suppress(LocalError):
        await stopped.start()
    with pytest.raises(LocalError, match=r"not started with Options\(faults=True\)"):
        _ = stopped.faults


def test_nothing_is_left_of_a_session_that_was_killed(servers_folder: Path) -> None:
    state = StateFolder(servers_folder / "killed")
    holder = subprocess.run(
        [sys.executable, "-c", _KILLED_HOLDER, str(state.path)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert holder.returncode == -signal.SIGKILL, holder.stderr
    choices = state.read_choices()
    assert choices is not None
    marks = (str(state.path), choices.installation)
    _, alive = psutil.wait_procs(_processes_of(*marks), timeout=60)
    assert alive == []
    assert _processes_of(*marks) == []
    assert "was killed; everything that it ran was stopped" in (state.read_failure() or "")
    delete_data(state)


def _processes_of(*marks: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        facts = [*(process.info["cmdline"] or ()), *(process.info["environ"] or {}).values()]
        if process.pid != os.getpid() and any(mark in fact for mark in marks for fact in facts):
            found.append(process)
    return found
