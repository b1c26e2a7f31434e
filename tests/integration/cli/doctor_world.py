"""An installation as doctor sees it: what deploy/base gives, an operator's traces, stores, an Alertmanager's API."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from cli_world import CliWorld

from import_core.domain.certificates import LIFE
from import_gateway.admission.certificates import KeyPair, make_key_pair
from import_local.kubectl import run_kubectl
from import_local.parts.objectstore import Bucket

Json = dict[str, Any]
ROOT = Path(__file__).parents[3]
NAMESPACED = ("ServiceAccount", "Role", "RoleBinding")
CLUSTER = ("ClusterRole", "ClusterRoleBinding")
ROUTED = {
    "route": {
        "receiver": "channel",
        "routes": [{"matchers": ['severity="critical"'], "receiver": "on-call"}],
    },
    "receivers": [
        {"name": "channel", "slack_configs": [{"channel": "#imports"}]},
        {"name": "on-call", "pagerduty_configs": [{}], "slack_configs": [{"channel": "#imports"}]},
    ],
}


def manifests(namespace: str) -> list[Json]:
    """Accounts and rights of deploy/base, for this namespace."""
    documents = [
        document
        for path in sorted((ROOT / "deploy" / "base").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document and document["kind"] in (*NAMESPACED, *CLUSTER)
    ]
    for document in documents:
        if document["kind"] in NAMESPACED:
            document["metadata"]["namespace"] = namespace
        for subject in document.get("subjects", ()):
            subject["namespace"] = namespace
    return documents


class Patient:
    """Makes an installation that is well, and makes it ill."""

    def __init__(self, cli: CliWorld, redis_url: str, bucket: Bucket, alertmanager_url: str) -> None:
        self.cli = cli
        self.environment: dict[str, str | None] = {
            "REDIS_URL": redis_url,
            "S3_BUCKET": bucket.name,
            "S3_ENDPOINT_URL": bucket.endpoint_url,
            "AWS_REGION": bucket.region,
            "AWS_ACCESS_KEY_ID": bucket.access_key_id,
            "AWS_SECRET_ACCESS_KEY": bucket.secret_access_key,
            "ALERTMANAGER_URL": alertmanager_url,
        }

    async def kubectl(self, *arguments: str, stdin: bytes | None = None) -> str:
        return await run_kubectl(
            self.cli.kubeconfig, "--namespace", self.cli.namespace, *arguments, stdin=stdin
        )

    async def apply(self, *documents: Json) -> None:
        await self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents).encode())

    async def install(self) -> None:
        """All that an installation has when it is well."""
        await self.apply(*manifests(self.cli.namespace))
        await self.cli.pool()
        await self.lead()
        await self.measure()
        await self.certify(make_key_pair(["gateway"], now=datetime.now(UTC), life=LIFE))

    async def lead(
        self, *, ago: timedelta = timedelta(), holder: str = "operator-1", seconds: int = 3600
    ) -> None:
        """An operator's Lease; by itself it lasts for longer than a test on a busy machine, as nobody renews it."""
        renewed = (datetime.now(UTC) - ago).isoformat().replace("+00:00", "Z")
        await self.apply(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "import-operator", "namespace": self.cli.namespace},
                "spec": {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": renewed},
            }
        )

    async def measure(self, *, seconds_ago: int = -600) -> None:
        """What the guard loop writes of a queue; by itself ahead of time, as nobody measures it again meanwhile."""
        await self.cli.sql(
            """INSERT INTO imports.queue_state (queue, health_level, health_since, depth, measured_at)
            VALUES ('product-imports', 'HEALTHY', now(), 0, now() - %s * interval '1 second')
            ON CONFLICT (queue) DO UPDATE SET measured_at = excluded.measured_at""",
            seconds_ago,
        )

    async def certify(self, pair: KeyPair, *, trusted: bytes | None = None) -> None:
        """The webhook's Secret and configuration; `trusted` None: the authority of the pair."""
        encoded = {
            name: base64.b64encode(value).decode()
            for name, value in (("tls.crt", pair.certificate), ("ca.crt", pair.authority))
        }
        bundle = base64.b64encode(pair.authority if trusted is None else trusted).decode()
        await self.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "import-gateway-certificate", "namespace": self.cli.namespace},
                "data": encoded,
            },
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": "import-gateway"},
                "webhooks": [
                    {
                        "name": "importjobs.imports.avnz.io",
                        "admissionReviewVersions": ["v1"],
                        "sideEffects": "None",
                        "failurePolicy": "Ignore",
                        # No namespace has it: the configuration is looked at, never called.
                        "namespaceSelector": {"matchLabels": {"imports.avnz.io/doctor": self.cli.namespace}},
                        "clientConfig": {"url": "https://127.0.0.1:9/admission", "caBundle": bundle},
                    }
                ],
            },
        )

    async def remove(self) -> None:
        """What is not in the namespace."""
        await self.kubectl(
            *("delete", "--ignore-not-found", "validatingwebhookconfiguration/import-gateway"),
            *(
                f"{document['kind']}/{document['metadata']['name']}"
                for document in manifests(self.cli.namespace)
                if document["kind"] in CLUSTER
            ),
        )

    async def examine(self, *arguments: str, **environment: str | None) -> tuple[int, dict[str, Json]]:
        """Run doctor; returns its exit code and the findings by check."""
        result = await self.cli.invoke(
            "doctor", "-o", "json", *arguments, **{**self.environment, **environment}
        )
        assert result.stdout, result.stderr
        return result.exit_code, {
            finding["check"]: finding for finding in json.loads(result.stdout)["checks"]
        }

    async def ails(
        self, check: str, words: str, *, verdict: str = "failed", **environment: str | None
    ) -> None:
        """Exactly this check is not well, says so in these words, and how to mend it."""
        code, findings = await self.examine(**environment)
        unwell = {name: finding for name, finding in findings.items() if finding["verdict"] != "ok"}
        assert set(unwell) == {check}, unwell
        assert unwell[check]["verdict"] == verdict
        assert words in unwell[check]["message"]
        assert unwell[check]["fix"]
        assert code == (1 if verdict == "failed" else 0)


@contextmanager
def alertmanager_api(configuration: Json) -> Iterator[str]:
    """Answer /api/v2/status as Alertmanager does, with this configuration."""
    body = json.dumps({"config": {"original": yaml.safe_dump(configuration)}, "uptime": "x"}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/v2/status" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
