"""The kubelet's HTTPS server, as kubectl and strangers see it."""

import ssl

import httpx2
import pytest
from kubelet_node import is_ended, is_running

from import_local.kubectl import KubectlError
from import_local.parts.control_plane import KUBELET_CLIENT

WRITES = "for i in 1 2 3 4 5; do echo line $i; done; echo bad >&2"


async def test_kubectl_logs_and_its_options(node):
    await node.run("logs", WRITES, spec={"restartPolicy": "Never"})
    await node.wait_pod("logs", is_ended)
    assert sorted((await node.get_log("logs")).splitlines()) == ["bad", *(f"line {i}" for i in range(1, 6))]
    assert len((await node.kubectl("logs", "logs", "--tail=2")).splitlines()) == 2
    assert await node.kubectl("logs", "logs", "--limit-bytes=6") in {"line 1", "bad\nli"}
    stamped = (await node.kubectl("logs", "logs", "--timestamps", "--tail=1")).split()
    assert stamped[0].endswith("Z")
    assert await node.kubectl("logs", "logs", "--since=1h") == await node.get_log("logs")
    with pytest.raises(KubectlError, match="previous terminated container"):
        await node.kubectl("logs", "logs", "--previous")


async def test_following_a_log_shows_lines_as_they_come(node):
    pod = await node.run(
        "live", "echo up; while [ ! -e go ]; do sleep 0.05; done; echo second; exec sleep 1000"
    )
    await node.wait_pod("live", is_running)
    async with node.follow("live") as log:
        (node.state / "pods" / pod["metadata"]["uid"] / "home" / "go").touch()
        assert await log.readline() == b"second\n"
        await node.delete("live")


async def test_a_large_log_is_complete_and_bounded(own_node):
    node = own_node
    await node.terminate()
    await node.start("--log-bytes", "400000")
    await node.run(
        "much", "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done", spec={"restartPolicy": "Never"}
    )
    await node.wait_pod("much", is_ended)
    numbers = [int(line) for line in (await node.get_log("much")).splitlines()]
    assert numbers == list(range(numbers[0], 20000))
    files = list(node.state.glob("pods/*/containers/main/0/log*"))
    assert sum(file.stat().st_size for file in files) <= 400000


async def test_exec_is_refused_with_an_explanation(node):
    await node.run("p", image="sleeper:1")
    await node.wait_pod("p", is_running)
    with pytest.raises(KubectlError, match="does not support exec"):
        await node.kubectl("exec", "p", "--", "ls")


async def get_health(node, certificate=None):
    info = await node.api.request("GET", f"/api/v1/nodes/{node.name}")
    port = info["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    context = ssl.create_default_context(cafile=str(node.control_plane.authority.certificate))
    if certificate:
        context.load_cert_chain(certificate.certificate, certificate.key)
    async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
        return await client.get(f"https://127.0.0.1:{port}/healthz")


async def test_only_the_api_server_is_served(node):
    authority = node.control_plane.authority
    known = authority.issue(f"{node.name}-known", common_name=KUBELET_CLIENT)
    assert (await get_health(node, known)).text == "ok"
    with pytest.raises(httpx2.TransportError):
        await get_health(node)
    other = authority.issue(f"{node.name}-other", common_name="somebody")
    with pytest.raises(httpx2.TransportError):
        await get_health(node, other)
    with pytest.raises(httpx2.TransportError):
        await get_health(node, node.serving)
