"""Both vector indexes: pgvector in a database of the test's own, milvus-lite in a file of the session's."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from vector_rows import Kept

from import_core.adapters.postgres import Database
from import_core.adapters.vectors.milvus import MilvusVectorIndex
from import_core.adapters.vectors.opening import open_vector_index
from import_core.adapters.vectors.settings import VectorIndexKind, VectorSettings


@pytest_asyncio.fixture(loop_scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, application="tests")
    await database.open(wait_seconds=10)
    yield database
    await database.close()


@pytest.fixture(scope="session")
def milvus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all tests: it takes a second to open. Each test has a collection of its own in it."""
    return tmp_path_factory.mktemp("milvus") / "vectors.db"


@pytest.fixture
def milvus_settings(milvus_file: Path) -> VectorSettings:
    return VectorSettings(
        vector_index=VectorIndexKind.MILVUS,
        milvus_uri=os.environ.get("TEST_MILVUS_URI") or str(milvus_file),
        milvus_collection=f"test_{uuid.uuid4().hex}",
        # The first call imports the client and starts milvus-lite, which takes a busy machine a while.
        milvus_timeout_seconds=60,
    )


@pytest_asyncio.fixture(loop_scope="session")
async def milvus(milvus_settings: VectorSettings, database: Database) -> AsyncIterator[MilvusVectorIndex]:
    index = open_vector_index(milvus_settings, database)
    assert isinstance(index, MilvusVectorIndex)
    yield index
    await index.aclose()


@pytest.fixture(params=list(VectorIndexKind))
def kept(request: pytest.FixtureRequest, database: Database) -> Kept:
    """Each of the two in turn."""
    if request.param is VectorIndexKind.MILVUS:
        return Kept(request.getfixturevalue("milvus"), database)
    return Kept(open_vector_index(VectorSettings(), database), database)
