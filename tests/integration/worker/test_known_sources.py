"""Full re-imports map only products whose source, settings or row changed; all of that is noticed for real."""

import pytest

from import_core.adapters.postgres.catalogue import CatalogueStore
from import_core.domain.mapping import CompiledMapping
from import_local.samples.control import ProductOrder, change_product

TITLES = """SELECT title FROM "Product" ORDER BY "externalId" """
HASHES = """SELECT "contentHash", "sourceHash" FROM "Product" ORDER BY "externalId" """


@pytest.fixture
def mapped(monkeypatch) -> list[str]:
    """The ids of the products that are mapped, in order."""
    ids: list[str] = []
    apply = CompiledMapping.apply

    def counted(self, document):
        ids.append(document["id"])
        return apply(self, document)

    monkeypatch.setattr(CompiledMapping, "apply", counted)
    return ids


async def run(stage, mapped: list[str], job_id: str, provider: str, **spec):
    """One run: (products imported, products unchanged, products mapped)."""
    mapped.clear()
    await stage.submit(job_id, provider, **spec)
    async with stage.worker():
        progress = (await stage.finished(job_id)).progress
    return progress.products_imported, progress.products_unchanged, len(mapped)


@pytest.mark.parametrize("kind", ["shopify", "roastify", "whatsapp"])
async def test_only_what_changed_at_the_source_is_mapped(stage, mapped, kind) -> None:
    provider = stage.connect(kind, "tiny-20-1")
    assert await run(stage, mapped, "first", provider) == (20, 0, 20)
    before = await stage.rows(HASHES)
    assert all(content and source for content, source in before)
    assert await run(stage, mapped, "second", provider) == (0, 20, 0)
    assert await stage.rows(HASHES) == before
    account = stage.samples.account(kind, "tiny-20-1")
    change_product(account, 3, ProductOrder(title="Another name"))
    assert await run(stage, mapped, "third", provider) == (1, 19, 1)
    assert await run(stage, mapped, "fourth", provider) == (0, 20, 0)


async def test_other_settings_and_rows_that_others_wrote_are_mapped(stage, mapped) -> None:
    provider = stage.connect("shopify", "tiny-6-1")
    await run(stage, mapped, "first", provider)
    titles = await stage.rows(TITLES)
    assert await run(stage, mapped, "other", provider, fieldMapping={"title": "handle"}) == (6, 0, 6)
    assert await stage.rows(TITLES) != titles
    assert await run(stage, mapped, "back", provider) == (6, 0, 6)
    assert await stage.rows(TITLES) == titles
    # A worker of a version that knows no hashes of sources, and a person who wants rows written again.
    await stage.rows("""UPDATE "Product" SET title = 'Old', "contentHash" = repeat('0', 64) RETURNING id""")
    assert await run(stage, mapped, "older", provider) == (6, 0, 6)
    await stage.rows("""UPDATE "Product" SET title = 'Mine', "contentHash" = NULL RETURNING id""")
    assert await run(stage, mapped, "emptied", provider) == (6, 0, 6)
    assert await stage.rows(TITLES) == titles


async def test_rows_that_change_between_the_look_and_the_page_are_written(stage, mapped, monkeypatch) -> None:
    provider = stage.connect("shopify", "tiny-6-1")
    await run(stage, mapped, "first", provider)
    titles = await stage.rows(TITLES)
    look = CatalogueStore.known_sources

    async def looked(self, *arguments):
        found = await look(self, *arguments)
        if found:
            await stage.rows(
                """UPDATE "Product" SET status = 'archived', "contentHash" = NULL, title = 'Gone' RETURNING id"""
            )
        return found

    monkeypatch.setattr(CatalogueStore, "known_sources", looked)
    assert await run(stage, mapped, "second", provider) == (6, 0, 6)
    assert await stage.rows(TITLES) == titles


async def test_a_product_that_failed_is_tried_each_time_and_found_again(stage, mapped) -> None:
    provider = stage.connect("shopify", "tiny-6-1")
    await run(stage, mapped, "first", provider)
    broken = {"price": "title"}
    assert await run(stage, mapped, "broken", provider, fieldMapping=broken) == (0, 0, 6)
    assert await run(stage, mapped, "broken-again", provider, fieldMapping=broken) == (0, 0, 6)
    assert await run(stage, mapped, "good", provider) == (0, 6, 0)
