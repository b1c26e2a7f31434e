"""Milvus alone: collections that do not fit, a server that is away, and flushes that are shared."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from vector_rows import Kept, vector, vectors

from import_core.adapters.postgres import Database
from import_core.adapters.vectors.milvus import Flushes, MilvusVectorIndex
from import_core.adapters.vectors.opening import open_vector_index
from import_core.adapters.vectors.settings import VectorIndexKind, VectorSettings
from import_core.domain.errors import MissingPackageError, VectorIndexUnavailableError
from import_local.ports import free_port

SOUGHT = vector("sought")


async def test_what_was_put_is_there_for_another_process(
    milvus_settings: VectorSettings, database: Database
) -> None:
    first = open_vector_index(milvus_settings, database)
    await Kept(first, database).keep(vectors("p-1", text=SOUGHT))
    await first.aclose()
    second = open_vector_index(milvus_settings, database)
    try:
        assert await Kept(second, database).found("acme", SOUGHT) == ["p-1"]
    finally:
        await second.aclose()


async def test_what_comes_late_of_an_earlier_version_changes_nothing(
    milvus: MilvusVectorIndex, database: Database
) -> None:
    """A worker that lost its claim, and wakes up when another one has embedded the product's next state."""
    kept = Kept(milvus, database)
    near = vector("n", near=SOUGHT)
    await kept.keep(vectors("p-1", text=near, state="new", version=2), vectors("p-2", version=2))
    await milvus.put([vectors("p-1", state="old", version=1), vectors("p-3", state="old", version=1)])
    await milvus.remove({"p-1": 1, "p-2": 1})
    assert await milvus.current({"p-1": "new", "p-2": "state-1"}, model_checksum="model-1") == {"p-1", "p-2"}
    assert set(await kept.found("acme", SOUGHT)) == {"p-1", "p-2", "p-3"}
    await kept.remove("p-1", version=2)
    assert set(await kept.found("acme", SOUGHT)) == {"p-2", "p-3"}


WRITE_AND_DIE = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[2])
from vector_rows import vectors
from import_core.adapters.vectors.milvus import MilvusVectorIndex
from import_core.adapters.vectors.settings import VectorIndexKind, VectorSettings

async def main():
    settings = VectorSettings(
        vector_index=VectorIndexKind.MILVUS, milvus_uri=sys.argv[1], milvus_timeout_seconds=60
    )
    index = MilvusVectorIndex(settings)
    await asyncio.gather(*(index.put([vectors(f"p-{writer}-{at}") for at in range(5)]) for writer in range(4)))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_was_put_survives_that_its_process_is_killed(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "vectors.db"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITE_AND_DIE, str(file), str(Path(__file__).parent)
    )
    assert await child.wait() == -signal.SIGKILL
    settings = VectorSettings(
        vector_index=VectorIndexKind.MILVUS, milvus_uri=str(file), milvus_timeout_seconds=60
    )
    index = open_vector_index(settings, database)
    try:
        assert len(await Kept(index, database).found("acme", SOUGHT, limit=100)) == 20
    finally:
        await index.aclose()


@pytest.mark.parametrize(
    ("dimensions", "fields", "reason"),
    [(768, ["id"], "it is not ours"), (8, None, "keeps vectors of 8 numbers and not 768")],
)
async def test_collection_of_another_shape_is_refused(
    milvus: MilvusVectorIndex,
    milvus_settings: VectorSettings,
    dimensions: int,
    fields: list[str] | None,
    reason: str,
) -> None:
    await asyncio.to_thread(make_collection, milvus_settings, dimensions, fields)
    with pytest.raises(VectorIndexUnavailableError, match=reason):
        await milvus.check()


def make_collection(settings: VectorSettings, dimensions: int, fields: list[str] | None) -> None:
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(settings.milvus_uri)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    names = fields or [
        "id",
        "company",
        "model",
        "company_id",
        "product_id",
        "kind",
        "content_hash",
        "model_checksum",
        "version",
    ]
    for name in names:
        schema.add_field(name, DataType.VARCHAR, is_primary=name == "id", max_length=80)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dimensions)
    client.create_collection(settings.milvus_collection, schema=schema)
    client.close()


async def test_server_that_is_away_is_told_and_asked_again(database: Database) -> None:
    settings = VectorSettings(
        vector_index=VectorIndexKind.MILVUS,
        milvus_uri=f"http://127.0.0.1:{free_port()}",
        milvus_timeout_seconds=1,
    )
    index = open_vector_index(settings, database)
    try:
        for attempt in (
            index.check,
            lambda: index.put([vectors("p-1")]),
            lambda: index.nearest("acme", SOUGHT, limit=1),
            lambda: index.remove({"p-1": 0}),
            lambda: index.current({"p-1": "s"}, model_checksum="m"),
        ):
            with pytest.raises(VectorIndexUnavailableError, match="Milvus"):
                await attempt()
    finally:
        await index.aclose()


async def test_server_that_says_nothing_is_given_up(database: Database) -> None:
    """Connected, but without an answer: gRPC's own time limit counts."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    settings = VectorSettings(
        vector_index=VectorIndexKind.MILVUS,
        milvus_uri=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        milvus_timeout_seconds=0.2,
    )
    index = open_vector_index(settings, database)
    try:
        with pytest.raises(VectorIndexUnavailableError, match="Milvus"):
            await index.check()
    finally:
        await index.aclose()
        server.close()


def test_without_an_address_the_setting_is_named(database: Database) -> None:
    with pytest.raises(VectorIndexUnavailableError, match="MILVUS_ADDRESS is not set"):
        open_vector_index(VectorSettings(vector_index=VectorIndexKind.MILVUS), database)


async def test_missing_package_is_named(
    milvus_settings: VectorSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    index = open_vector_index(milvus_settings, database)
    with pytest.raises(MissingPackageError, match=r"pymilvus.*import-operator\[milvus\]"):
        await index.check()
    await index.aclose()


async def test_flush_may_be_left_out(
    milvus_file: Path, milvus_settings: VectorSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    async def call(_: Any, method: str, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
        if method != "query":
            called.append(method)
        return []

    monkeypatch.setattr(MilvusVectorIndex, "_call", call)
    quick = open_vector_index(milvus_settings.model_copy(update={"milvus_flush": False}), database)
    await quick.put([vectors("p-1", image=SOUGHT)])
    assert called == ["upsert"]
    sure = open_vector_index(milvus_settings, database)
    await sure.put([vectors("p-1")])
    assert called[1:] == ["upsert", "delete", "flush"]
    await quick.aclose()
    await sure.aclose()


async def test_callers_share_a_flush_that_begins_after_they_asked() -> None:
    flushed = 0
    began, release = asyncio.Event(), asyncio.Semaphore(0)

    async def flush() -> None:
        nonlocal flushed
        flushed += 1
        began.set()
        await release.acquire()

    flushes = Flushes(flush)
    first = asyncio.create_task(flushes.join())
    await began.wait()
    # These wrote while the first was under way, which may not have seen it.
    later = [asyncio.create_task(flushes.join()) for _ in range(5)]
    await asyncio.sleep(0)
    later[0].cancel()
    release.release()
    await first
    assert not any(task.done() for task in later[1:])
    release.release()
    await asyncio.gather(*later[1:])
    assert flushed == 2


async def test_flush_that_fails_fails_for_all_who_wait_and_not_for_the_next() -> None:
    results: list[Exception | None] = [VectorIndexUnavailableError("gone"), None]

    async def flush() -> None:
        result = results.pop(0)
        if result is not None:
            raise result

    flushes = Flushes(flush)
    ended = await asyncio.gather(flushes.join(), flushes.join(), return_exceptions=True)
    assert [type(one) for one in ended] == [VectorIndexUnavailableError] * 2
    await flushes.join()
