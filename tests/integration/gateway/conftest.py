"""A gateway for each test: its own database, and the folder's namespace with real ServiceAccounts and RBAC."""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator

import pytest_asyncio
import yaml
from gateway_world import AUDIENCE, CALLERS, Cluster, Gateway, World, manifests
from lightkube.config.kubeconfig import KubeConfig
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from import_core.adapters.kube.client import RETRY_AFTER_CAUSE, KubeClient
from import_core.adapters.postgres import Database
from import_gateway.serving import AppServer
from import_local.kubectl import run_kubectl
from import_local.parts.control_plane import ControlPlane
from import_local.parts.postgres import PostgresServer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway_cluster(control_plane_server: ControlPlane) -> AsyncIterator[Cluster]:
    admin = control_plane_server.kubeconfig
    namespace = f"gateway-{uuid.uuid4().hex[:8]}"
    await run_kubectl(admin, "create", "namespace", namespace)
    rights = yaml.safe_dump_all(manifests(namespace)).encode()
    await run_kubectl(admin, "--namespace", namespace, "apply", "-f", "-", stdin=rights)
    own = await run_kubectl(admin, "--namespace", namespace, "create", "token", "import-gateway")
    kubeconfig = control_plane_server.kubeconfig_with_token(
        f"{namespace}-gateway", own.strip(), namespace=namespace
    )
    async with KubeClient(KubeConfig.from_file(admin)) as kube:
        cluster = Cluster(namespace, admin, kubeconfig, kube, {})
        for caller in (*CALLERS, "nobody"):
            cluster.tokens[caller] = await cluster.token(caller, audience=AUDIENCE)
        yield cluster
    await run_kubectl(admin, "delete", "namespace", namespace, "--wait=false")


@pytest_asyncio.fixture(loop_scope="session")
async def world(gateway_cluster: Cluster, database_url: str) -> AsyncIterator[World]:
    database = Database(database_url, application="tests", maximum=4)
    await database.open(wait_seconds=10)
    yield World(gateway_cluster, database, database_url)
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(world: World) -> AsyncIterator[Gateway]:
    async with world.gateway() as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def steady_gateway(
    gateway_cluster: Cluster, postgres_server: PostgresServer, migrated_template: str
) -> AsyncIterator[Gateway]:
    """One gateway for all tests that don't look at rows."""
    url = await postgres_server.create_database(f"test_{uuid.uuid4().hex}", template=migrated_template)
    database = Database(url, application="tests", maximum=2)
    await database.open(wait_seconds=10)
    async with World(gateway_cluster, database, url).gateway() as gateway:
        yield gateway
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def refusing_webhook(control_plane_server: ControlPlane) -> AsyncIterator[tuple[int, str]]:
    """Port and CA of a webhook that refuses everything with 503."""
    authority = control_plane_server.authority
    serving = authority.issue("refusing-webhook", common_name="webhook", hosts=["127.0.0.1"])

    async def admit(request: Request) -> JSONResponse:
        review = await request.json()
        refusal = {
            "uid": review["request"]["uid"],
            "allowed": False,
            "status": {
                "code": 503,
                "message": "There is no room; come back in about 7 minutes",
                "details": {"causes": [{"reason": RETRY_AFTER_CAUSE, "message": "420"}]},
            },
        }
        return JSONResponse({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": refusal})

    app = Starlette(routes=[Route("/admit", admit, methods=["POST"])])
    server = AppServer(
        app, "127.0.0.1", 0, close_seconds=1, ssl_certfile=serving.certificate, ssl_keyfile=serving.key
    )
    running = asyncio.create_task(server.run())
    yield server.port, base64.b64encode(authority.certificate.read_bytes()).decode()
    server.stop()
    await running
