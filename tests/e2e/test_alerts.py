"""Something breaks for real, and the right people are told by real servers: what PagerDuty and Slack would receive."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest_asyncio

from e2e.monitored import PAGERDUTY, ROUTING_KEY, SLACK, SWITCH, Json, Monitored, about, monitored, shows
from e2e.test_refusals import connect
from e2e.world import NAMESPACE, World, job, provider
from import_core.adapters.kube.resources import IMPORT_PROVIDER
from import_local.alert_rules import runbook_name
from import_local.demo.manifests import POOL, get_worker_pool
from import_local.kubelet.pod_context import POD_MARK
from import_local.kubelet.processes import ProcessId, find_marked, send_signal

JOBS = 6
PAGED = "/docs/runbooks/"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watched(world: World, servers_folder: Path) -> AsyncIterator[Monitored]:
    async with monitored(world, servers_folder / "monitored") as running:
        yield running


async def _processes(world: World, application: str) -> list[ProcessId]:
    """The processes of all pods of an application."""
    outcome = await world.kubectl(
        "get", "pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/name={application}", "-o", "json"
    )
    assert outcome.code == 0, outcome.err
    pods = json.loads(outcome.out)["items"]
    return [process for pod in pods for process in find_marked(POD_MARK, pod["metadata"]["uid"])]


def _send(processes: list[ProcessId], number: signal.Signals) -> None:
    for process in processes:
        send_signal(process, number)


def _is_paged(body: Json, alert: str, *, summary: str) -> None:
    """What a person is woken by: how urgent, what it is, what it means, what to do."""
    assert body["routing_key"] == ROUTING_KEY
    payload = body["payload"]
    assert payload["severity"] == "critical"
    assert payload["component"] == "import-operator"
    assert payload["group"] == NAMESPACE
    assert payload["summary"] == f"{alert} in {NAMESPACE}: {summary}"
    assert payload["custom_details"]["impact"].endswith(".")
    runbook = body["links"][0]
    assert runbook["href"].endswith(PAGED + runbook_name(alert))
    assert runbook["text"] == "What to do"
    # One incident for an alert in a namespace, whichever replica tells of it.
    group = f'{{}}/{{severity="critical"}}:{{alertname="{alert}", namespace="{NAMESPACE}"}}'
    assert body["dedup_key"] == hashlib.sha256(group.encode()).hexdigest()


def _is_shown(body: Json, alert: str, *, severity: str, summary: str) -> None:
    shown = body["attachments"][0]
    assert shown["title"] == f"{severity.upper()} {alert} in {NAMESPACE}"
    assert shown["title_link"].endswith(PAGED + runbook_name(alert))
    assert summary in shown["text"]
    assert "*Impact*: " in shown["text"]
    assert shown["title_link"] in shown["text"]
    assert shown["color"] == ("danger" if severity == "critical" else "warning")


async def test_workers_that_hang_and_the_overload_that_follows(watched: Monitored) -> None:
    world, receiver = watched.world, watched.receiver
    await connect(world, "alerted", shop="tiny-2-1-alerted")
    pool = get_worker_pool(minimum=2, maximum=4, image="import-worker:dev", cooldown_seconds=5)
    small = {"degradedAbove": 1, "criticalAbove": 2, "overloadAbove": 3}
    hanging = await _processes(world, "import-worker")
    assert len(hanging) >= 2
    _send(hanging, signal.SIGSTOP)
    try:
        await world.apply(
            *(job(f"alerted-{n}", company="alerted", provider_name="alerted") for n in range(JOBS))
        )
        await world.apply({**pool, "spec": {**pool["spec"], "health": small}})

        triggered = await receiver.first(PAGERDUTY, about("ImportIntakeStopped", "trigger"))
        _is_paged(triggered, "ImportIntakeStopped", summary=f"Queue {POOL} takes no new imports")
        shown = await receiver.first(SLACK, shows("ImportIntakeStopped"))
        _is_shown(
            shown, "ImportIntakeStopped", severity="critical", summary=f"Queue {POOL} takes no new imports"
        )
        await watched.held_back("ImportQueueOverload")

        shown = await receiver.first(SLACK, shows("ImportWorkersBelowMinimum"))
        _is_shown(
            shown,
            "ImportWorkersBelowMinimum",
            severity="high",
            summary="workers that are ready, fewer than its minimum",
        )
    finally:
        _send(hanging, signal.SIGCONT)
        await world.apply(pool)
        resumed = await world.imports("resume-intake", POOL)
    assert resumed.code == 0, resumed.err

    resolved = await receiver.first(PAGERDUTY, about("ImportIntakeStopped", "resolve"))
    assert resolved["dedup_key"] == triggered["dedup_key"]
    await receiver.first(SLACK, shows("ImportIntakeStopped", resolved=True))
    await receiver.first(SLACK, shows("ImportWorkersBelowMinimum", resolved=True))
    for n in range(JOBS):
        assert (await world.finished(f"alerted-{n}"))["phase"] == "Succeeded"
    paged = {body["payload"]["class"] for body in receiver.received[PAGERDUTY]}
    assert not paged & {"ImportQueueOverload", "ImportWorkersBelowMinimum"}


async def test_a_provider_that_is_away(watched: Monitored) -> None:
    world, receiver = watched.world, watched.receiver
    await connect(world, "alerted-away", shop="tiny-2-1-alertedaway")
    connection = provider(
        "alerted-away",
        company="alerted-away",
        kind="shopify",
        url=f"{world.installation.shopify_url}/tiny-2-1-alertedaway",
    )
    connection["spec"]["circuitBreaker"] = {"failureThreshold": 1, "openSeconds": 600}
    await world.apply(connection)
    faults = f"{world.sample_root}/control/shopify/tiny-2-1-alertedaway/faults"
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        (await client.put(faults, json={"api": {"outage": True}})).raise_for_status()
        await world.apply(job("alerted-away", company="alerted-away", provider_name="alerted-away"))
        shown = await receiver.first(SLACK, shows("ImportBreakerOpen"))
        _is_shown(
            shown,
            "ImportBreakerOpen",
            severity="medium",
            summary="The circuit breakers of 1 connections to shopify are open",
        )
        (await client.put(faults, json={})).raise_for_status()
    reset = await world.imports("reset-breaker", "alerted-away")
    assert reset.code == 0, reset.err
    await receiver.first(SLACK, shows("ImportBreakerOpen", resolved=True))
    assert (await world.finished("alerted-away"))["phase"] == "Succeeded"
    assert "ImportBreakerOpen" not in {
        body["payload"]["class"] for body in receiver.received.get(PAGERDUTY, [])
    }
    await world.until(
        IMPORT_PROVIDER, "alerted-away", lambda v: (v["status"].get("breaker") or {}).get("state") == "Closed"
    )


async def test_an_operator_that_hangs_pages_once(watched: Monitored) -> None:
    receiver = watched.receiver
    hanging = await _processes(watched.world, "import-operator")
    assert hanging
    _send(hanging, signal.SIGSTOP)
    try:
        triggered = await receiver.first(PAGERDUTY, about("ImportOperatorDown", "trigger"))
        _is_paged(triggered, "ImportOperatorDown", summary="No operator leads")
        await watched.held_back("ImportMetricsMissing")
    finally:
        _send(hanging, signal.SIGCONT)
    resolved = await receiver.first(PAGERDUTY, about("ImportOperatorDown", "resolve"))
    assert resolved["dedup_key"] == triggered["dedup_key"]
    shown = [
        line for body in receiver.received[SLACK] for line in body["attachments"][0]["text"].splitlines()
    ]
    assert not [line for line in shown if re.match("import-operator-.* does not answer", line)]


async def test_the_dead_mans_switch_is_told_all_the_time(watched: Monitored) -> None:
    told = len(watched.receiver.received[SWITCH])
    again = await watched.receiver.first(
        SWITCH, lambda body: len(watched.receiver.received[SWITCH]) > told + 1, seconds=30
    )
    assert again["status"] == "firing"
    assert {each["labels"]["alertname"] for each in again["alerts"]} == {"ImportWatchdog"}
