"""Accepted and refused custom resources: the models and a real API server are held to the same list."""

import copy
import re
from dataclasses import dataclass, field
from typing import Any

ABSENT = object()

MINIMAL: dict[str, dict[str, Any]] = {
    "ImportJob": {"companyId": "acme", "providerRef": {"name": "acme-shopify"}},
    "ImportProvider": {
        "companyId": "acme",
        "type": "shopify",
        "baseUrl": "https://acme.myshopify.com",
        "credentialsSecretRef": {"name": "acme-shopify"},
    },
    "ImportSchedule": {
        "schedule": "0 2 * * *",
        "jobTemplate": {"spec": {"companyId": "acme", "providerRef": {"name": "acme-shopify"}}},
    },
    "WorkerPool": {
        "template": {"spec": {"containers": [{"name": "worker", "image": "import-worker:1.0.0"}]}}
    },
}


SCRAPE: dict[str, Any] = {
    "companyId": "acme",
    "type": "whatsapp",
    "baseUrl": "https://wa.me/c/491700000001",
    "whatsapp": {
        "mode": "Scrape",
        "scrape": {"selectors": {"item": ".item", "title": ".title", "link": "a", "price": ".price"}},
    },
}
GRAPH: dict[str, Any] = {
    "companyId": "acme",
    "type": "whatsapp",
    "credentialsSecretRef": {"name": "acme-whatsapp"},
    "whatsapp": {"mode": "Graph", "graph": {"catalogId": "100000000000001"}},
}
WHATSAPP = {"Scrape": SCRAPE, "Graph": GRAPH}


@dataclass(frozen=True)
class Case:
    """A minimal object with changed fields; `blames` is what a refusal has to name (empty: it is accepted)."""

    kind: str
    changes: dict[str, Any] = field(default_factory=dict)
    blames: str = ""
    of: str = ""
    """Mode of the WhatsApp catalogue that is the minimal object."""

    def body(self, name: str = "sample") -> dict[str, Any]:
        spec = copy.deepcopy(WHATSAPP[self.of] if self.of else MINIMAL[self.kind])
        for path, value in self.changes.items():
            _set(spec, path.split("."), value)
        return {
            "apiVersion": "imports.avnz.io/v1alpha1",
            "kind": self.kind,
            "metadata": {"name": name},
            "spec": spec,
        }

    def __str__(self) -> str:
        text = ",".join(
            f"{path}={'absent' if value is ABSENT else value!r}" for path, value in self.changes.items()
        )
        return re.sub(r"[^\w.,=:/-]+", "_", f"{self.kind}{self.of}:{text}")[:100]


def _set(target: Any, path: list[str], value: Any) -> None:
    for step in path[:-1]:
        target = target[int(step)] if isinstance(target, list) else target.setdefault(step, {})
    last: Any = int(path[-1]) if isinstance(target, list) else path[-1]
    if value is ABSENT:
        del target[last]
    else:
        target[last] = value


def _job(blames: str, **changes: Any) -> Case:
    return Case("ImportJob", {path.replace("__", "."): value for path, value in changes.items()}, blames)


def _provider(blames: str, **changes: Any) -> Case:
    return Case("ImportProvider", {path.replace("__", "."): value for path, value in changes.items()}, blames)


def _whatsapp(mode: str, blames: str, **changes: Any) -> Case:
    changed = {path.replace("__", "."): value for path, value in changes.items()}
    return Case("ImportProvider", changed, blames, mode)


def _pool(blames: str, **changes: Any) -> Case:
    return Case("WorkerPool", {path.replace("__", "."): value for path, value in changes.items()}, blames)


def _schedule(blames: str, **changes: Any) -> Case:
    return Case("ImportSchedule", {path.replace("__", "."): value for path, value in changes.items()}, blames)


_HOOK = {"url": "https://acme.example/hooks", "secretRef": {"name": "hooks"}}

ACCEPTED = [
    _job(""),
    _job("", companyId="cm3x.9_a-B"),
    _job("", filter__updatedAfter="2026-01-01T00:00:00Z"),
    _job("", filter__updatedAfter="2026-02-28T23:59:59.123456789+05:30"),
    _job("", fieldMapping={}),
    _job("", fieldMapping={"title": "title", "tags": "tags", "inventoryQuantity": "`3`"}),
    _job("", images={"enabled": False, "maxPerProduct": 0, "thumbnails": []}),
    _job("", images__thumbnails=[16, 4096]),
    _job("", images=None),
    _job("", suspend=True),
    _job("", activeDeadlineSeconds=1),
    _job("", ttlSecondsAfterFinished=0),
    _job("", ttlSecondsAfterFinished=31_536_000),
    _job("", removed={"action": "Keep", "maxPercent": 20}),
    _job("", removed={}),
    _job("", removed={"action": "Archive"}),
    _job("", removed={"action": "Archive", "maxPercent": 0}, filter={}),
    _job("", removed={"action": "Archive", "maxPercent": 100}),
    _job("", removed={"maxPercent": 21}, filter__updatedAfter="2026-01-01T00:00:00Z"),
    _job("", reimport={"mode": "Incremental", "fullEvery": 1, "overlapSeconds": 0}, filter={}),
    _job("", reimport__mode="Incremental", removed__action="Archive"),
    _job("", reimport={"mode": "Full"}, filter__updatedAfter="2026-01-01T00:00:00Z"),
    _job("", enrich={"embedding": False}),
    _job("", enrich={"embedding": True, "qualityControl": True, "index": True}),
    _provider(""),
    _provider("", type="roastify", baseUrl="https://api.roastify.app/v1"),
    _provider("", baseUrl="http://127.0.0.1:8080/shops/a%20b"),
    _provider("", baseUrl="http://[::1]:65535"),
    _provider("", baseUrl="http://[2001:db8:0:1:2:3:4:5]/v1"),
    _provider("", baseUrl="http://[::ffff:127.0.0.1]"),
    _provider("", baseUrl="http://localhost:8080"),
    _provider("", baseUrl="https://" + "a" * 63 + ".1a-b.example"),
    _provider("", notifications={"url": "https://acme.example/h?key=a%20b", "secretRef": {"name": "h"}}),
    _provider("", notifications={**_HOOK, "events": ["import.failed", "import.progress"]}),
    _provider("", notifications={**_HOOK, "url": "http://127.0.0.1:8080"}),
    _provider("", notifications=None),
    _provider("", rateLimit__requests=1),
    _provider("", circuitBreaker={"failureThreshold": 1, "openSeconds": 3600}),
    _provider("", timeoutSeconds=300),
    _whatsapp("Scrape", ""),
    _whatsapp("Scrape", "", credentialsSecretRef={"name": "unused"}),
    _whatsapp(
        "Scrape", "", whatsapp__scrape__selectors={"item": "li", "title": "b", "idAttribute": "data-id"}
    ),
    _whatsapp("Scrape", "", whatsapp__scrape__itemPage={"price": ".price", "image": "img"}),
    _whatsapp(
        "Scrape", "", whatsapp__scrape__scroll={"maxRounds": 0, "idleRounds": 1, "quietMilliseconds": 50}
    ),
    _whatsapp("Scrape", "", whatsapp__scrape__hosts=["web.whatsapp.com", "static.example"]),
    _whatsapp("Scrape", "", whatsapp__scrape__userAgent="acme/1 (+https://acme.example)"),
    _whatsapp("Scrape", "", whatsapp__scrape__respectRobots=False, whatsapp__scrape__currency="EUR"),
    _whatsapp("Graph", ""),
    _whatsapp("Graph", "", baseUrl="https://graph.example/meta"),
    _whatsapp("Graph", "", whatsapp__graph__apiVersion="v25.0", whatsapp__graph__pageSize=200),
    _schedule(""),
    _schedule(
        "", schedule="*/15 0-6,22,23 1-31/2 jan,DEC Mon-fri", timeZone="America/Argentina/Buenos_Aires"
    ),
    _schedule("", schedule="@hourly", timeZone="UTC", jitterSeconds=0),
    _schedule("", schedule="0  0 ? * 7"),
    _schedule("", concurrencyPolicy="Allow", startingDeadlineSeconds=10, suspend=True),
    _schedule("", concurrencyPolicy="Replace", startingDeadlineSeconds=604_800, jitterSeconds=3600),
    _schedule("", successfulJobsHistoryLimit=0, failedJobsHistoryLimit=100),
    _schedule("", jobTemplate__spec__images={"thumbnails": [64]}, jobTemplate__spec__suspend=True),
    _pool(""),
    _pool("", replicas=None),
    _pool("", replicas=0),
    _pool("", queueRateLimit={"jobs": 100, "perSeconds": 60}),
    _pool("", queueRateLimit={"jobs": 7, "perSeconds": 1}),
    _pool("", health={"degradedAbove": 1000, "criticalAbove": 5000, "overloadAbove": 10000}),
    _pool("", health={"degradedAbove": 1, "criticalAbove": 2, "overloadAbove": 3, "resumeAfterSeconds": 0}),
    _pool("", health={"minSuccessPercent": 0, "basicDelaySeconds": 0, "emergencyPauseSeconds": 1}),
    _pool("", scaling={"minReplicas": 0, "maxReplicas": 1}),
    _pool("", scaling={"minReplicas": 7, "maxReplicas": 7, "cpuTargetPercent": 50}),
    _pool("", scaling={"policy": "DrainTime", "drainTimeSeconds": 300}),
    _pool("", scaling={"scaleInCooldownSeconds": 0, "scaleOutCooldownSeconds": 0}),
    _pool("", scaling={"scaleInBusy": "DrainLeastWork"}),
    _pool("", rollout={"steps": [{"percent": 25, "pauseSeconds": 600}, {"percent": 100}]}),
    _pool(
        "",
        rollout={"steps": [{"percent": 100}], "initialReplicas": 1, "initialPauseSeconds": 0, "minJobs": 0},
    ),
    _pool("", template__spec__volumes=[{"name": "scratch", "emptyDir": {}}]),
    _pool(
        "",
        template__spec__containers__0__resources={"requests": {"cpu": 2, "memory": "4Gi", "x.io/y": "1e3"}},
    ),
    _pool(
        "", template__spec__containers__0__env=[{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {}}]
    ),
]

REFUSED = [
    _job("companyId", companyId=ABSENT),
    _job("companyId", companyId=None),
    _job("companyId", companyId=""),
    _job("companyId", companyId="a/b"),
    _job("companyId", companyId="x" * 129),
    _job("companyId", companyId=5),
    _job("providerRef", providerRef=ABSENT),
    _job("providerRef.name", providerRef={}),
    _job("providerRef.name", providerRef__name="Not_A_Name"),
    _job("updatedAfter", filter__updatedAfter="yesterday"),
    _job("updatedAfter", filter__updatedAfter="2026-02-30T00:00:00Z"),
    _job("updatedAfter", filter__updatedAfter="2026-01-01T00:00:00"),
    _job("updatedAfter", filter__updatedAfter="2026-01-01"),
    _job("fieldMapping", fieldMapping={"colour": "colour"}),
    _job("inventoryQuantity", fieldMapping={"variants": "variants"}),
    _job("fieldMapping.title", fieldMapping={"title": ""}),
    _job("fieldMapping.title", fieldMapping={"title": "t" * 1025}),
    _job("fieldMapping.title", fieldMapping={"title": 1}),
    _job("fieldMapping", fieldMapping={f"field{number}": "a" for number in range(33)}),
    _job("images.maxPerProduct", images__maxPerProduct=21),
    _job("images.maxPerProduct", images__maxPerProduct=-1),
    _job("images.enabled", images__enabled="yes"),
    _job("thumbnails", images__thumbnails=[256, 256]),
    _job("images.thumbnails[1]", images__thumbnails=[256, 15]),
    _job("images.thumbnails[0]", images__thumbnails=[4097]),
    _job("images.thumbnails", images__thumbnails=list(range(16, 25))),
    _job("enrich.embedding", enrich__embedding="yes"),
    _job("enrich.qualityControl", enrich__qualityControl=1),
    _job("enrich.index", enrich__index=[]),
    _job("removed.action", removed__action="Archive", filter__updatedAfter="2026-01-01T00:00:00Z"),
    _job("removed.action", removed__action="Delete"),
    _job("removed.maxPercent", removed__maxPercent=101),
    _job("removed.maxPercent", removed__maxPercent=-1),
    _job("reimport.mode", reimport__mode="Incremental", filter__updatedAfter="2026-01-01T00:00:00Z"),
    _job("reimport.mode", reimport__mode="Sometimes"),
    _job("reimport.fullEvery", reimport__fullEvery=0),
    _job("reimport.overlapSeconds", reimport__overlapSeconds=604_801),
    _job("ttlSecondsAfterFinished", ttlSecondsAfterFinished=-1),
    _job("ttlSecondsAfterFinished", ttlSecondsAfterFinished=31_536_001),
    _job("activeDeadlineSeconds", activeDeadlineSeconds=0),
    _job("activeDeadlineSeconds", activeDeadlineSeconds=604801),
    _job("suspend", suspend="true"),
    _provider("whatsapp", type="whatsapp"),
    _provider("whatsapp", whatsapp={"mode": "Graph", "graph": {"catalogId": "1"}}),
    _provider("type", type="etsy"),
    _whatsapp("Scrape", "whatsapp", whatsapp=ABSENT, credentialsSecretRef={"name": "a"}),
    _whatsapp("Scrape", "baseUrl", baseUrl=ABSENT),
    _whatsapp("Scrape", "whatsapp.mode", whatsapp__mode="Guess"),
    _whatsapp("Scrape", "whatsapp.scrape", whatsapp__scrape=ABSENT),
    _whatsapp("Scrape", "whatsapp.graph", whatsapp__graph={"catalogId": "1"}),
    _whatsapp("Scrape", "selectors", whatsapp__scrape__selectors=ABSENT),
    _whatsapp("Scrape", "selectors.item", whatsapp__scrape__selectors__item=ABSENT),
    _whatsapp("Scrape", "selectors.item", whatsapp__scrape__selectors__item=""),
    _whatsapp("Scrape", "selectors.title", whatsapp__scrape__selectors__title="x" * 257),
    _whatsapp("Scrape", "selectors.price", whatsapp__scrape__selectors__price="a\nb"),
    _whatsapp("Scrape", "idAttribute", whatsapp__scrape__selectors__link=ABSENT),
    _whatsapp("Scrape", "selectors.idAttribute", whatsapp__scrape__selectors__idAttribute="data id"),
    _whatsapp(
        "Scrape",
        "itemPage",
        whatsapp__scrape={
            "selectors": {"item": "li", "title": "b", "idAttribute": "id"},
            "itemPage": {"price": "p"},
        },
    ),
    _whatsapp("Scrape", "itemPage", whatsapp__scrape__itemPage={}),
    _whatsapp("Scrape", "scroll.maxRounds", whatsapp__scrape__scroll={"maxRounds": 2001}),
    _whatsapp("Scrape", "scroll.quietMilliseconds", whatsapp__scrape__scroll={"quietMilliseconds": 10}),
    _whatsapp("Scrape", "maxItems", whatsapp__scrape__maxItems=5001),
    _whatsapp("Scrape", "hosts[0]", whatsapp__scrape__hosts=["https://wa.me"]),
    _whatsapp("Scrape", "hosts", whatsapp__scrape__hosts=[f"h{number}.example" for number in range(17)]),
    _whatsapp("Scrape", "userAgent", whatsapp__scrape__userAgent="a\r\nCookie: b"),
    _whatsapp("Scrape", "currency", whatsapp__scrape__currency="euro"),
    _whatsapp("Graph", "credentialsSecretRef", credentialsSecretRef=ABSENT),
    _whatsapp("Graph", "graph.catalogId", whatsapp__graph__catalogId="acme/../1"),
    _whatsapp("Graph", "graph.catalogId", whatsapp__graph={}),
    _whatsapp("Graph", "graph.apiVersion", whatsapp__graph__apiVersion="25.0"),
    _whatsapp("Graph", "graph.pageSize", whatsapp__graph__pageSize=201),
    _provider("type", type="Shopify"),
    _provider("type", type=ABSENT),
    _provider("companyId", companyId=ABSENT),
    _provider("credentialsSecretRef", credentialsSecretRef=ABSENT),
    _provider("baseUrl", baseUrl=ABSENT),
    _provider("baseUrl", baseUrl=""),
    _provider("baseUrl", baseUrl="ftp://acme.example"),
    _provider("baseUrl", baseUrl="acme.myshopify.com"),
    _provider("baseUrl", baseUrl="https://user:hunter2@acme.example"),
    _provider("baseUrl", baseUrl="https://user@acme.example"),
    _provider("baseUrl", baseUrl="https://acme.example/?token=hunter2"),
    _provider("baseUrl", baseUrl="https://acme.example/#part"),
    _provider("baseUrl", baseUrl="https://acme.example:0"),
    _provider("baseUrl", baseUrl="https://acme.example:65536"),
    _provider("baseUrl", baseUrl="https:///products"),
    _provider("baseUrl", baseUrl="http://999.1.1.1"),
    _provider("baseUrl", baseUrl="http://127.1"),
    _provider("baseUrl", baseUrl="http://1.2.3.4.5"),
    _provider("baseUrl", baseUrl="http://2130706433"),
    _provider("baseUrl", baseUrl="http://01.2.3.4"),
    _provider("baseUrl", baseUrl="http://[1:2]"),
    _provider("baseUrl", baseUrl="http://[1::2::3]"),
    _provider("baseUrl", baseUrl="http://[1:2:3:4:5:6:7:8:9]"),
    _provider("baseUrl", baseUrl="http://[::1"),
    _provider("baseUrl", baseUrl="http://[fe80::1%25eth0]"),
    _provider("baseUrl", baseUrl="https://acme..example"),
    _provider("baseUrl", baseUrl="https://-acme.example"),
    _provider("baseUrl", baseUrl="https://acme-.example"),
    _provider("baseUrl", baseUrl="https://.example"),
    _provider("baseUrl", baseUrl="https://" + "a" * 64 + ".example"),
    _provider("baseUrl", baseUrl="https://" + "a." * 124 + "example"),
    _provider("baseUrl", baseUrl="https://acme.example/a b"),
    _provider("baseUrl", baseUrl="https://acme.example\n"),
    _provider("baseUrl", baseUrl="https://acme.example/" + "a" * 2048),
    *(
        _provider("notifications.url", notifications={**_HOOK, "url": url})
        for url in (
            "ftp://acme.example",
            "https://ada:hunter2@acme.example",
            "https://acme.example/#part",
            "https://acme.example\n",
            "",
            "https://acme.example/" + "a" * 2048,
        )
    ),
    _provider("notifications.secretRef", notifications={"url": "https://acme.example"}),
    _provider("notifications.events", notifications={**_HOOK, "events": []}),
    _provider("notifications.events", notifications={**_HOOK, "events": ["import.begun"]}),
    _provider("notifications.events", notifications={**_HOOK, "events": ["import.failed", "import.failed"]}),
    _provider("rateLimit.requests", rateLimit={}),
    _provider("rateLimit.requests", rateLimit__requests=0),
    _provider("rateLimit.perSeconds", rateLimit={"requests": 1, "perSeconds": 3601}),
    _provider("circuitBreaker.failureThreshold", circuitBreaker__failureThreshold=0),
    _provider("circuitBreaker.openSeconds", circuitBreaker__openSeconds=3601),
    _provider("timeoutSeconds", timeoutSeconds=0),
    _provider("timeoutSeconds", timeoutSeconds=301),
    _schedule("schedule", schedule=ABSENT),
    _schedule("schedule", schedule=""),
    _schedule("schedule", schedule="0 2 * *"),
    _schedule("schedule", schedule="0 0 2 * * *"),
    _schedule("schedule", schedule="60 2 * * *"),
    _schedule("schedule", schedule="0 24 * * *"),
    _schedule("schedule", schedule="0 2 0 * *"),
    _schedule("schedule", schedule="0 2 * 13 *"),
    _schedule("schedule", schedule="0 2 * * 8"),
    _schedule("schedule", schedule="0 2 * * mon#1"),
    _schedule("schedule", schedule="*/0 2 * * *"),
    _schedule("schedule", schedule="@every 1h"),
    _schedule("schedule", schedule="TZ=UTC 0 2 * * *"),
    _schedule("schedule", schedule="0 2 * * *\n"),
    _schedule("timeZone", timeZone="../etc/passwd"),
    _schedule("timeZone", timeZone=""),
    _schedule("jitterSeconds", jitterSeconds=3601),
    _schedule("concurrencyPolicy", concurrencyPolicy="Queue"),
    _schedule("startingDeadlineSeconds", startingDeadlineSeconds=9),
    _schedule("startingDeadlineSeconds", startingDeadlineSeconds=604_801),
    _schedule("successfulJobsHistoryLimit", successfulJobsHistoryLimit=-1),
    _schedule("failedJobsHistoryLimit", failedJobsHistoryLimit=101),
    _schedule("jobTemplate", jobTemplate=ABSENT),
    _schedule("companyId", jobTemplate__spec__companyId=ABSENT),
    _schedule("maxPerProduct", jobTemplate__spec__images={"maxPerProduct": 21}),
    _schedule("enrich.index", jobTemplate__spec__enrich={"index": "yes"}),
    _pool("template", template=ABSENT),
    _pool("containers", template__spec__containers=[]),
    _pool("containers[0].image", template__spec__containers=[{"name": "worker"}]),
    _pool("containers[0].name", template__spec__containers=[{"name": "Worker", "image": "a"}]),
    _pool(
        "containers", template__spec__containers=[{"name": "a", "image": "a"}, {"name": "a", "image": "b"}]
    ),
    _pool("env[0].value", template__spec__containers__0__env=[{"name": "A", "value": 1}]),
    _pool("env", template__spec__containers__0__env=[{"name": "A"}, {"name": "A"}]),
    _pool("memory", template__spec__containers__0__resources={"requests": {"memory": "lots"}}),
    _pool("cpu", template__spec__containers__0__resources={"requests": {"cpu": -1}}),
    _pool("terminationGracePeriodSeconds", template__spec__terminationGracePeriodSeconds=0),
    _pool("queue", queue="has:colon"),
    _pool("replicas", replicas=-1),
    _pool("replicas", replicas=1001),
    _pool("concurrency", concurrency=0),
    _pool("concurrency", concurrency=101),
    _pool("queueRateLimit.jobs", queueRateLimit={"jobs": 0}),
    _pool("queueRateLimit.perSeconds", queueRateLimit={"perSeconds": 3601}),
    _pool("health.degradedAbove", health__degradedAbove=0),
    _pool("health.overloadAbove", health__overloadAbove=200_001),
    _pool("health.minSuccessPercent", health__minSuccessPercent=101),
    _pool("health.emergencyPauseSeconds", health__emergencyPauseSeconds=0),
    _pool("degradedAbove, criticalAbove and overloadAbove must ascend", health__criticalAbove=1000),
    _pool("degradedAbove, criticalAbove and overloadAbove must ascend", health__overloadAbove=4000),
    _pool("maxReplicas", scaling={"minReplicas": 3, "maxReplicas": 2}),
    _pool("maxReplicas", scaling={"minReplicas": 51}),
    _pool("scaling.maxReplicas", scaling={"minReplicas": 0, "maxReplicas": 0}),
    _pool("scaling.policy", scaling__policy="Random"),
    _pool("cpuTargetPercent", scaling__cpuTargetPercent=101),
    _pool("drainTimeSeconds", scaling__drainTimeSeconds=9),
    _pool("targetJobsPerWorker", scaling__targetJobsPerWorker=0),
    _pool("scaleInCooldownSeconds", scaling__scaleInCooldownSeconds=-1),
    _pool("scaleInBusy", scaling__scaleInBusy="KillThem"),
    _pool("rollout.initialReplicas", rollout__initialReplicas=0),
    _pool("rollout.minSuccessPercent", rollout__minSuccessPercent=101),
    _pool("rollout.minJobs", rollout__minJobs=501),
    _pool("rollout.steps", rollout__steps=[]),
    _pool("percent must ascend and end at 100", rollout__steps=[{"percent": 25}]),
    _pool(
        "percent must ascend and end at 100",
        rollout__steps=[{"percent": 50}, {"percent": 25}, {"percent": 100}],
    ),
    _pool("percent must ascend and end at 100", rollout__steps=[{"percent": 100}, {"percent": 100}]),
]
