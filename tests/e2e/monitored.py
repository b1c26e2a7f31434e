"""An installation that is watched by real Prometheus and Alertmanager: delivered rules and routing, in short time."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from alert_receiver import AlertReceiver, alert_receiver
from eventually import eventually

from e2e.world import World
from import_local.alert_rules import rule_groups
from import_local.deployment import PROJECT
from import_local.folders import ensure_folder
from import_local.parts.alertmanager import AlertmanagerServer
from import_local.parts.prometheus import PrometheusServer
from import_local.pod_targets import pod_scrape_configs

FASTER = 60
"""A minute of routing's patience, and of the impatient alerts' `for`, is a second here."""
IMPATIENT = {
    "ImportIntakeStopped",
    "ImportMetricsMissing",
    "ImportOperatorDown",
    "ImportQueueOverload",
    "ImportWorkersBelowMinimum",
}
"""What these tests wait for. All others keep their patience: moments that mean nothing must tell nobody here, too."""
ROUTING_KEY = "r" * 32
PAGERDUTY, SLACK, SWITCH = "/v2/enqueue", "/slack", "/switch"
_SECRETS = "/etc/alertmanager/secrets/import-alert-receivers/"
_SECONDS = {"s": 1, "m": 60, "h": 3600}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Monitored:
    """The servers, and what they told."""

    world: World
    prometheus: PrometheusServer
    alertmanager: AlertmanagerServer
    receiver: AlertReceiver

    async def held_back(self, alert: str, *, seconds: float = 30) -> None:
        """Wait until Alertmanager knows this alert and holds it back because of another."""

        async def is_held_back() -> bool:
            return any(
                each["labels"]["alertname"] == alert and each["status"]["inhibitedBy"]
                for each in await self.alertmanager.alerts()
            )

        await eventually(is_held_back, seconds=seconds, what=f"holding back {alert}")


@asynccontextmanager
async def monitored(world: World, folder: Path) -> AsyncIterator[Monitored]:
    """Run both servers beside the installation; rules are judged once all of its processes are asked."""
    async with alert_receiver() as receiver:
        ensure_folder(folder)
        alertmanager = AlertmanagerServer(
            folder / "alertmanager",
            log_path=folder / "alertmanager.log",
            configuration=_routing(folder, receiver),
        )
        await alertmanager.start()
        try:
            configuration: Json = {
                "global": {"evaluation_interval": "1s"},
                "scrape_configs": pod_scrape_configs(world.installation.kubeconfig, interval_seconds=1),
                "alerting": {
                    "alertmanagers": [
                        {"static_configs": [{"targets": [alertmanager.url.removeprefix("http://")]}]}
                    ]
                },
            }
            prometheus = PrometheusServer(
                folder / "prometheus",
                log_path=folder / "prometheus.log",
                configuration=configuration,
                resend_seconds=1,
            )
            await prometheus.start()
            try:
                await _all_are_asked(prometheus)
                prometheus.reconfigure({**configuration, "rule_files": _fast_rules(folder)})
                yield Monitored(world, prometheus, alertmanager, receiver)
            finally:
                await prometheus.stop()
        finally:
            await alertmanager.stop()


async def _all_are_asked(prometheus: PrometheusServer) -> None:
    async def answered() -> bool:
        jobs = await prometheus.query("count by (job) (up == 1)")
        leading = await prometheus.query("imports_leading == 1")
        return len(jobs) == 3 and bool(leading)

    await eventually(answered, seconds=60, what="asking operator, gateway and workers")


def _fast_rules(folder: Path) -> list[str]:
    """The rules as they are delivered, but for the patience of some."""
    paths = []
    for name, groups in rule_groups().items():
        for rule in (rule for group in groups for rule in group["rules"] if rule.get("alert") in IMPATIENT):
            rule["for"] = _faster(rule["for"])
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"groups": groups}))
        paths.append(str(path))
    return paths


def _routing(folder: Path, receiver: AlertReceiver) -> Json:
    """The routing as it is delivered, but for its patience, the secrets' folder and PagerDuty's address."""
    values = {
        "pagerduty-routing-key": ROUTING_KEY,
        "slack-webhook-url": receiver.url(SLACK),
        "dead-mans-switch-url": receiver.url(SWITCH),
    }
    for name, value in values.items():
        (folder / name).write_text(value)
    text = (PROJECT / "dashboards" / "alertmanager.yaml").read_text(encoding="utf-8")
    routing: Json = yaml.safe_load(text.replace(_SECRETS, f"{folder}/"))
    routing["global"]["pagerduty_url"] = receiver.url(PAGERDUTY)
    for route in (routing["route"], *routing["route"]["routes"]):
        for field in ("group_wait", "group_interval"):
            if field in route:
                route[field] = _faster(route[field])
        if route["receiver"] == "dead-mans-switch":
            route["repeat_interval"] = _faster(route["repeat_interval"])
    return routing


def _faster(duration: str) -> str:
    number, unit = re.fullmatch(r"(\d+)([smh])", duration).groups()  # type: ignore[union-attr]
    return f"{int(number) * _SECONDS[unit] * 1000 // FASTER}ms"


def about(alert: str, action: str) -> Any:
    """Whether PagerDuty's body triggers or resolves this alert."""

    def matches(body: Mapping[str, Any]) -> bool:
        return bool(body["event_action"] == action and body["payload"]["class"] == alert)

    return matches


def shows(alert: str, *, resolved: bool = False) -> Any:
    """Whether Slack's body shows this alert, firing or resolved."""

    def matches(body: Mapping[str, Any]) -> bool:
        title = body["attachments"][0]["title"]
        return alert in title and title.startswith("RESOLVED") == resolved

    return matches
