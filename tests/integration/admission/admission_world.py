"""Gateways as real processes that a real API server asks, in a namespace with the rights of deploy/base."""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import ssl
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import yaml
from eventually import eventually

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.domain.backpressure import HealthLevel, QueueHealth, Thresholds
from import_core.domain.jobs import DEFAULT_QUEUE
from import_local.kubectl import KubectlError, run_kubectl
from import_local.ports import free_port

Json = dict[str, Any]
ROOT = Path(__file__).parents[3]
KINDS = {
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "Secret",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
CLUSTER_KINDS = KINDS - {"ServiceAccount", "Role", "RoleBinding", "Secret"}
SECRET = "import-gateway-certificate"
STOP_SECONDS = 30.0
DEPTHS = {
    HealthLevel.HEALTHY: 10,
    HealthLevel.DEGRADED: 2_000,
    HealthLevel.CRITICAL: 6_000,
    HealthLevel.OVERLOAD: 12_000,
}


def manifests(namespace: str, *, webhook_url: str) -> list[Json]:
    """What deploy/base installs for the gateway, for a namespace of a cluster that has several of them."""
    return [
        _placed(document, namespace, webhook_url)
        for file in sorted((ROOT / "deploy" / "base").glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
        if document.get("kind") in KINDS
    ]


def _placed(document: Json, namespace: str, webhook_url: str) -> Json:
    kind = document["kind"]
    if kind in CLUSTER_KINDS:
        document["metadata"]["name"] = f"{document['metadata']['name']}-{namespace}"
    if kind == "ClusterRoleBinding":
        document["roleRef"]["name"] = f"{document['roleRef']['name']}-{namespace}"
        document["subjects"] = [{**subject, "namespace": namespace} for subject in document["subjects"]]
    if kind.startswith("ValidatingAdmissionPolicy"):
        # kustomize does not know that these are the cluster's; the API server clears it.
        document["metadata"]["namespace"] = namespace
    if kind == "ValidatingAdmissionPolicyBinding":
        document["spec"]["policyName"] = f"{document['spec']['policyName']}-{namespace}"
    if kind == "ClusterRole":
        for rule in document["rules"]:
            if "resourceNames" in rule:
                rule["resourceNames"] = [f"{name}-{namespace}" for name in rule["resourceNames"]]
    if kind == "ValidatingWebhookConfiguration":
        webhook = document["webhooks"][0]
        webhook["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] = namespace
        path = webhook["clientConfig"]["service"]["path"]
        webhook["clientConfig"] = {"url": f"{webhook_url}{path}"}
    return document


@dataclass
class Gateway:
    """One replica."""

    process: asyncio.subprocess.Process
    log: Path
    health: httpx2.AsyncClient
    """Speaks to its health port."""

    async def metric(self, name: str) -> dict[str, float]:
        """The samples of a metric, by their labels as text."""
        text = (await self.health.get("/metrics")).text
        samples = re.findall(rf"^{name}(\{{.*?\}})? (\S+)$", text, re.MULTILINE)
        return {labels.strip("{}"): float(value) for labels, value in samples}

    async def ready(self) -> bool:
        assert self.process.returncode is None, self.log.read_text()[-3000:]
        try:
            return (await self.health.get("/readyz")).status_code == 200
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.terminate()
        try:
            return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        finally:
            if self.process.returncode is None:
                self.process.kill()
            await self.health.aclose()


@dataclass
class World:
    """A namespace whose ImportJobs the gateway is asked about."""

    namespace: str
    admin: Path
    gateway_kubeconfig: Path
    kube: KubeClient
    port: int
    database: Database
    database_url: str
    folder: Path
    gateways: list[Gateway] = field(default_factory=list)

    @property
    def configuration(self) -> str:
        return f"import-gateway-{self.namespace}"

    async def start(self, *, wait: bool = True, **environment: str) -> Gateway:
        number, health_port = len(self.gateways), free_port()
        log = self.folder / f"gateway-{number}.log"
        variables = {
            "PATH": os.environ["PATH"],
            **{key: value for key, value in os.environ.items() if key.startswith("COVERAGE_PROCESS")},
            "KUBECONFIG": str(self.gateway_kubeconfig),
            "DATABASE_URL": self.database_url,
            "POD_NAME": f"gateway-{number}",
            "POD_NAMESPACE": self.namespace,
            "HEALTH_PORT": str(health_port),
            "HTTP_PORT": "0",
            "SHARED_ADDRESS": "127.0.0.1",
            "ADMISSION_PORT": str(self.port),
            "ADMISSION_HOSTS": "127.0.0.1",
            "WEBHOOK_CONFIGURATION": self.configuration,
            "INTAKE_CACHE_SECONDS": "0.2",
            "CERTIFICATE_CHECK_SECONDS": "0.2",
            "DRAIN_SECONDS": "0",
            **environment,
        }
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "import_gateway", env=variables, stdout=output, stderr=output
            )
        client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{health_port}", trust_env=False, timeout=10)
        gateway = Gateway(process, log, client)
        self.gateways.append(gateway)
        if wait:
            await eventually(gateway.ready, seconds=60, what=f"a ready gateway ({log})")
        return gateway

    async def reviews(self) -> float:
        """How often the gateways that run were asked."""
        running = [gateway for gateway in self.gateways if gateway.process.returncode is None]
        found = [await gateway.metric("imports_admission_reviews_total") for gateway in running]
        return sum(sum(each.values()) for each in found)

    async def until_asked(self) -> None:
        """Wait for the API server's first question: it learns of an authority a moment after that is written.

        Before it, and until the gateway has its first answer of the queue, jobs are let through.
        """

        async def asked() -> bool:
            with contextlib.suppress(KubectlError):
                await self.kubectl("create", "--dry-run=server", "-f", "-", stdin=import_job("asked"))
            return await self.reviews() > 0

        await eventually(asked, what="the API server's first question")

    async def kubectl(self, *words: str, stdin: Json | None = None) -> str:
        content = json.dumps(stdin).encode() if stdin is not None else None
        return await run_kubectl(self.admin, "--namespace", self.namespace, *words, stdin=content)

    async def queue(self, level: HealthLevel, *, stopped: bool = False, per_minute: float = 60.0) -> None:
        """Have the queue be of this level, as the operator's guard writes it."""
        store = QueueStateStore(self.database)
        now = datetime.now(UTC)
        async with store.locked(DEFAULT_QUEUE) as locked:
            before = locked.state
            health = QueueHealth(level, now, DEPTHS[level], now)
            intake = replace(before.intake.intake, stopped=stopped, since=now, reason="full")
            state = replace(before.intake, health=health, intake=intake, thresholds=Thresholds())
            await locked.save(replace(before, intake=state, starts_per_minute=per_minute), tell=True)

    async def company(self, company: str, tier: str) -> None:
        await self.execute("""INSERT INTO "Company" (id, tier) VALUES (%s, %s)""", (company, tier))

    async def execute(self, statement: str, parameters: tuple[Any, ...] = ()) -> None:
        async with self.database.connection() as connection:
            await connection.execute(statement, parameters)

    async def secret(self) -> dict[str, bytes]:
        body = json.loads(await self.kubectl("get", "secret", SECRET, "-o", "json"))
        return {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}

    async def bundle(self) -> bytes:
        body = await self.kube.get_webhook_configuration(self.configuration)
        assert body is not None
        return base64.b64decode(body["webhooks"][0]["clientConfig"].get("caBundle") or "")

    async def ask(self, authorities: bytes | None = None) -> ssl.SSLContext:
        """A context that trusts what the API server trusts."""
        context = ssl.create_default_context()
        context.load_verify_locations(cadata=(authorities or await self.bundle()).decode())
        return context

    async def served(self) -> bytes:
        """The certificate that one of the replicas serves, checked as the API server does."""
        context = await self.ask()
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return certificate


def import_job(name: str, company: str = "acme", **spec: Any) -> Json:
    wanted = {"companyId": company, "providerRef": {"name": f"{company}-shopify"}}
    return {
        "apiVersion": "imports.avnz.io/v1alpha1",
        "kind": "ImportJob",
        "metadata": {"name": name},
        "spec": {**wanted, **spec},
    }


def review(company: str = "acme", *, namespace: str = "imports", **request: Any) -> Json:
    """What the API server sends; the fields that are not looked at are left out."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "operation": "CREATE",
            "namespace": namespace,
            "resource": {"group": "imports.avnz.io", "version": "v1alpha1", "resource": "importjobs"},
            "object": import_job("job", company),
            **request,
        },
    }
