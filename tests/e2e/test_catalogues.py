"""The examples, applied as they are, import every field of the sources; a second time changes nothing."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pyvips
import yaml

from e2e.world import World, job, provider, secret
from import_local.samples.catalogue.expected import ExpectedProduct, expected_products
from import_local.samples.catalogue.live import LiveCatalogue
from import_local.samples.catalogue.registry import open_catalogue
from import_local.samples.settings import ROASTIFY_KEY, SHOPIFY_TOKEN, default_data_folder

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT.parent / "shared" / "examples"
CATALOGUE = "vendure"


def expected(world: World, kind: str) -> dict[str, ExpectedProduct]:
    catalogue = LiveCatalogue(open_catalogue(CATALOGUE, default_data_folder()))
    return {product.id: product for product in expected_products(catalogue, kind, world.sample_root)}  # type: ignore[arg-type]


def example_files() -> list[Path]:
    folder = EXAMPLES if EXAMPLES.is_dir() else PROJECT / "deploy" / "samples"
    return [folder / "provider-shopify.yaml", folder / "importjob.yaml"]


async def apply_examples(world: World, *, job_name: str) -> None:
    objects: list[dict[str, Any]] = []
    for file in example_files():
        objects += [document for document in yaml.safe_load_all(file.read_text()) if document]
    for item in objects:
        if item["kind"] == "ImportProvider":
            item["spec"]["baseUrl"] = f"{world.installation.shopify_url}/{CATALOGUE}"
        if item["kind"] == "Secret":
            item["stringData"] = {"accessToken": SHOPIFY_TOKEN}
        if item["kind"] == "ImportJob":
            item["metadata"]["name"] = job_name
            # The sample's products are older than the example's filter.
            item["spec"].pop("filter", None)
    await world.apply(*objects)


async def versions(world: World, company: str) -> list[tuple[Any, ...]]:
    return await world.sql(
        """SELECT 'Product', id, xmin::text FROM "Product" WHERE "companyId" = %s
           UNION ALL SELECT 'ProductImage', i.id, i.xmin::text FROM "ProductImage" i
           JOIN "Product" p ON p.id = i."productId" WHERE p."companyId" = %s ORDER BY 1, 2""",
        company,
        company,
    )


async def check_products(world: World, company: str, kind: str) -> None:
    wanted = expected(world, kind)
    rows = await world.sql(
        """SELECT "externalId", title, description, status, vendor, "productType", tags, price, variants, sku, id
           FROM "Product" WHERE "companyId" = %s AND "importSource" = %s""",
        company,
        kind,
    )
    assert {row[0] for row in rows} == set(wanted)
    for external_id, title, description, status, vendor, product_type, tags, price, variants, sku, _ in rows:
        product = wanted[external_id]
        first = product.variants[0]
        assert (title, description, sku) == (product.title, product.description, first.sku), external_id
        assert price == Decimal(first.price_cents) / 100
        if kind == "shopify":
            assert (status, vendor, product_type) == (product.status, product.vendor, product.product_type)
            assert sorted(tags or []) == sorted(product.tags)
        found = [
            (v["external_id"], v["title"], v["sku"], Decimal(v["price"]), v["inventory_quantity"])
            for v in variants
        ]
        assert found == [
            (v.id, v.title, v.sku, Decimal(v.price_cents) / 100, v.inventory_quantity)
            for v in product.variants
        ]
        if kind == "shopify":
            compare_at = [v["compare_at_price"] and Decimal(v["compare_at_price"]) for v in variants]
            assert compare_at == [
                v.compare_at_cents and Decimal(v.compare_at_cents) / 100 for v in product.variants
            ]


async def check_images(world: World, company: str, kind: str) -> None:
    wanted = expected(world, kind)
    rows = await world.sql(
        """SELECT p."externalId", i."sourceUrl", i.position, i."altText", i.key, i.sha256, i."contentType", i.width,
                  i.height, i.bytes, i.thumbnails
           FROM "ProductImage" i JOIN "Product" p ON p.id = i."productId"
           WHERE p."companyId" = %s AND p."importSource" = %s ORDER BY 1, i.position""",
        company,
        kind,
    )
    by_product: dict[str, list[tuple[Any, ...]]] = {}
    for external_id, *values in rows:
        by_product.setdefault(external_id, []).append(tuple(values))
    assert {key: len(value) for key, value in by_product.items()} == {
        key: len(product.images) for key, product in wanted.items() if product.images
    }
    store = world.store()
    decoded: set[str] = set()
    for external_id, images in by_product.items():
        for row, image in zip(images, wanted[external_id].images, strict=True):
            url, _, alt, key, sha256, content_type, width, height, size, thumbnails = row
            content = image.content()
            assert url == image.url
            assert sha256 == hashlib.sha256(content).hexdigest()
            assert (width, height, size, content_type) == (
                image.width,
                image.height,
                len(content),
                "image/jpeg",
            )
            if kind == "shopify":
                assert alt == image.alt
            assert set(thumbnails) == {"256", "1024"}
            if key in decoded:
                continue
            decoded.add(key)
            assert bytes(await (await store.get_async(key)).bytes_async()) == content
            for longest, thumbnail in thumbnails.items():
                picture = pyvips.Image.new_from_buffer(
                    bytes(await (await store.get_async(thumbnail)).bytes_async()), ""
                )
                scale = min(1.0, int(longest) / max(width, height))
                assert abs(picture.width - width * scale) <= 1, (key, longest)
                assert abs(picture.height - height * scale) <= 1, (key, longest)
                picture.avg()  # decodes every pixel
    assert decoded


async def test_the_examples_import_every_field_and_a_second_run_changes_nothing(world: World) -> None:
    await apply_examples(world, job_name="acme-autumn")
    status = await world.finished("acme-autumn")
    assert status["phase"] == "Succeeded", status
    wanted = expected(world, "shopify")
    assert status["progress"]["productsTotal"] == len(wanted)
    assert status["progress"]["productsImported"] == len(wanted)
    assert status["progress"]["percent"] == 100
    assert status["progress"]["imagesImported"] == sum(len(product.images) for product in wanted.values())
    await check_products(world, "acme", "shopify")
    await check_images(world, "acme", "shopify")

    rows, objects = await versions(world, "acme"), await world.objects("images/acme")
    assert rows
    assert objects
    await apply_examples(world, job_name="acme-autumn-again")
    status = await world.finished("acme-autumn-again")
    assert status["phase"] == "Succeeded", status
    assert status["progress"]["productsUnchanged"] == len(wanted)
    assert await versions(world, "acme") == rows
    assert await world.objects("images/acme") == objects


async def test_a_roastify_catalogue_imports_every_field(world: World) -> None:
    url = f"{world.installation.roastify_url}/{CATALOGUE}/v1"
    await world.apply(
        secret("bean", apiKey=ROASTIFY_KEY),
        provider("bean", company="bean", kind="roastify", url=url),
        job("bean-first", company="bean", provider_name="bean"),
    )
    status = await world.finished("bean-first", seconds=200)
    assert status["phase"] == "Succeeded", status
    await check_products(world, "bean", "roastify")
    await check_images(world, "bean", "roastify")


@pytest.mark.parametrize("shop", ["generated-40-1-emoji"])
async def test_names_with_emoji_and_right_to_left_text_arrive_unchanged(world: World, shop: str) -> None:
    await world.apply(
        secret("emoji", accessToken=SHOPIFY_TOKEN),
        provider("emoji", company="emoji", kind="shopify", url=f"{world.installation.shopify_url}/{shop}"),
        job("emoji-first", company="emoji", provider_name="emoji", images={"enabled": False}),
    )
    status = await world.finished("emoji-first")
    assert status["phase"] == "Succeeded", status
    catalogue = LiveCatalogue(open_catalogue(shop, None))
    wanted = {p.id: p.title for p in expected_products(catalogue, "shopify", world.sample_root)}
    titles = dict(
        await world.sql('SELECT "externalId", title FROM "Product" WHERE "companyId" = %s', "emoji")
    )
    assert titles == wanted
    text = "".join(titles.values())
    assert any(ord(char) > 0xFFFF for char in text), "the sample has no emoji"
    assert any("\u0590" <= char <= "\u08ff" for char in text), "the sample has no right-to-left text"
