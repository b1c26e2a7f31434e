"""For `bench search`: the gateway as a process, which knows its caller by a token and searches by embeddings, too.

A real API server reviews the token and the caller's right, pgvector holds a vector of each product's title by the
stand-in model, and the gateway embeds each query with it. The cache is a Valkey of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import numpy

from import_core.adapters.models.siglip import load_siglip
from import_core.adapters.postgres.pool import Connection
from import_local.embedding_model import make_embedding_model
from import_local.kubectl import run_kubectl
from import_local.parts.control_plane import ControlPlane
from import_local.parts.valkey import ValkeyServer
from import_local.ports import free_port
from import_local.processes import base_environment

NAMESPACE = "imports"
CALLER = "searcher"
TITLES_AT_ONCE = 1_000
LONGEST_START = 60.0
TITLES = 'SELECT id, "companyId", title FROM "Product" WHERE "companyId" = %s ORDER BY id'
# Building the index at once takes a fraction of what adding each vector to it does.
WITHOUT_INDEX = "DROP INDEX imports.product_embedding_nearest"
COPY_VECTORS = """
COPY imports.product_embedding (product_id, kind, company_id, content_hash, model_checksum, embedding)
FROM STDIN (FORMAT BINARY)
"""
BUILD = """
SET maintenance_work_mem = '512MB';
CREATE INDEX product_embedding_nearest
    ON imports.product_embedding USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64);
ANALYZE imports.product_embedding
"""
ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": CALLER, "namespace": NAMESPACE},
    "rules": [{"apiGroups": ["imports.avnz.io"], "resources": ["products"], "verbs": ["get"]}],
}
Ask = Callable[[str], Awaitable[None]]


async def embed_titles(connection: Connection, company: str, model: Path) -> None:
    """Keep a vector of each of the company's titles, then build their index."""
    await asyncio.to_thread(make_embedding_model, model)
    embedder = await asyncio.to_thread(load_siglip, model, batch=64)
    products = await (await connection.execute(TITLES, (company,))).fetchall()
    await connection.execute(WITHOUT_INDEX)
    async with connection.cursor() as cursor, cursor.copy(COPY_VECTORS) as copy:
        copy.set_types(["text", "text", "text", "text", "text", "bytea"])
        for start in range(0, len(products), TITLES_AT_ONCE):
            part = products[start : start + TITLES_AT_ONCE]
            vectors = await embedder.embed_texts([title for _, _, title in part])
            for (product_id, of, _), vector in zip(part, vectors, strict=True):
                row = (product_id, "text", of, "h", embedder.checksum, _as_vector(vector))
                await copy.write_row(row)
    await embedder.aclose()
    for statement in BUILD.split(";"):
        await connection.execute(statement)


def _as_vector(values: list[float]) -> bytes:
    """As pgvector receives it: how many, two bytes that it does not use, then 32-bit numbers."""
    return len(values).to_bytes(2, "big") + b"\0\0" + numpy.asarray(values, ">f4").tobytes()


async def start_gateway(
    stack: AsyncExitStack, folder: Path, *, database_url: str, model: Path, company: str
) -> Ask:
    """Start a control plane, a cache and the gateway, all ended by `stack`; returns what asks it as the caller."""
    control_plane = ControlPlane(folder / "control-plane", log_folder=folder, durable=False)
    cache = ValkeyServer(folder / "cache", log_path=folder / "cache.log")
    for part in (control_plane, cache):
        await part.start()
        stack.push_async_callback(part.stop)
    token = await _admit_caller(control_plane.kubeconfig)
    port = free_port()
    environment = base_environment(
        DATABASE_URL=database_url,
        REDIS_URL=cache.url,
        EMBEDDING_MODEL_PATH=str(model),
        KUBECONFIG=str(control_plane.kubeconfig),
        HTTP_PORT=str(port),
        HEALTH_PORT=str(free_port()),
        ADMISSION_PORT=str(free_port()),
        POD_NAMESPACE=NAMESPACE,
        CALLS_PER_MINUTE="100000",
        SEARCH_SECONDS="30",
        DRAIN_SECONDS="0",
        PATH=os.environ["PATH"],
    )
    with (folder / "gateway.log").open("wb") as log:
        gateway = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "import_gateway"), env=environment, stdout=log, stderr=log
        )
    stack.push_async_callback(_stop, gateway)
    client = await stack.enter_async_context(
        httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=60,
        )
    )
    await _until_it_answers(client, gateway)

    async def ask(query: str) -> None:
        answer = await client.get("/v1/search", params={"companyId": company, "q": query})
        if answer.status_code != 200 or answer.json()["degraded"]:
            raise RuntimeError(answer.text)

    return ask


async def _admit_caller(kubeconfig: Path) -> str:
    """Make a caller who may search; returns its token."""
    await run_kubectl(kubeconfig, "create", "namespace", NAMESPACE)
    await run_kubectl(kubeconfig, "apply", "-f", "-", stdin=json.dumps(ROLE).encode())
    for words in (
        ("serviceaccount", CALLER),
        ("rolebinding", CALLER, f"--role={CALLER}", f"--serviceaccount={NAMESPACE}:{CALLER}"),
    ):
        await run_kubectl(kubeconfig, "-n", NAMESPACE, "create", *words)
    made = await run_kubectl(
        kubeconfig, "-n", NAMESPACE, "create", "token", CALLER, "--audience=import-gateway", "--duration=2h"
    )
    return made.strip()


async def _until_it_answers(client: httpx2.AsyncClient, gateway: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(LONGEST_START):
        while gateway.returncode is None:
            try:
                await client.get("/healthz")
            except httpx2.TransportError:
                await asyncio.sleep(0.2)
            else:
                return
    raise RuntimeError("the gateway has ended")


async def _stop(gateway: asyncio.subprocess.Process) -> None:
    if gateway.returncode is None:
        gateway.terminate()
        await gateway.wait()
