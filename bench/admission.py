"""Admission reviews answered at 500 a second: how late, beside a bare TLS echo, and how often the store is asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from lightkube.config.kubeconfig import KubeConfig

from bench.places import state_folder
from bench.table import percentile, print_table
from import_core.adapters.kube.client import KubeClient
from import_gateway.admission.certificates import make_key_pair
from import_gateway.admission.webhook import PATH
from import_local.demo.manifests import NAMESPACE
from import_local.installation import Installation
from import_local.kubectl import run_kubectl
from import_local.ports import free_port
from import_local.processes import base_environment

PER_SECOND = 500
SECONDS = 5
RUNS = 5
COMPANIES = 200
CONNECTIONS = 32
PERIOD_SECONDS = 10
"""For so long the gateway uses an answer again (INTAKE_CACHE_SECONDS)."""


async def main() -> None:
    """Run and print."""
    with state_folder() as folder:
        async with Installation(folder) as installation, _bare_echo(folder.parent) as (echo_port, trust):
            await _measure(installation, echo_port, trust)


async def _measure(installation: Installation, echo_port: int, echo_trust: ssl.SSLContext) -> None:
    async with KubeClient(KubeConfig.from_file(installation.kubeconfig)) as kube:
        secret = await kube.get_secret(NAMESPACE, "import-gateway-certificate")
    trust = ssl.create_default_context()
    trust.load_verify_locations(cadata=(secret or {})["ca.crt"])
    port = int(installation.admission_url.rsplit(":", 1)[1])
    bodies = [_review(f"company-{number}") for number in range(COMPANIES)]
    bare: list[list[float]] = []
    ours: list[list[float]] = []
    questions_before, began = await _questions(installation), time.monotonic()
    for _ in range(RUNS):
        bare.append(await _load(echo_port, echo_trust, "/", bodies))
        ours.append(await _load(port, trust, PATH, bodies))
    periods = (time.monotonic() - began) / PERIOD_SECONDS + 1
    asked = {
        about: count - questions_before.get(about, 0)
        for about, count in (await _questions(installation)).items()
    }
    rows = [
        (f"{name}: {word}", _milliseconds([percentile(run, share) for run in runs]))
        for name, runs in (("bare TLS echo", bare), ("webhook", ours))
        for word, share in (("median", 0.5), ("p99", 0.99))
    ]
    ratios = [
        percentile(mine, 0.5) / percentile(theirs, 0.5) for mine, theirs in zip(ours, bare, strict=True)
    ]
    rows.append(
        ("ratio of the medians", f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
    )
    print_table(("latency at 500 reviews a second", "median of the runs (range)"), rows)
    print(
        f"\n{RUNS} interleaved runs of {SECONDS} s, {COMPANIES} companies; latency counts from the moment a review was"
        f" due. Asked in about {periods:.1f} periods of {PERIOD_SECONDS} s:"
        f" company {asked.get('company', 0):.0f} (at most {COMPANIES} a period), queue {asked.get('queue', 0):.0f},"
        f" namespace {asked.get('namespace', 0):.0f} (at most one a period)"
    )


def _milliseconds(values: list[float]) -> str:
    low, middle, high = (value * 1000 for value in (min(values), statistics.median(values), max(values)))
    return f"{middle:.2f} ms ({low:.2f}–{high:.2f})"


def _review(company: str) -> bytes:
    """As the API server sends it, managed fields and all: about 1.3 kB."""
    spec: dict[str, Any] = {
        "companyId": company,
        "providerRef": {"name": company},
        "images": {"maxPerProduct": 20},
    }
    managed = {
        "manager": "kubectl-create",
        "operation": "Update",
        "fieldsV1": {"f:spec": {f"f:{key}": {} for key in spec}},
    }
    metadata = {"name": f"job-{company}", "namespace": NAMESPACE, "managedFields": [managed]}
    job = {"apiVersion": "imports.avnz.io/v1alpha1", "kind": "ImportJob", "metadata": metadata, "spec": spec}
    resource = {"group": "imports.avnz.io", "version": "v1alpha1", "resource": "importjobs"}
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "imports.avnz.io", "version": "v1alpha1", "kind": "ImportJob"},
        "resource": resource,
        "requestKind": {"group": "imports.avnz.io", "version": "v1alpha1", "kind": "ImportJob"},
        "requestResource": resource,
        "name": metadata["name"],
        "namespace": NAMESPACE,
        "operation": "CREATE",
        "userInfo": {"username": "bench", "groups": ["system:masters", "system:authenticated"]},
        "object": job,
        "oldObject": None,
        "dryRun": True,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    return json.dumps(
        {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    ).encode()


async def _load(port: int, trust: ssl.SSLContext, path: str, bodies: list[bytes]) -> list[float]:
    """Ask at a steady pace, whether answers come or not; returns seconds from due to answered, for each."""
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port, ssl=trust))
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    requests = [head.encode() + b"%d\r\n\r\n" % len(body) + body for body in bodies]
    latencies: list[float] = []
    start = time.perf_counter() + 0.05

    async def ask(number: int) -> None:
        due = start + number / PER_SECOND
        reader, writer = await free.get()
        writer.write(requests[number % len(requests)])
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", answer)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert length is not None
        assert b'"allowed":true' in await reader.readexactly(int(length[1]))
        latencies.append(time.perf_counter() - due)
        free.put_nowait((reader, writer))

    async with asyncio.TaskGroup() as group:
        for number in range(PER_SECOND * SECONDS):
            await asyncio.sleep(max(0.0, start + number / PER_SECOND - time.perf_counter()))
            group.create_task(ask(number))
    while not free.empty():
        _, writer = free.get_nowait()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return latencies


async def _questions(installation: Installation) -> dict[str, float]:
    words = ("-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/name=import-gateway")
    address = await run_kubectl(installation.kubeconfig, *words, "-o", "jsonpath={.items[0].status.podIP}")
    async with httpx2.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://{address}:8080/metrics")).text
    found = re.findall(r'^imports_admission_questions_total\{about="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {about: float(count) for about, count in found}


@asynccontextmanager
async def _bare_echo(folder: Path) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    pair = make_key_pair(["127.0.0.1"], now=datetime.now(UTC), life=timedelta(days=1))
    path, port = folder / "echo.pem", free_port()
    path.write_bytes(pair.certificate + pair.key)
    trust = ssl.create_default_context()
    trust.load_verify_locations(cadata=pair.authority.decode())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.tls_echo", str(port), str(path), env=base_environment()
    )
    try:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
                    writer.close()
                    break
                await asyncio.sleep(0.1)
        yield port, trust
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
