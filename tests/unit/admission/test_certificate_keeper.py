"""Whatever goes wrong with the certificate, the keeper goes on: the gateway's API and page need none."""

import asyncio
from typing import Any, cast

import pytest

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.tasks import end_tasks
from import_gateway.admission.keeping import read_secret
from import_gateway.admission.rotation import CertificateKeeper
from import_gateway.admission.settings import AdmissionSettings
from import_gateway.metrics import GatewayMetrics


class Cluster:
    """An API server with an empty Secret; what is not named here raises AttributeError, as a mistake would."""

    def __init__(self) -> None:
        self.looks = 0
        self.looked_again = asyncio.Event()
        self.written: list[dict[str, Any]] = []

    async def get_webhook_configuration(self, _name: str) -> None:
        self.looks += 1
        if self.looks > 1:
            self.looked_again.set()

    async def get(self, *_which: object) -> dict[str, Any]:
        return self.written[-1] if self.written else {"metadata": {"name": "certificate"}}

    async def replace(self, _kind: object, _namespace: str, body: dict[str, Any]) -> None:
        self.written.append(body)


def keeper(cluster: Cluster, hosts: str) -> CertificateKeeper:
    settings = AdmissionSettings(admission_hosts=hosts, certificate_check_seconds=0.001)
    return CertificateKeeper(
        cast("KubeClient", cluster),
        settings,
        GatewayMetrics(),
        namespace="served",
        service_namespace="gateway",
        serve=lambda _: None,
    )


async def look_twice(cluster: Cluster, hosts: str) -> None:
    keeping = asyncio.create_task(keeper(cluster, hosts).run())
    looking = asyncio.create_task(cluster.looked_again.wait())
    await asyncio.wait({keeping, looking}, return_when=asyncio.FIRST_COMPLETED)
    if keeping.done():
        keeping.result()
    await end_tasks([keeping, looking])


async def test_odd_hosts_are_told_and_end_nothing() -> None:
    cluster = Cluster()
    await look_twice(cluster, "gäteway.example")
    assert cluster.looked_again.is_set()
    assert cluster.written == []


@pytest.mark.parametrize(
    ("setting", "hosts"),
    [
        ("", {"import-gateway-admission.gateway.svc"}),
        ("0:0:0:0:0:0:0:1, Gateway.example", {"::1", "gateway.example"}),
    ],
)
async def test_one_certificate_is_made_for_whatever_spelling(setting: str, hosts: set[str]) -> None:
    cluster = Cluster()
    await look_twice(cluster, setting)
    (written,) = cluster.written
    current = read_secret(written).state(None).current
    assert current is not None
    assert current.hosts == hosts
