"""Whole imports through a real worker, compared with the source field by field."""

import asyncio
from decimal import Decimal
from hashlib import sha256

import pytest
import pyvips
from psycopg.types.json import Jsonb

from import_core.domain.jobs import CHECKPOINT_VERSION, JobState
from import_local.samples.catalogue import expected_products
from import_local.samples.control import FaultOrder, ProductOrder, change_product, set_faults
from import_local.samples.faults import FaultAction, FaultSettings

PRODUCTS = """SELECT p.id, p.xmin::text, i.id, i.xmin::text FROM "Product" p
    LEFT JOIN "ProductImage" i ON i."productId" = p.id ORDER BY p.id, i.position"""
ERRORS = "SELECT external_id, stage, reason, message, url FROM imports.item_error ORDER BY external_id, url"


SCRAPED = {
    "mode": "Scrape",
    "scrape": {
        "selectors": {
            "item": ".catalogue-item",
            "idAttribute": "data-product-id",
            "title": ".item-title",
            "price": ".item-price",
            "description": ".item-text",
            "image": ".item-image",
        },
        "scroll": {"idleRounds": 1, "quietMilliseconds": 100},
    },
}


async def import_once(stage, kind: str, catalogue: str, job_id: str = "job-1", **spec):
    provider = f"acme-{kind}-{catalogue}"
    if provider not in stage.directory.providers:
        stage.connect(kind, catalogue)
    await stage.submit(job_id, provider, **spec)
    async with stage.worker():
        return await stage.finished(job_id)


async def object_versions(stage):
    return {info.key: (info.etag, info.last_modified) async for info in stage.store.list()}


@pytest.mark.parametrize("mode", ["Graph", "Scrape"])
async def test_a_whatsapp_catalogue_arrives(stage, mode) -> None:
    catalogue = "tiny-24-2"
    url = f"{stage.samples.whatsapp_url}/{catalogue}/c/491700000001"
    stage.connect(
        "whatsapp", catalogue, **({"whatsapp": SCRAPED, "baseUrl": url} if mode == "Scrape" else {})
    )
    job = await import_once(stage, "whatsapp", catalogue)
    assert (job.state, job.message) == (JobState.COMPLETED, None)
    account = stage.samples.account("whatsapp", catalogue)
    expected = list(expected_products(account.catalogue, "whatsapp", stage.samples.base_url))
    assert job.progress.products_total == job.progress.products_imported == len(expected)
    assert job.progress.images_imported == sum(len(product.images) for product in expected)
    rows = await stage.rows('SELECT "externalId", title, description, price, currency FROM "Product"')
    assert {row[0]: row[1:] for row in rows} == {
        product.id: (
            product.title,
            product.description or None,
            Decimal(product.variants[0].price_cents) / 100,
            "EUR",
        )
        for product in expected
    }


@pytest.mark.parametrize(
    ("kind", "catalogue"), [("shopify", "liquid"), ("shopify", "generated-20-2"), ("roastify", "tiny-24-2")]
)
async def test_everything_of_a_catalogue_arrives(stage, kind, catalogue) -> None:
    job = await import_once(stage, kind, catalogue)
    assert (job.state, job.message, job.claimed_by) == (JobState.COMPLETED, None, None)
    account = stage.samples.account(kind, catalogue)
    expected = list(expected_products(account.catalogue, kind, stage.samples.base_url))
    assert job.progress.products_total == job.progress.products_imported == len(expected)
    assert job.progress.images_imported == sum(len(product.images) for product in expected)
    products = await stage.rows(
        """SELECT "externalId", id, title, description, price, "productType", variants, "companyId", "importSource"
        FROM "Product" """
    )
    assert len(products) == len(expected)
    rows = {row[0]: row[1:] for row in products}
    for product in expected:
        row = rows[product.id]
        assert row[1:3] == (product.title, product.description)
        assert row[3] == Decimal(product.variants[0].price_cents) / 100
        assert row[4] == product.product_type
        assert row[6:] == ("acme", kind)
        found = [(v["external_id"], v["title"], v["sku"], Decimal(v["price"])) for v in row[5]]
        assert found == [(v.id, v.title, v.sku, Decimal(v.price_cents) / 100) for v in product.variants]
        await assert_images(stage, row[0], product)


async def assert_images(stage, product_id, product) -> None:
    rows = await stage.rows(
        """SELECT "sourceUrl", key, sha256, width, height, thumbnails FROM "ProductImage"
        WHERE "productId" = %s ORDER BY position""",
        product_id,
    )
    assert [row[0] for row in rows] == [image.url for image in product.images]
    for image, (_, key, digest, width, height, thumbnails) in zip(product.images, rows, strict=True):
        content = await asyncio.to_thread(image.content)
        assert digest == sha256(content).hexdigest()
        assert (width, height) == (image.width, image.height)
        assert await stage.store.get(key) == content
        assert set(thumbnails) == {"256", "1024"}
        for size, thumbnail in thumbnails.items():
            decoded = pyvips.Image.new_from_buffer(await stage.store.get(thumbnail), "")
            assert max(decoded.width, decoded.height) == min(int(size), max(width, height))


async def test_importing_again_changes_nothing(stage) -> None:
    first = await import_once(stage, "shopify", "tiny-30-2")
    rows, objects = await stage.rows(PRODUCTS), await object_versions(stage)
    counters = stage.samples.account("shopify", "tiny-30-2").counters
    before = counters.image_statuses[200]
    second = await import_once(stage, "shopify", "tiny-30-2", "job-2")
    assert (second.progress.products_unchanged, second.progress.products_imported) == (30, 0)
    assert (second.progress.images_unchanged, second.progress.images_imported) == (60, 0)
    assert await stage.rows(PRODUCTS) == rows
    assert await object_versions(stage) == objects
    assert counters.image_statuses[200] == before
    assert counters.image_statuses[304] == 60
    assert first.progress.products_imported == 30


async def test_what_changed_is_written_and_nothing_else(stage) -> None:
    await import_once(stage, "shopify", "tiny-6-2")
    account = stage.samples.account("shopify", "tiny-6-2")
    before = await stage.rows('SELECT title, xmin::text, id FROM "Product"')
    change_product(account, 1, ProductOrder(title="Another name"))
    change_product(account, 2, ProductOrder(image="replace"))
    change_product(account, 3, ProductOrder(image="new-address"))
    job = await import_once(stage, "shopify", "tiny-6-2", "job-2")
    after = await stage.rows('SELECT title, xmin::text, id FROM "Product"')
    # The new bytes at an old address change no product row; a new address does.
    assert (job.progress.products_imported, job.progress.products_unchanged) == (2, 4)
    assert len(set(after) - set(before)) == 2
    assert {row[2] for row in after} == {row[2] for row in before}
    assert "Another name" in {row[0] for row in after}
    expected = list(expected_products(account.catalogue, "shopify", stage.samples.base_url))
    ids = dict(await stage.rows('SELECT "externalId", id FROM "Product"'))
    for product in expected:
        await assert_images(stage, ids[product.id], product)


async def test_an_image_that_failed_is_tried_again(stage) -> None:
    account = stage.samples.account("shopify", "tiny-4-1")
    set_faults(
        account, FaultOrder(images=FaultSettings(next=[FaultAction(status=404), FaultAction(status=404)]))
    )
    first = await import_once(stage, "shopify", "tiny-4-1")
    assert (first.progress.images_imported, first.progress.images_failed) == (2, 2)
    assert first.state is JobState.COMPLETED
    assert first.message == "2 of 4 images could not be imported; see the item errors"
    errors = await stage.rows(ERRORS)
    assert [row[1:3] for row in errors] == [("download", "NotFound")] * 2
    assert all(row[4].startswith(stage.samples.base_url) for row in errors)
    second = await import_once(stage, "shopify", "tiny-4-1", "job-2")
    assert (second.progress.images_imported, second.progress.images_unchanged) == (2, 2)
    assert (second.progress.products_unchanged, second.message) == (4, None)
    assert await stage.rows('SELECT count(*) FROM "ProductImage"') == [(4,)]


async def test_a_known_image_that_fails_keeps_its_row(stage) -> None:
    await import_once(stage, "shopify", "tiny-2-1")
    rows = await stage.rows(PRODUCTS)
    account = stage.samples.account("shopify", "tiny-2-1")
    set_faults(account, FaultOrder(images=FaultSettings(error_rate=1, error_status=404)))
    job = await import_once(stage, "shopify", "tiny-2-1", "job-2")
    assert job.progress.images_failed == 2
    assert await stage.rows(PRODUCTS) == rows


async def test_an_empty_catalogue_completes_and_says_so(stage) -> None:
    job = await import_once(stage, "shopify", "empty")
    assert (job.state, job.message) == (JobState.COMPLETED, "the catalogue is empty")
    assert job.progress.products_total == 0


async def test_hostile_images_are_item_errors(stage) -> None:
    job = await import_once(stage, "shopify", "hostile")
    assert job.state is JobState.COMPLETED
    reasons = {row[4].rsplit("/", 1)[-1]: (row[1], row[2]) for row in await stage.rows(ERRORS)}
    assert reasons["html.jpg"] == ("decode", "NotAnImage")
    assert reasons["bomb.png"] == ("decode", "TooManyPixels")
    assert reasons["redirect-metadata"] == ("download", "ForbiddenAddress")
    assert reasons["redirect-loopback"] == ("download", "ForbiddenAddress")
    assert {"truncated.jpg", "too-large.jpg", "too-large-chunked.jpg"} <= set(reasons)
    assert job.progress.products_imported == job.progress.products_total
    assert job.progress.images_failed == len(reasons)
    assert job.progress.images_imported == job.progress.images_total - len(reasons)


async def test_a_product_that_does_not_fit_the_mapping_is_an_item_error(stage) -> None:
    mapping = {"price": "variants[0].title"}
    job = await import_once(stage, "shopify", "tiny-5-0", fieldMapping=mapping)
    assert (job.state, job.failure_reason) == (JobState.FAILED, "EveryProductFailed")
    assert job.message == "none of the 5 products could be imported; see the item errors"
    errors = await stage.rows(ERRORS)
    assert len(errors) == 5
    assert all(row[1:3] == ("map", "InvalidField") and row[3].startswith("price: ") for row in errors)
    assert await stage.rows('SELECT 1 FROM "Product"') == []


async def test_a_custom_mapping_replaces_defaults_of_its_fields(stage) -> None:
    await import_once(stage, "shopify", "tiny-3-0", fieldMapping={"title": "handle"})
    titles = await stage.rows('SELECT title, handle, price IS NOT NULL FROM "Product"')
    assert all(title == handle and priced for title, handle, priced in titles)
    assert len(titles) == 3


@pytest.mark.parametrize(
    ("images", "count", "sizes"),
    [
        ({"enabled": False}, 0, set()),
        ({"maxPerProduct": 1, "thumbnails": [64]}, 1, {"64"}),
        ({"maxPerProduct": 0}, 0, set()),
    ],
)
async def test_a_jobs_image_options_are_kept(stage, images, count, sizes) -> None:
    await import_once(stage, "shopify", "tiny-2-3", images=images)
    rows = await stage.rows('SELECT thumbnails FROM "ProductImage"')
    assert len(rows) == 2 * count
    assert all(set(row[0]) == sizes for row in rows)


async def test_fewer_wanted_images_remove_none(stage) -> None:
    await import_once(stage, "shopify", "tiny-2-3")
    images = await stage.rows('SELECT id, xmin::text FROM "ProductImage" ORDER BY id')
    for number, wanted in enumerate(({"enabled": False}, {"maxPerProduct": 1})):
        await import_once(stage, "shopify", "tiny-2-3", f"again-{number}", images=wanted)
        assert await stage.rows('SELECT id, xmin::text FROM "ProductImage" ORDER BY id') == images


async def test_a_row_made_by_hand_is_imported(stage) -> None:
    provider = stage.connect("roastify", "tiny-3-1")
    await stage.rows(
        'INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES (%s, %s, %s)',
        "by-hand",
        "acme",
        provider,
    )
    await stage.dispatch("by-hand")
    async with stage.worker():
        job = await stage.finished("by-hand")
    assert (job.state, job.progress.products_imported) == (JobState.COMPLETED, 3)


@pytest.mark.parametrize(
    "cursor", [{"version": 1, "total": 30, "bulk": "gid://shopify/BulkOperation/424242"}, {"version": 99}]
)
async def test_a_catalogue_that_starts_over_is_counted_once(stage, cursor) -> None:
    """A bulk operation that is forgotten, and a cursor of another version, lead back to the start."""
    provider = stage.connect("shopify", "tiny-30-1")
    message = await stage.submit("job-1", provider, images={"thumbnails": []})
    counted = {"products_total": 30, "products_imported": 20, "images_total": 20, "images_imported": 20}
    await stage.rows(
        "INSERT INTO imports.checkpoint (job_id, version, cursor, progress, pages) VALUES (%s, %s, %s, %s, 4)",
        message.job_id,
        CHECKPOINT_VERSION,
        Jsonb({"index": 20, **cursor}),
        Jsonb(counted),
    )
    async with stage.worker(max_products=40):
        job = await stage.finished("job-1")
    assert (job.state, job.message) == (JobState.COMPLETED, None)
    assert (job.progress.products_done, job.progress.products_total, job.progress.images_total) == (
        30,
        30,
        30,
    )


async def test_two_companies_do_not_share_rows_or_objects(stage) -> None:
    for company in ("acme", "bolt"):
        provider = stage.connect("shopify", "tiny-2-1", company=company)
        await stage.submit(f"job-{company}", provider, company=company)
    async with stage.worker():
        for company in ("acme", "bolt"):
            assert (await stage.finished(f"job-{company}")).progress.images_imported == 2
    keys = await stage.keys()
    assert {key.split("/")[1] for key in keys} == {"acme", "bolt"}
    assert len(keys) == 2 * 2 * 3


async def test_a_wrong_token_fails_the_job_clearly(stage) -> None:
    provider = stage.connect("shopify", "tiny-2-1")
    stage.directory.secrets[provider] = {"accessToken": "shpat_wrong_one"}
    job = await import_once(stage, "shopify", "tiny-2-1")
    assert (job.state, job.failure_reason) == (JobState.FAILED, "InvalidCredentials")
    assert "refused the credentials" in job.message
    assert "shpat" not in job.message


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ("secret", "InvalidCredentials", "there is no Secret acme-shopify-tiny-2-1"),
        ("key", "InvalidCredentials", "accessToken"),
        ("provider", "ProviderNotFound", "there is no ImportProvider acme-shopify-tiny-2-1"),
        ("company", "CompanyMismatch", "belongs to bolt"),
        ("type", "InvalidInput", "type"),
        ("mapping", "InvalidMapping", "fieldMapping.title"),
        ("spec", "InvalidInput", "spec.images.maxPerProduct"),
        ("namespace", "Permanent", "namespace elsewhere"),
        ("size", "CatalogueTooLarge", "at most 1"),
    ],
)
async def test_what_can_never_work_fails_at_once_and_says_why(stage, change, reason, words) -> None:
    provider = stage.connect("shopify", "tiny-2-1")
    found, spec, settings = stage.directory.providers[provider], {}, {}
    match change:
        case "secret":
            del stage.directory.secrets[provider]
        case "key":
            stage.directory.secrets[provider] = {"password": "x"}
        case "provider":
            del stage.directory.providers[provider]
        case "company":
            found["spec"]["companyId"] = "bolt"
        case "type":
            found["spec"]["type"] = "ebay"
        case "mapping":
            spec["fieldMapping"] = {"title": "title["}
        case "spec":
            spec["images"] = {"maxPerProduct": 99}
        case "size":
            settings["max_products"] = 1
    await stage.submit("job-1", provider, **spec)
    if change == "namespace":
        await stage.rows("""UPDATE "ProductImportJob" SET namespace = 'elsewhere'""")
    async with stage.worker(**settings):
        job = await stage.finished("job-1")
    assert (job.state, job.failure_reason) == (JobState.FAILED, reason)
    assert words in job.message
    assert await stage.rows('SELECT 1 FROM "Product"') == []
