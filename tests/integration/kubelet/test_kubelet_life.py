"""How pods start, end, fail, restart and go."""

import os

import pytest
from kubelet_node import get_state, has_restarted, is_ended, is_running, is_waiting

from import_local.kubelet.api import MERGE_PATCH

IGNORES_TERM = "trap '' TERM; echo up; while :; do sleep 0.1; done"
COUNTS = 'n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n > n; echo "start $n"; '


@pytest.mark.parametrize(
    ("script", "code", "reason", "phase"),
    [
        ("exit 0", 0, "Completed", "Succeeded"),
        ("exit 3", 3, "Error", "Failed"),
        ("kill -KILL $$$$", 137, "Error", "Failed"),
        ("kill -TERM $$$$", 143, "Error", "Failed"),
    ],
)
async def test_exit_codes_and_reasons(node, script, code, reason, phase):
    await node.run("ends", script, spec={"restartPolicy": "Never"})
    pod = await node.wait_pod("ends", is_ended)
    ended = get_state(pod)["terminated"]
    assert (ended["exitCode"], ended["reason"], pod["status"]["phase"]) == (code, reason, phase)
    assert ended["startedAt"] <= ended["finishedAt"]
    assert ended["containerID"].startswith("process://")


async def test_a_command_that_does_not_exist(node):
    await node.run("missing", command=["/no/such/program"], spec={"restartPolicy": "Never"})
    pod = await node.wait_pod("missing", is_ended)
    ended = get_state(pod)["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert ended["message"] == "/no/such/program: No such file or directory"


async def test_the_end_of_a_log_can_explain_an_error(node):
    await node.run(
        "explains",
        "echo because; exit 1",
        spec={"restartPolicy": "Never"},
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    pod = await node.wait_pod("explains", is_ended)
    assert get_state(pod)["terminated"]["message"] == "because\n"


async def test_a_crashing_container_is_restarted_with_its_last_state(node):
    await node.run("crashes", COUNTS + "[ $n -ge 3 ] && exec sleep 1000; exit 7")
    pod = await node.wait_pod("crashes", has_restarted(2))
    status = pod["status"]["containerStatuses"][0]
    assert status["restartCount"] == 2
    assert status["lastState"]["terminated"]["exitCode"] == 7
    assert status["containerID"] != status["lastState"]["terminated"]["containerID"]
    assert await node.read_log("crashes", 8) == "start 3\n"
    assert await node.kubectl("logs", "crashes", "--previous") == "start 2\n"


async def test_on_failure_restarts_until_success(node):
    await node.run("retries", COUNTS + "[ $n -ge 2 ]", spec={"restartPolicy": "OnFailure"})
    pod = await node.wait_pod("retries", is_ended)
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1


async def test_crash_back_off_is_shown(own_node):
    node = own_node
    await node.terminate()
    await node.start("--crash-backoff", "300")
    await node.run("loops", "exit 1")
    waiting = is_waiting("CrashLoopBackOff")
    # The first restart comes at once; its wait of no time may be seen as well.
    pod = await node.wait_pod(
        "loops", lambda pod: waiting(pod) and pod["status"]["containerStatuses"][0]["restartCount"] == 1
    )
    status = pod["status"]["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert status["state"]["waiting"]["message"] == "back-off 300s restarting failed container=main"
    assert pod["status"]["phase"] == "Running"
    await node.delete("loops")
    await node.wait_gone("loops")


async def test_deletion_asks_the_process_to_end(node):
    script = "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    await node.run("polite", script)
    await node.wait_pod("polite", is_running)
    async with node.follow("polite") as log:
        pods_end = await node.end("polite")
        await node.wait_gone("polite")
        assert await log.read() == b"asked\n"
    assert get_state(pods_end)["terminated"]["exitCode"] == 0
    assert pods_end["status"]["phase"] == "Succeeded"
    assert node.list_processes() == []


async def test_a_process_that_does_not_listen_is_killed_after_the_grace_period(node):
    await node.run("deaf", IGNORES_TERM, spec={"terminationGracePeriodSeconds": 1})
    await node.wait_pod("deaf", is_running)
    await node.read_log("deaf", 3)
    pod = await node.end("deaf")
    assert get_state(pod)["terminated"]["exitCode"] == 137
    await node.wait_gone("deaf")
    assert node.list_processes() == []


async def test_a_second_deletion_shortens_the_grace_period(node):
    await node.run("deaf", IGNORES_TERM, spec={"terminationGracePeriodSeconds": 3600})
    await node.wait_pod("deaf", is_running)
    await node.read_log("deaf", 3)
    await node.delete("deaf")
    await node.wait_pod("deaf", lambda pod: "deletionTimestamp" in pod["metadata"])
    await node.delete("deaf", grace=1)
    await node.wait_gone("deaf")


async def test_a_forced_deletion_leaves_no_process(node):
    await node.run("forced", IGNORES_TERM, spec={"terminationGracePeriodSeconds": 3600})
    await node.wait_pod("forced", is_running)
    main = node.list_mains()
    assert len(main) == 1
    await node.delete("forced", grace=0)
    await node.wait_gone("forced")
    await node.wait_for_no_process()


async def test_what_a_container_leaves_behind_ends_with_it(node):
    script = (
        "setsid sh -c 'trap \"\" TERM HUP; sleep 999' & setsid -f sleep 998; sleep 0.2; echo started; exit 0"
    )
    await node.run("leaves", script, spec={"restartPolicy": "Never"})
    await node.wait_pod("leaves", is_ended)
    assert await node.get_log("leaves") == "started\n"
    assert node.list_processes() == []


async def test_the_pre_stop_hook_runs_first(node):
    script = "trap 'cat hook; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", 'echo "hook of $HOSTNAME" > hook']}}}
    await node.run("hooked", script, lifecycle=hook)
    await node.wait_pod("hooked", is_running)
    async with node.follow("hooked") as log:
        await node.delete("hooked")
        await node.wait_gone("hooked")
        assert await log.read() == b"hook of hooked\n"


async def test_a_hook_that_hangs_does_not_outlive_the_grace_period(node):
    hook = {"preStop": {"exec": {"command": ["sleep", "1000"]}}}
    await node.run("hangs", image="sleeper:1", lifecycle=hook, spec={"terminationGracePeriodSeconds": 1})
    await node.wait_pod("hangs", is_running)
    await node.delete("hangs")
    await node.wait_gone("hangs")
    assert node.list_processes() == []


async def test_a_container_above_its_memory_limit_is_killed(node):
    script = "import time\nprint('up', flush=True)\nx = bytearray(200_000_000)\ntime.sleep(1000)\n"
    await node.run(
        "greedy",
        image="python:3",
        args=["-c", script],
        resources={"limits": {"memory": "100Mi"}},
        spec={"restartPolicy": "Never"},
    )
    pod = await node.wait_pod("greedy", is_ended)
    ended = get_state(pod)["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
    assert f"limit {100 * 1024**2}" in ended["message"]


async def test_init_containers_run_first_and_in_order(node):
    def init(name, script):
        return {"name": name, "image": "none", "command": ["sh", "-c", script]}

    spec = {
        "restartPolicy": "Never",
        "initContainers": [init("one", "sleep 0.3; echo one >> order"), init("two", "echo two >> order")],
    }
    await node.run("ordered", "echo main >> order; cat order", spec=spec)
    pod = await node.wait_pod("ordered", is_ended)
    assert await node.get_log("ordered") == "one\ntwo\nmain\n"
    reasons = [item["state"]["terminated"]["reason"] for item in pod["status"]["initContainerStatuses"]]
    assert reasons == ["Completed", "Completed"]


async def test_a_failed_init_container_keeps_the_pod_from_starting(node):
    spec = {
        "restartPolicy": "Never",
        "initContainers": [{"name": "one", "image": "none", "command": ["sh", "-c", "exit 4"]}],
    }
    await node.run("blocked", "echo never", spec=spec)
    pod = await node.wait_pod("blocked", is_ended)
    assert pod["status"]["phase"] == "Failed"
    assert get_state(pod, "initContainerStatuses")["terminated"]["exitCode"] == 4
    assert "waiting" in get_state(pod)


async def test_an_evicted_pod_is_stopped_and_keeps_its_reason(node):
    await node.run("evicted", image="sleeper:1")
    await node.wait_pod("evicted", is_running)
    path = f"/api/v1/namespaces/{node.namespace}/pods/evicted/status"
    status = {"phase": "Failed", "reason": "Evicted", "message": "for a test"}
    await node.api.request("PATCH", path, body={"status": status}, content_type=MERGE_PATCH)
    pod = await node.wait_pod("evicted", lambda pod: "terminated" in get_state(pod))
    assert {key: pod["status"].get(key) for key in status} == status
    assert node.list_processes() == []


async def test_an_eviction_through_the_api_deletes_the_pod(node):
    await node.run("evicted", image="sleeper:1")
    await node.wait_pod("evicted", is_running)
    path = f"/api/v1/namespaces/{node.namespace}/pods/evicted/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "evicted"}}
    await node.api.request("POST", path, body=body)
    await node.wait_gone("evicted")
    assert node.list_processes() == []


async def test_a_finished_pod_with_a_finalizer_is_not_run_again(own_node):
    node = own_node
    pod = node.make_pod("kept", COUNTS, spec={"restartPolicy": "Never"})
    pod["metadata"]["finalizers"] = ["imports.avnz.io/test"]
    await node.create(pod)
    await node.wait_pod("kept", is_ended)
    await node.delete("kept")
    await node.wait_pod("kept", lambda pod: "deletionTimestamp" in pod["metadata"])
    path = f"/api/v1/namespaces/{node.namespace}/pods/kept"
    await node.api.request("PATCH", path, body={"metadata": {"labels": {"x": "y"}}}, content_type=MERGE_PATCH)
    await node.kill()
    await node.start()
    pod = await node.wait_pod("kept", is_ended)
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    await node.api.request("PATCH", path, body={"metadata": {"finalizers": None}}, content_type=MERGE_PATCH)
    await node.wait_gone("kept")
    assert node.list_processes() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"containers": "two"}, "one container per pod"),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, "persistentVolumeClaim"),
    ],
)
async def test_what_is_not_supported_is_said(node, change, message):
    pod = node.make_pod("odd", "echo hello")
    if change.get("containers") == "two":
        pod["spec"]["containers"].append({"name": "second", "image": "none", "command": ["true"]})
    else:
        pod["spec"] |= change
    await node.create(pod)
    pod = await node.wait_pod("odd", is_waiting("CreateContainerConfigError"))
    assert message in get_state(pod)["waiting"]["message"]
    await node.delete("odd")
    await node.wait_gone("odd")


async def test_a_foreign_write_to_the_status_is_put_right(node):
    await node.run("steady", image="sleeper:1")
    await node.wait_pod("steady", is_running)
    path = f"/api/v1/namespaces/{node.namespace}/pods/steady/status"
    await node.api.request(
        "PATCH",
        path,
        body={"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}},
        content_type=MERGE_PATCH,
    )
    await node.wait_pod("steady", lambda pod: pod["status"]["podIP"].startswith("127."))


async def test_an_unchanged_status_is_not_written_again(node):
    await node.run("quiet", image="sleeper:1")
    pod = await node.wait_pod("quiet", is_running)
    path = f"/api/v1/namespaces/{node.namespace}/pods/quiet"
    patched = await node.api.request(
        "PATCH", path, body={"metadata": {"labels": {"x": "y"}}}, content_type=MERGE_PATCH
    )
    await node.run("later", "true", spec={"restartPolicy": "Never"})
    await node.wait_pod("later", is_ended)
    after = await node.api.request("GET", path)
    assert after["metadata"]["resourceVersion"] == patched["metadata"]["resourceVersion"]
    assert pod["status"] == after["status"]


async def test_the_main_process_leads_a_session_of_its_own(node):
    await node.run("session", image="sleeper:1")
    await node.wait_pod("session", is_running)
    (main,) = node.list_mains()
    assert os.getsid(main) == main
    assert os.getpgid(main) == main


async def test_a_pod_is_stopped_at_its_deadline(node):
    await node.run("long", image="sleeper:1", spec={"activeDeadlineSeconds": 1})
    pod = await node.wait_pod("long", is_ended)
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert get_state(pod)["terminated"]["exitCode"] == 143
    assert node.list_processes() == []
