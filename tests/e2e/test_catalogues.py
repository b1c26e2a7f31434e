"""The examples, applied as they are, import every field of the sources; a second time changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from catalogue_comparison import (
    IMAGES,
    PRODUCTS,
    catalogue_of,
    compare_images,
    compare_objects,
    compare_products,
)

from e2e.world import World, job, provider, secret
from import_local.samples.catalogue.expected import ExpectedProduct, Provider
from import_local.samples.settings import ROASTIFY_KEY, SHOPIFY_TOKEN

PROJECT = Path(__file__).parents[2]
EXAMPLES = PROJECT.parent / "shared" / "examples"
CATALOGUE = "vendure"


def expected(world: World, kind: Provider) -> dict[str, ExpectedProduct]:
    return catalogue_of(CATALOGUE, kind, world.sample_root)


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


async def differences(world: World, company: str, kind: Provider) -> list[str]:
    """What PostgreSQL and S3 have otherwise than the source, in words."""
    wanted = expected(world, kind)
    products = await world.sql(PRODUCTS, [company], kind)
    images = await world.sql(IMAGES, [company], kind)
    assert images
    return [
        *compare_products(products, wanted, kind),
        *compare_images(images, wanted, kind),
        *await compare_objects(world.store(), images, wanted),
    ]


async def test_the_examples_import_every_field_and_a_second_run_changes_nothing(world: World) -> None:
    await apply_examples(world, job_name="acme-autumn")
    status = await world.finished("acme-autumn")
    assert status["phase"] == "Succeeded", status
    wanted = expected(world, "shopify")
    assert status["progress"]["productsTotal"] == len(wanted)
    assert status["progress"]["productsImported"] == len(wanted)
    assert status["progress"]["percent"] == 100
    assert status["progress"]["imagesImported"] == sum(len(product.images) for product in wanted.values())
    assert await differences(world, "acme", "shopify") == []

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
    assert await differences(world, "bean", "roastify") == []


@pytest.mark.parametrize("shop", ["generated-40-1-emoji"])
async def test_names_with_emoji_and_right_to_left_text_arrive_unchanged(world: World, shop: str) -> None:
    await world.apply(
        secret("emoji", accessToken=SHOPIFY_TOKEN),
        provider("emoji", company="emoji", kind="shopify", url=f"{world.installation.shopify_url}/{shop}"),
        job("emoji-first", company="emoji", provider_name="emoji", images={"enabled": False}),
    )
    status = await world.finished("emoji-first")
    assert status["phase"] == "Succeeded", status
    wanted = {key: p.title for key, p in catalogue_of(shop, "shopify", world.sample_root).items()}
    titles = dict(
        await world.sql('SELECT "externalId", title FROM "Product" WHERE "companyId" = %s', "emoji")
    )
    assert titles == wanted
    text = "".join(titles.values())
    assert any(ord(char) > 0xFFFF for char in text), "the sample has no emoji"
    assert any("\u0590" <= char <= "\u08ff" for char in text), "the sample has no right-to-left text"
