"""Prometheus and Alertmanager as parts: what a rule finds gets from one to the other and on to a receiver."""

from pathlib import Path

import pytest
import yaml
from alert_receiver import alert_receiver
from eventually import eventually

from import_local.errors import LocalError
from import_local.parts.alertmanager import AlertmanagerServer
from import_local.parts.prometheus import PrometheusServer

RULES = {"groups": [{"name": "test", "rules": [{"alert": "Always", "expr": "vector(1)"}]}]}


async def test_a_rule_that_fires_reaches_the_receiver(servers_folder: Path) -> None:
    rules = servers_folder / "always.yaml"
    rules.write_text(yaml.safe_dump(RULES))
    async with alert_receiver() as receiver:
        alertmanager = AlertmanagerServer(
            servers_folder / "alertmanager",
            log_path=servers_folder / "alertmanager.log",
            configuration={
                "route": {"receiver": "test", "group_wait": "10ms"},
                "receivers": [{"name": "test", "webhook_configs": [{"url": receiver.url("/hook")}]}],
            },
        )
        await alertmanager.start()
        prometheus = PrometheusServer(
            servers_folder / "prometheus",
            log_path=servers_folder / "prometheus.log",
            # What is not told again within four times as long counts as over.
            resend_seconds=5,
            configuration={
                "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
                "rule_files": [str(rules)],
                "alerting": {
                    "alertmanagers": [
                        {"static_configs": [{"targets": [alertmanager.url.removeprefix("http://")]}]}
                    ]
                },
            },
        )
        try:
            await prometheus.start()
            body = await receiver.first("/hook", lambda body: body["status"] == "firing")
            assert [each["labels"]["alertname"] for each in body["alerts"]] == ["Always"]
            assert [each["state"] for each in await prometheus.alerts()] == ["firing"]
            assert [each["status"]["state"] for each in await alertmanager.alerts()] == ["active"]

            answer = await prometheus.query('label_replace(vector(2), "a", "b", "", "")')
            assert [(each.labels, each.value) for each in answer] == [({"a": "b"}, 2.0)]
            assert (await prometheus.query("3"))[0].value == 3.0
            with pytest.raises(LocalError, match="parse error"):
                await prometheus.query("sum(")
            ranged = await prometheus.query_range("vector(1)", start=10, end=20, step=5)
            assert ranged[0].points == ((10.0, 1.0), (15.0, 1.0), (20.0, 1.0))

            prometheus.reconfigure({"scrape_configs": []})

            async def is_quiet() -> bool:
                return not await prometheus.alerts()

            await eventually(is_quiet, what="the rule's end")
        finally:
            await prometheus.stop()
            await alertmanager.stop()


async def test_a_configuration_that_is_wrong_is_said_at_once(servers_folder: Path) -> None:
    server = PrometheusServer(
        servers_folder / "prometheus-wrong",
        log_path=servers_folder / "prometheus-wrong.log",
        configuration={"no_such_field": 1},
    )
    with pytest.raises(LocalError, match="no_such_field"):
        await server.start()
    assert server.child is None
