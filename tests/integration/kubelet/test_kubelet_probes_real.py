"""Startup, readiness and liveness probes against real processes."""

import pytest
from kubelet_node import has_restarted, is_ready, is_running

SERVER = """
import http.server, os, pathlib

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if pathlib.Path("ok").exists() else 503)
        self.end_headers()
    def log_message(self, *_):
        pass

if os.environ.get("START_OK"):
    pathlib.Path("ok").touch()
server = http.server.ThreadingHTTPServer((os.environ["POD_IP"], 8080), Handler)
print("up", flush=True)
server.serve_forever()
"""
POD_IP = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
PORTS = [{"name": "http", "containerPort": 8080}]
FAST = {"periodSeconds": 1, "failureThreshold": 1}
# For probes whose one failure is counted: a busy machine's answer that comes late is none.
PATIENT = FAST | {"timeoutSeconds": 30}


def get_home(node, pod):
    return node.state / "pods" / pod["metadata"]["uid"] / "home"


async def run_server(node, name, *env, **probes):
    return await node.run(
        name, image="python:3", args=["-c", SERVER], env=[POD_IP, *env], ports=PORTS, **probes
    )


async def test_readiness_follows_the_probe_both_ways(node):
    probe = {"httpGet": {"path": "/x", "port": "http"}, **FAST}
    pod = await run_server(node, "web", readinessProbe=probe)
    running = await node.wait_pod("web", is_running)
    assert not is_ready(running)
    (get_home(node, pod) / "ok").touch()
    ready = await node.wait_pod("web", is_ready)
    assert ready["status"]["containerStatuses"][0]["ready"] is True
    (get_home(node, pod) / "ok").unlink()
    unready = await node.wait_pod("web", lambda pod: not is_ready(pod))
    assert unready["status"]["containerStatuses"][0]["restartCount"] == 0


async def test_a_failed_liveness_probe_restarts_the_container(node):
    probe = {"httpGet": {"port": 8080}, **PATIENT}
    # However long the server takes until it listens, that is no failure of its life.
    started = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 100}
    start_ok = {"name": "START_OK", "value": "1"}
    pod = await run_server(
        node, "web", start_ok, startupProbe=started, livenessProbe=probe, readinessProbe=probe
    )
    await node.wait_pod("web", is_ready)
    (get_home(node, pod) / "ok").unlink()
    pod = await node.wait_pod("web", has_restarted(1))
    last = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert last["exitCode"] == 143
    assert last["message"] == "Liveness probe failed: HTTP probe failed with statuscode: 503"


async def test_a_startup_probe_holds_back_the_others(node):
    startup = {"exec": {"command": ["test", "-e", "ok"]}, "periodSeconds": 1, "failureThreshold": 100}
    liveness = {"httpGet": {"port": 8080}, **PATIENT}
    pod = await run_server(node, "slow", startupProbe=startup, livenessProbe=liveness)
    running = await node.wait_pod("slow", is_running)
    assert running["status"]["containerStatuses"][0]["started"] is False
    await node.read_log("slow", 3)
    (get_home(node, pod) / "ok").touch()
    ready = await node.wait_pod("slow", is_ready)
    status = ready["status"]["containerStatuses"][0]
    assert (status["started"], status["restartCount"]) == (True, 0)


async def test_a_startup_probe_that_never_succeeds_restarts_the_container(node):
    startup = {"exec": {"command": ["sh", "-c", "exit 5"]}, **FAST}
    await node.run("never", image="sleeper:1", startupProbe=startup)
    pod = await node.wait_pod("never", has_restarted(1))
    last = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert last["message"] == "Startup probe failed: command exited with code 5"


async def test_tcp_probes_connect_to_the_pods_address(node):
    await run_server(node, "tcp", readinessProbe={"tcpSocket": {"port": "http"}, **FAST})
    await node.wait_pod("tcp", is_ready)


@pytest.mark.parametrize("command", [["sleep", "1000"], ["/no/such/program"]])
async def test_a_probe_that_hangs_or_cannot_run_fails(node, command):
    probe = {"exec": {"command": command}, "timeoutSeconds": 1, **FAST}
    await node.run("hangs", image="sleeper:1", livenessProbe=probe, readinessProbe=probe)
    pod = await node.wait_pod("hangs", has_restarted(1))
    message = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["message"]
    assert message.startswith("Liveness probe failed: ")
    assert "timed out" in message or "No such file" in message


async def test_probes_see_the_containers_environment(node):
    probe = {"exec": {"command": ["sh", "-c", '[ "$COLOUR" = green ]']}, **FAST}
    env = [{"name": "COLOUR", "value": "green"}]
    await node.run("green", image="sleeper:1", env=env, readinessProbe=probe)
    await node.wait_pod("green", is_ready)
