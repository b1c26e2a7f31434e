"""What every vector index does: run on pgvector and on Milvus."""

import asyncio

import pytest
from vector_rows import Kept, vector, vectors

SOUGHT = vector("sought")


async def test_nearest_products_of_the_company_come_first(kept: Kept) -> None:
    await kept.keep(
        vectors("far"),
        vectors("near", text=vector("n", near=SOUGHT, distance=0.5)),
        vectors("nearest", text=vector("n", near=SOUGHT, distance=0.1)),
        vectors("other's", company="other", text=SOUGHT),
    )
    assert await kept.found("acme", SOUGHT) == ["nearest", "near", "far"]
    assert await kept.found("acme", SOUGHT, limit=1) == ["nearest"]
    assert await kept.found("other", SOUGHT) == ["other's"]
    assert await kept.found("unknown", SOUGHT) == []
    (hit,) = await kept.index.nearest("other", SOUGHT, limit=5)
    assert hit.similarity == pytest.approx(1, abs=1e-3)


async def test_a_product_is_found_once_by_the_better_of_text_and_image(kept: Kept) -> None:
    near = vector("n", near=SOUGHT, distance=0.3)
    await kept.keep(
        vectors("by-image", image=SOUGHT),
        vectors("by-text", text=near, image=vector("something else")),
        vectors("by-both", text=vector("m", near=SOUGHT, distance=0.2), image=near),
    )
    assert await kept.found("acme", SOUGHT) == ["by-image", "by-both", "by-text"]
    assert await kept.found("acme", SOUGHT, limit=2) == ["by-image", "by-both"]


async def test_writing_again_exchanges_and_the_same_twice_is_one(kept: Kept) -> None:
    first = vectors("p-1", text=SOUGHT, image=SOUGHT)
    await kept.keep(first, vectors("p-2"))
    await kept.keep(first)
    assert await kept.found("acme", SOUGHT) == ["p-1", "p-2"]
    changed = vectors("p-1", text=vector("n", near=vector("p-2")), state="state-2")
    await kept.keep(changed)
    assert await kept.found("acme", vector("p-2")) == ["p-2", "p-1"]
    (_, hit) = await kept.index.nearest("acme", SOUGHT, limit=5)
    assert hit.similarity < 0.5, "the image that it has no more is still found"


async def test_current_are_those_of_the_same_state_and_model(kept: Kept) -> None:
    await kept.keep(vectors("p-1"), vectors("p-2", state="state-2"), vectors("p-3", model="model-2"))
    states = {"p-1": "state-1", "p-2": "state-1", "p-3": "state-1", "p-4": "state-1"}
    assert await kept.index.current(states, model_checksum="model-1") == {"p-1"}
    assert await kept.index.current({}, model_checksum="model-1") == frozenset()
    assert await kept.index.current({"p-2": "state-2"}, model_checksum="model-1") == {"p-2"}


async def test_vectors_of_another_model_can_be_left_out(kept: Kept) -> None:
    await kept.keep(vectors("old", text=SOUGHT, model="model-1"), vectors("new", model="model-2"))
    assert await kept.found("acme", SOUGHT, model="model-2") == ["new"]
    assert await kept.found("acme", SOUGHT) == ["old", "new"]


async def test_removed_products_are_gone_and_unknown_ones_ignored(kept: Kept) -> None:
    await kept.keep(vectors("p-1", image=SOUGHT), vectors("p-2"))
    await kept.remove("p-1", "never-there")
    await kept.remove()
    assert await kept.found("acme", SOUGHT) == ["p-2"]
    assert await kept.index.current({"p-1": "state-1"}, model_checksum="model-1") == frozenset()


async def test_ids_are_any_text(kept: Kept) -> None:
    odd = ['a" or company == "b', "a'); DROP TABLE x; --", "ä\\\n☕", "x" * 500]
    await kept.keep(*(vectors(one, company=one, text=SOUGHT) for one in odd))
    for one in odd:
        assert await kept.found(one, SOUGHT) == [one]
    await kept.remove(*odd)
    for one in odd:
        assert await kept.found(one, SOUGHT) == []


async def test_writers_side_by_side_lose_nothing(kept: Kept) -> None:
    batches = [[vectors(f"p-{writer}-{at}") for at in range(6)] for writer in range(4)]
    same = [vectors(f"shared-{at}") for at in range(6)]
    await asyncio.gather(
        *(kept.keep(*batch) for batch in batches), kept.keep(*same), kept.keep(*reversed(same))
    )
    found = await kept.found("acme", SOUGHT, limit=100)
    wanted = [one.product_id for batch in [*batches, same] for one in batch]
    assert sorted(found) == sorted(wanted)


async def test_more_than_one_request_holds(kept: Kept) -> None:
    many = [vectors(f"p-{at}", image=vector(f"image-{at}")) for at in range(230)]
    await kept.keep(*many)
    states = {one.product_id: one.content_hash for one in many}
    assert len(await kept.index.current(states, model_checksum="model-1")) == 230
    assert len(await kept.found("acme", SOUGHT, limit=300)) == 230
    await kept.remove(*states)
    assert await kept.found("acme", SOUGHT, limit=300) == []


async def test_vectors_of_another_size_are_a_mistake(kept: Kept) -> None:
    with pytest.raises(ValueError, match="3 numbers and not 768"):
        await kept.keep(vectors("p-1", text=[1.0, 0.0, 0.0]))


async def test_check_passes_where_it_can_be_used(kept: Kept) -> None:
    await kept.index.check()
