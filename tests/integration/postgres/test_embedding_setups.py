"""Embeddings of another model or in another index: due again when an import brings the product again."""

from typing import Any

from test_step_store import EMBED, INDEX, commit, importing, page, states, take

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.embedding_setups import remember_setup, still_embedding
from import_core.domain.embedding import EmbeddingSetup
from import_core.domain.steps import StepDone

OLD, NEW = EmbeddingSetup("a" * 64, "pgvector"), EmbeddingSetup("b" * 64, "pgvector")
MOVED = EmbeddingSetup("b" * 64, "milvus/products")


async def embed(database: Database, setup: EmbeddingSetup) -> int:
    """Run what is due with a setup; returns how many batches there were."""
    return len(await take(database, EMBED, lambda product: StepDone(product, setup.to_result())))


async def test_a_product_is_embedded_again_after_a_change_of_the_model_or_the_index(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed, embedding=True, index=True)
    await commit(database, claim, page("a"))
    await embed(database, OLD)
    await take(database, INDEX)
    await commit(database, claim, page("a"))
    assert set((await states(database)).values()) == {"Done"}, "no worker has told of a model"
    for setup, batches in ((OLD, 0), (NEW, 1), (NEW, 0), (MOVED, 1), (OLD, 1), (OLD, 0)):
        await remember_setup(database, setup)
        await commit(database, claim, page("a"))
        assert (await states(database))["a", INDEX.value] == "Done", "words are not of the model"
        assert await embed(database, setup) == batches, setup


async def test_who_goes_on_embedding_is_newer_than_who_has_only_started_again(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed, embedding=True)
    await remember_setup(database, NEW)
    await commit(database, claim, page("a"))
    await embed(database, NEW)
    await remember_setup(database, OLD)
    await commit(database, claim, page("a"))
    assert await embed(database, NEW) == 1, "the old one may be all there is"
    async with database.transaction(timeout_seconds=15) as connection:
        await connection.execute(
            "UPDATE imports.embedding_setup SET seen_at = seen_at - interval '2 minutes'"
        )
        await still_embedding(connection, NEW)
    await commit(database, claim, page("a"))
    assert await embed(database, NEW) == 0


async def test_only_an_import_that_asks_for_embeddings_has_them_made_anew(
    database: Database, claimed: Any
) -> None:
    claim = await importing(database, claimed, embedding=True)
    await commit(database, claim, page("a", "b"))
    await embed(database, OLD)
    await remember_setup(database, NEW)
    others = await importing(database, claimed, "job-2", index=True)
    await commit(database, others, page("a"))
    assert (await states(database))["a", EMBED.value] == "Done"
    await commit(database, claim, page("b"))
    found = await states(database)
    assert (found["a", EMBED.value], found["b", EMBED.value]) == ("Done", "Due")
