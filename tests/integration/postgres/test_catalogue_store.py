"""Pages: products, images, item errors and the checkpoint together, behind the claim."""

from decimal import Decimal
from typing import Any

import psycopg
import pytest

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue import (
    CatalogueStore,
    ImageTouch,
    ImageWrite,
    ItemErrorRestatement,
    ItemErrorWrite,
    ItemsLeft,
    PageWrite,
    ProductWrite,
)
from import_core.domain.errors import ClaimLostError, DatabaseUnavailableError
from import_core.domain.item_errors import MOST_DOCUMENTS, EarlierFailure, kept_document
from import_core.domain.jobs import Checkpoint, Progress
from import_core.domain.products import MappedProduct, MappedVariant, content_hash

FULL = MappedProduct(
    external_id="gid://shopify/Product/1",
    title="قهوة ☕️ Ünï \u202eodd",
    description="<p>x</p>",
    handle="x",
    sku="S1",
    barcode="4006381333931",
    price=Decimal("12.50"),
    compare_at_price=Decimal(15),
    currency="EUR",
    vendor="Acme",
    product_type="Coffee",
    status="ACTIVE",
    tags=("a", 'b "quoted"', "c,d"),
    inventory_quantity=3_000_000_000,
    variants=(MappedVariant("v1", price=Decimal("0.1"), options={"Size": "XL"}),),
)


def write(product: MappedProduct) -> ProductWrite:
    return ProductWrite(product, content_hash(product, ()))


def image(external_id: str, url: str, position: int = 0, **values: Any) -> ImageWrite:
    defaults: dict[str, Any] = {
        "alt_text": "alt",
        "etag": '"1"',
        "last_modified": None,
        "key": f"images/acme/{'0' * 64}.jpg",
        "sha256": "0" * 64,
        "content_type": "image/jpeg",
        "width": 10,
        "height": 20,
        "bytes": 300,
        "thumbnails": {"256": "t"},
    }
    return ImageWrite(external_id=external_id, source_url=url, position=position, **{**defaults, **values})


def page(**values: Any) -> PageWrite:
    defaults: dict[str, Any] = {
        "import_source": "shopify",
        "external_ids": [],
        "products": [],
        "images": [],
        "errors": [],
        "checkpoint": Checkpoint(cursor={"after": "x"}, progress=Progress(), pages=1),
    }
    return PageWrite(**{**defaults, **values})


async def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    async with database.connection() as connection:
        return await (await connection.execute(statement)).fetchall()


async def test_every_field_of_a_product_arrives(database: Database, claimed: Any) -> None:
    store = CatalogueStore(database)
    await store.commit_page(await claimed(), page(products=[write(FULL)]))
    found = await rows(
        database,
        """SELECT "companyId", "externalId", "importSource", title, description, handle, sku, barcode, price,
        "compareAtPrice", currency, vendor, "productType", status, tags, "inventoryQuantity", variants
        FROM "Product" """,
    )
    assert found == [
        (
            "acme",
            FULL.external_id,
            "shopify",
            FULL.title,
            "<p>x</p>",
            "x",
            "S1",
            "4006381333931",
            Decimal("12.5"),
            Decimal(15),
            "EUR",
            "Acme",
            "Coffee",
            "ACTIVE",
            list(FULL.tags),
            3_000_000_000,
            [
                {
                    "external_id": "v1",
                    "title": None,
                    "sku": None,
                    "price": "0.1",
                    "compare_at_price": None,
                    "barcode": None,
                    "inventory_quantity": None,
                    "options": {"Size": "XL"},
                    "weight_grams": None,
                }
            ],
        )
    ]


async def test_writing_again_writes_nothing_and_a_change_keeps_the_row(
    database: Database, claimed: Any
) -> None:
    store, claim = CatalogueStore(database), await claimed()
    first = page(products=[write(FULL)], images=[image(FULL.external_id, "https://x/1")])
    versions = """SELECT p.id, p.xmin::text, p.price::text, i.id, i.xmin::text
        FROM "Product" p JOIN "ProductImage" i ON i."productId" = p.id"""
    await store.commit_page(claim, first)
    before = await rows(database, versions)
    await store.commit_page(claim, first)
    assert await rows(database, versions) == before
    changed = MappedProduct(external_id=FULL.external_id, title="New", price=Decimal(1))
    await store.commit_page(claim, page(products=[write(changed)]))
    (after,) = await rows(database, versions)
    assert (after[0], after[2], after[3:]) == (before[0][0], "1", before[0][3:])
    assert after[1] != before[0][1]


async def test_a_page_that_can_not_be_stored_says_why_and_writes_nothing(
    database: Database, claimed: Any
) -> None:
    """Its statements are sent together: the first that fails is told, not that those behind it had to be left."""
    store, claim = CatalogueStore(database), await claimed()
    odd = ProductWrite(MappedProduct("2", "Two"), "hash", b'{"external_id":"2","title":"\\u0000"}')
    with pytest.raises(psycopg.errors.UntranslatableCharacter):
        await store.commit_page(claim, page(products=[write(FULL), odd], external_ids=["2"]))
    assert await rows(database, 'SELECT 1 FROM "Product" UNION ALL SELECT 1 FROM imports.checkpoint') == []
    await store.commit_page(claim, page(products=[write(FULL)]))
    assert len(await rows(database, 'SELECT 1 FROM "Product"')) == 1


async def test_companies_and_sources_do_not_share_products(database: Database, claimed: Any) -> None:
    store = CatalogueStore(database)
    product = write(MappedProduct("1", "One"))
    await store.commit_page(await claimed("a", company_id="acme"), page(products=[product]))
    await store.commit_page(await claimed("b", company_id="bolt"), page(products=[product]))
    await store.commit_page(await claimed("c"), page(products=[product], import_source="roastify"))
    assert len(await rows(database, 'SELECT 1 FROM "Product"')) == 3
    assert set(await store.known("bolt", "shopify", ["1", "2"])) == {"1"}
    assert await store.known("bolt", "roastify", ["1"]) == {}


async def test_known_tells_what_a_conditional_request_needs(database: Database, claimed: Any) -> None:
    store = CatalogueStore(database)
    product = write(MappedProduct("1", "One"))
    await store.commit_page(
        await claimed(),
        page(products=[product], images=[image("1", "https://x/1"), image("1", "https://x/2", 1)]),
    )
    known = (await store.known("acme", "shopify", ["1"]))["1"]
    assert known.content_hash == product.content_hash
    assert set(known.images) == {"https://x/1", "https://x/2"}
    found = known.images["https://x/2"]
    assert (found.position, found.etag, found.sha256, found.thumbnails) == (1, '"1"', "0" * 64, {"256": "t"})


async def test_images_are_touched_replaced_and_removed(database: Database, claimed: Any) -> None:
    store, claim = CatalogueStore(database), await claimed()
    urls = ["https://x/1", "https://x/2", "https://x/3"]
    images = [image("1", url, position) for position, url in enumerate(urls)]
    await store.commit_page(claim, page(products=[write(MappedProduct("1", "One"))], images=images))
    product_id = (await store.known("acme", "shopify", ["1"]))["1"].id
    await store.commit_page(
        claim,
        page(
            images=[image("1", urls[1], 0, key="other", sha256="1" * 64)],
            touched_images=[ImageTouch(product_id, urls[0], 1, "new text", '"2"', "yesterday")],
            removed_images=[(product_id, urls[2])],
        ),
    )
    assert await rows(
        database,
        """SELECT "sourceUrl", position, "altText", etag, "lastModified", key = 'other'
        FROM "ProductImage" ORDER BY position""",
    ) == [(urls[1], 0, "alt", '"1"', None, True), (urls[0], 1, "new text", '"2"', "yesterday", False)]


async def test_item_errors_are_replaced_not_gathered(database: Database, claimed: Any) -> None:
    store, claim = CatalogueStore(database), await claimed()
    errors = [ItemErrorWrite("1", "map", "InvalidField", "price: no"), ItemErrorWrite("2", "map", "X", "y")]
    await store.commit_page(claim, page(external_ids=["1", "2"], errors=errors))
    await store.commit_page(claim, page(external_ids=["1"], errors=errors[:1]))
    await store.commit_page(claim, page(external_ids=["2"]))
    assert await rows(
        database, "SELECT external_id, stage, url, reason, message FROM imports.item_error"
    ) == [("1", "map", "", "InvalidField", "price: no")]


async def test_the_first_failed_items_of_a_job_keep_their_documents(database: Database, claimed: Any) -> None:
    store, claim = CatalogueStore(database), await claimed()
    other = await claimed("job-2")

    def errors(first: int, number: int) -> list[ItemErrorWrite]:
        return [
            ItemErrorWrite(f"{n:04}", "map", "X", "y", document={"n": n})
            for n in range(first, first + number)
        ]

    await store.commit_page(claim, page(errors=errors(0, MOST_DOCUMENTS - 1)))
    await store.commit_page(claim, page(errors=errors(1000, 3)))
    await store.commit_page(claim, page(errors=errors(2000, 1)))
    await store.commit_page(other, page(errors=errors(0, 1)))
    kept = "SELECT external_id FROM imports.item_error WHERE job_id = '{}' AND document IS {} NULL ORDER BY 1"
    assert await rows(database, kept.format("job-1", "")) == [("1001",), ("1002",), ("2000",)]
    assert len(await rows(database, kept.format("job-1", "NOT"))) == MOST_DOCUMENTS
    assert await rows(database, kept.format("job-2", "")) == []


async def test_a_failed_items_document_arrives_whatever_is_in_it(database: Database, claimed: Any) -> None:
    odd: Any = {"t\x00": "a\x00\ud800", "n": [1.5, None, True, float("nan"), 10**30], "deep": nested(60)}
    errors = [
        ItemErrorWrite("1", "map", "X", "y", document=kept_document(odd)),
        ItemErrorWrite("2", "fetch", "X", "y"),
        ItemErrorWrite("3", "map", "X", "y", document=kept_document({"t": "x" * 100_000})),
    ]
    await CatalogueStore(database).commit_page(await claimed(), page(errors=errors))
    found = await rows(database, "SELECT document FROM imports.item_error ORDER BY external_id")
    assert found[0] == (
        {"t\ufffd": "a\ufffd\ufffd", "n": [1.5, None, True, None, 10**30], "deep": nested(60)},
    )
    assert found[1] == (None,)
    assert found[2][0]["bytes"] == 100_008
    assert await rows(database, "SELECT external_id FROM imports.item_error WHERE document IS NULL") == [
        ("2",)
    ]


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else []


async def test_failed_products_come_in_order_with_what_failed(database: Database, claimed: Any) -> None:
    store, claim = CatalogueStore(database), await claimed()
    errors = [
        ItemErrorWrite("b", "download", "X", "y", "https://x/2"),
        ItemErrorWrite("b", "decode", "X", "y", "https://x/1"),
        ItemErrorWrite("a", "fetch", "X", "y"),
        ItemErrorWrite("c", "map", "X", "y"),
        ItemErrorWrite("d", "download", "InvalidUrl", "y"),
        ItemErrorWrite("e", "fetch", "NoExternalId", "y"),
        ItemErrorWrite("", "map", "X", "y"),
        ItemErrorWrite("f", "map", "GoneFromSource", "y"),
    ]
    await store.commit_page(claim, page(errors=errors))
    failed = [
        EarlierFailure("a", is_product=True),
        EarlierFailure("b", is_product=False, urls=frozenset({"https://x/1", "https://x/2"})),
        EarlierFailure("c", is_product=True),
        EarlierFailure("d", is_product=False),
        EarlierFailure("f", is_product=True),
    ]
    assert await store.failed_products("job-1", after="", limit=10) == failed
    assert await store.failed_products("job-1", after="a", limit=2) == failed[1:3]
    assert await store.failed_products("job-1", after="f", limit=2) == []
    assert await store.failed_products("job-2", after="", limit=2) == []
    assert await store.items_left("job-1") == ItemsLeft(unidentified=2, gone=1, has_seen=False)
    assert await store.items_left("job-2") == ItemsLeft(unidentified=0, gone=0, has_seen=False)


async def test_restated_items_keep_all_but_the_reason(database: Database, claimed: Any) -> None:
    store, claim = CatalogueStore(database), await claimed()
    errors = [
        ItemErrorWrite("1", "download", "NotFound", "old", "https://x/1", {"url": "https://x/1"}),
        ItemErrorWrite("1", "decode", "Broken", "old", "https://x/2"),
        ItemErrorWrite("2", "map", "InvalidField", "old"),
    ]
    await store.commit_page(claim, page(errors=errors))
    restated = [ItemErrorRestatement("1", "GoneFromSource", "new")]
    await store.commit_page(claim, page(restated=restated))
    assert await rows(
        database,
        "SELECT external_id, stage, url, reason, message, document FROM imports.item_error ORDER BY 1, 3",
    ) == [
        ("1", "download", "https://x/1", "GoneFromSource", "new", {"url": "https://x/1"}),
        ("1", "decode", "https://x/2", "GoneFromSource", "new", None),
        ("2", "map", "", "InvalidField", "old", None),
    ]


@pytest.mark.parametrize(
    "how",
    [
        "DELETE FROM imports.claim",
        "UPDATE imports.claim SET expires_at = now()",
        "UPDATE imports.claim SET claim_id = gen_random_uuid()",
    ],
)
async def test_a_page_of_a_lost_claim_changes_nothing(database: Database, claimed: Any, how: str) -> None:
    store, claim = CatalogueStore(database), await claimed()
    async with database.connection() as connection:
        await connection.execute(how)
    everything = page(
        products=[write(FULL)],
        images=[image(FULL.external_id, "https://x/1")],
        errors=[ItemErrorWrite("1", "map", "X", "y")],
    )
    with pytest.raises(ClaimLostError):
        await store.commit_page(claim, everything)
    for table in ('"Product"', '"ProductImage"', "imports.item_error", "imports.checkpoint"):
        assert await rows(database, f"SELECT 1 FROM {table}") == []


async def test_a_page_is_committed_whole_or_not_at_all(database: Database, claimed: Any) -> None:
    store, claim = CatalogueStore(database), await claimed()
    broken = ItemErrorWrite("1", "map", "X", None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="null value"):
        await store.commit_page(claim, page(products=[write(FULL)], errors=[broken]))
    assert await rows(database, 'SELECT 1 FROM "Product"') == []
    assert await rows(database, "SELECT 1 FROM imports.checkpoint") == []


async def test_a_transaction_has_an_end(database: Database) -> None:
    with pytest.raises(DatabaseUnavailableError, match="transaction timeout"):
        async with database.transaction(timeout_seconds=0.05) as connection:
            await connection.execute("SELECT pg_sleep(5)")
    assert await rows(database, "SELECT 1") == [(1,)]
