"""Real servers for tests: started once per session on free loopback ports, ended with the session.

Each is its own child process that also ends when the test process is killed. A test gets something of its
own inside them: a database, an emptied Valkey, a bucket.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from grouping import FolderScheduling
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from import_local.kubectl import apply_definitions
from import_local.parts.control_plane import ControlPlane
from import_local.parts.objectstore import Bucket, ObjectStoreServer
from import_local.parts.postgres import PostgresServer
from import_local.parts.valkey import ValkeyServer

# A busy machine draws examples slowly; what is drawn is bounded by each test's own settings.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

# What is logged within the tests' own process. structlog's usual form shows each error with all that its functions
# hold, which takes seconds of a busy machine: whoever waits in this loop for an answer runs out of time meanwhile.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

_PROJECT = Path(__file__).parents[1]
_TEMPLATE = "migrated_template"


@pytest.fixture(scope="session", autouse=True)
def no_other_cluster() -> Iterator[None]:
    """Hide the developer's own clusters: a test that forgets its kubeconfig fails instead of reaching one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", os.devnull)
        patch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """Folder for the servers' data; not pytest's own, which PostgreSQL's user can't reach as root."""
    folder = Path(tempfile.mkdtemp(prefix="import-operator-tests-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server(servers_folder: Path) -> AsyncIterator[PostgresServer]:
    """PostgreSQL 18 without durability, for the session."""
    server = PostgresServer(
        servers_folder / "postgres", log_path=servers_folder / "postgres.log", durable=False
    )
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def empty_database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """URL of a new database without any table."""
    name = f"test_{uuid.uuid4().hex}"
    yield await postgres_server.create_database(name)
    await postgres_server.drop_database(name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_template(postgres_server: PostgresServer) -> str:
    """Name of a database that was migrated once; copying it is faster than migrating again."""
    from import_core.adapters.postgres import migrate

    await migrate(await postgres_server.create_database(_TEMPLATE))
    return _TEMPLATE


@pytest_asyncio.fixture(loop_scope="session")
async def database_url(postgres_server: PostgresServer, migrated_template: str) -> AsyncIterator[str]:
    """URL of a new database with the current schema and no rows."""
    name = f"test_{uuid.uuid4().hex}"
    yield await postgres_server.create_database(name, template=migrated_template)
    await postgres_server.drop_database(name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey_server(servers_folder: Path) -> AsyncIterator[ValkeyServer]:
    """Valkey for the session."""
    server = ValkeyServer(servers_folder / "valkey", log_path=servers_folder / "valkey.log")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def redis_url(valkey_server: ValkeyServer) -> str:
    """URL of an emptied Valkey."""
    client = Redis.from_url(valkey_server.url)
    await client.flushall()
    await client.aclose()
    return valkey_server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def object_store_server(servers_folder: Path) -> AsyncIterator[ObjectStoreServer]:
    """S3 server for the session."""
    server = ObjectStoreServer(servers_folder / "object-store", log_path=servers_folder / "object-store.log")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def object_store(object_store_server: ObjectStoreServer) -> AsyncIterator[Bucket]:
    """Return an empty bucket of the test's own."""
    bucket = await object_store_server.create_bucket(f"test-{uuid.uuid4().hex}")
    yield bucket
    await object_store_server.delete_bucket(bucket.name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def control_plane_server(servers_folder: Path) -> AsyncIterator[ControlPlane]:
    """Run a real Kubernetes control plane, without nodes, with the project's CRDs."""
    logs = servers_folder / "control-plane-logs"
    logs.mkdir()
    server = ControlPlane(servers_folder / "control-plane", log_folder=logs, durable=False)
    await server.start()
    await apply_definitions(server.kubeconfig, _PROJECT / "crds")
    yield server
    await server.stop()


@pytest.fixture
def control_plane(control_plane_server: ControlPlane) -> Path:
    """Return the administrator's kubeconfig of the test's own control plane, checked before each test."""
    control_plane_server.ensure_own(control_plane_server.kubeconfig)
    return control_plane_server.kubeconfig


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FolderScheduling:
    """Called by xdist in the process that hands tests out."""
    return FolderScheduling(config, log)
