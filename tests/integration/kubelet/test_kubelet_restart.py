"""The kubelet comes and goes; pods are neither lost nor doubled."""

import asyncio
import os
import signal
import sys

import pytest
from kubelet_node import get_state, has_restarted, is_ended, is_ready, is_running

from import_local.kubelet.cleanup import clean_up
from import_local.kubelet.errors import KubeletError

IGNORES_TERM = "trap '' TERM; echo up; while :; do sleep 0.1; done"


@pytest.mark.parametrize("how", ["kill", "terminate"])
async def test_pods_survive_their_kubelet(own_node, how):
    node = own_node
    for index in range(3):
        await node.run(f"p{index}", "echo $$$$; exec sleep 1000")
        await node.wait_pod(f"p{index}", is_running)
        await node.read_log(f"p{index}", 1)
    before = node.list_mains()
    logs = [await node.get_log(f"p{index}") for index in range(3)]
    await getattr(node, how)()
    assert node.list_mains() == before
    await node.start()
    for index in range(3):
        pod = await node.wait_pod(f"p{index}", is_ready)
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert node.list_mains() == before
    assert [await node.get_log(f"p{index}") for index in range(3)] == logs
    for index in range(3):
        await node.delete(f"p{index}")
        await node.wait_gone(f"p{index}")
    assert node.list_processes() == []


async def test_an_exit_without_a_kubelet_is_not_lost(own_node):
    node = own_node
    script = "while [ ! -e go ]; do sleep 0.05; done; exit 9"
    pod = await node.run("alone", script, spec={"restartPolicy": "Never"})
    await node.wait_pod("alone", is_running)
    await node.kill()
    folder = node.state / "pods" / pod["metadata"]["uid"]
    (folder / "home" / "go").touch()
    exit_file = folder / "containers" / "main" / "0" / "exit"
    async with asyncio.timeout(30):
        while not exit_file.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await node.start()
    pod = await node.wait_pod("alone", is_ended)
    assert get_state(pod)["terminated"]["exitCode"] == 9


async def test_a_container_that_ended_meanwhile_is_restarted_once(own_node):
    node = own_node
    await node.run("again", "sleep 1000 & wait")
    await node.wait_pod("again", is_running)
    (main,) = node.list_mains()
    await node.kill()
    os.kill(main, signal.SIGKILL)
    await node.start()
    pod = await node.wait_pod("again", has_restarted(1))
    status = pod["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert len(node.list_mains()) == 1


async def test_pods_deleted_meanwhile_are_ended(own_node):
    node = own_node
    await node.run("asked", image="sleeper:1")
    await node.run("forced", IGNORES_TERM)
    for name in ("asked", "forced"):
        await node.wait_pod(name, is_running)
    await node.kill()
    await node.delete("asked")
    await node.delete("forced", grace=0)
    await node.wait_gone("forced")
    assert len(node.list_mains()) == 2
    await node.start()
    await node.wait_gone("asked")
    await node.wait_for_no_process()


async def test_pods_bound_meanwhile_are_started(own_node):
    node = own_node
    await node.kill()
    await node.run("later", image="sleeper:1")
    await node.start()
    await node.wait_pod("later", is_running)


async def test_a_kubelet_killed_while_pods_start_doubles_none(own_node):
    node = own_node
    count = 12
    for index in range(count):
        await node.run(f"p{index}", "echo one >> starts; exec sleep 1000")
    for pause in (0.05, 0.4, 0.8, 1.2):
        await asyncio.sleep(pause)
        await node.kill()
        await node.start()
    for index in range(count):
        pod = await node.wait_pod(f"p{index}", is_ready)
        starts = node.state / "pods" / pod["metadata"]["uid"] / "home" / "starts"
        async with asyncio.timeout(30):
            while not (starts.exists() and starts.read_text()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert starts.read_text() == "one\n"
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert len(node.list_mains()) == count


async def test_the_token_is_renewed_by_the_next_kubelet(own_node):
    node = own_node
    pod = await node.run("token", image="sleeper:1")
    await node.wait_pod("token", is_running)
    (token,) = (node.state / "pods" / pod["metadata"]["uid"]).rglob("token")
    before = token.read_text()
    await node.kill()
    await node.start()
    async with asyncio.timeout(30):
        while token.read_text() == before:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_killed_shim_takes_its_container_along(own_node):
    node = own_node
    await node.run("shimless", IGNORES_TERM)
    await node.wait_pod("shimless", is_running)
    (file,) = node.state.glob("pods/*/containers/main/0/shim")
    (main,) = node.list_mains()
    os.kill(int(file.read_text().split()[0]), signal.SIGKILL)
    pod = await node.wait_pod("shimless", has_restarted(1))
    last = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "Error")
    assert main not in node.list_mains()
    assert len(node.list_mains()) == 1


async def test_a_killed_kubelets_probes_do_not_stay(own_node):
    node = own_node
    hanging = {"exec": {"command": ["sleep", "1001"]}, "timeoutSeconds": 1000}
    await node.run("probed", image="sleeper:1", readinessProbe=hanging)
    await node.wait_pod("probed", is_running)
    async with asyncio.timeout(30):
        while len(node.list_processes()) < 3:  # noqa: ASYNC110 - shim, container and probe
            await asyncio.sleep(0.02)
    before = set(node.list_processes())
    mains = node.list_mains()
    await node.kill()
    await node.start()
    await node.wait_pod("probed", is_running)
    left = before & set(node.list_processes())
    assert len(left) == 2
    assert node.list_mains() == mains


async def test_stop_pods_ends_the_processes_and_keeps_the_pods(own_node):
    node = own_node
    await node.terminate()
    await node.start("--stop-pods", "--crash-backoff", "0")
    await node.run("kept", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")
    await node.wait_pod("kept", is_running)
    assert await node.kubectl("logs", "kept", "--follow", "--limit-bytes=3") == "up\n"
    assert await node.terminate() == 0
    assert node.list_processes() == []
    await node.start("--crash-backoff", "0")
    pod = await node.wait_pod("kept", has_restarted(1))
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 0


async def test_cleanup_ends_what_a_dead_kubelet_left(own_node):
    node = own_node
    await node.run("polite", image="sleeper:1")
    await node.run("deaf", IGNORES_TERM)
    for name in ("polite", "deaf"):
        await node.wait_pod(name, is_running)
    with pytest.raises(KubeletError, match="another kubelet is using"):
        await clean_up(node.state, 1.0)
    await node.kill()
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "import_local.kubelet",
            "cleanup",
            "--state",
            str(node.state),
            "--grace",
            "1",
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert output == b"2 container processes ended\n"
    assert node.list_processes() == []


async def test_cleanup_spares_a_stranger_with_a_recorded_number(own_node):
    node = own_node
    pod = await node.run("gone", image="sleeper:1")
    await node.wait_pod("gone", is_running)
    await node.kill()
    stranger = await asyncio.create_subprocess_exec("sleep", "1000")
    folder = node.state / "pods" / pod["metadata"]["uid"] / "containers" / "main" / "0"
    recorded = (folder / "child").read_text()
    (folder / "child").write_text(f"{stranger.pid} 1")
    await clean_up(node.state, 2.0)
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()
    assert int(recorded.split()[0]) not in node.list_processes()


async def test_two_kubelets_do_not_share_a_state_folder(own_node):
    node = own_node
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "import_local.kubelet", "--kubeconfig", str(node.admin)),
        *("--state", str(node.state), "--node-name", "other"),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        _, problem = await process.communicate()
    assert process.returncode == 1
    assert b"another kubelet is using the state folder" in problem


async def test_a_lost_state_folder_starts_the_pods_anew(own_node):
    node = own_node
    await node.run("p", image="sleeper:1")
    await node.wait_pod("p", is_ready)
    await node.kill()
    await clean_up(node.state, 1.0)
    node.state.rename(node.folder / "lost")
    await node.start()
    async with asyncio.timeout(30):
        while not node.list_mains():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await node.wait_pod("p", is_ready)
    assert len(node.list_mains()) == 1


async def test_a_deleted_node_is_registered_again(own_node):
    node = own_node
    await node.api.request("DELETE", f"/api/v1/nodes/{node.name}")
    await node.kill()
    await node.start()
    lease = await node.api.request(
        "GET", f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node.name}"
    )
    assert lease["spec"]["holderIdentity"] == node.name
