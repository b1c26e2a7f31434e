"""What is kept beside products that the platform has deleted."""

from typing import Any

from postgres_rows import execute
from test_step_store import EMBED, commit, importing, page, take

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.step_control import START, StepControl

KEPT = (
    """INSERT INTO imports.search_document (product_id, company_id, content_hash)
    SELECT id, 'acme', 'h' FROM "Product\"""",
    """INSERT INTO imports.quality_decision (product_id, company_id, content_hash, decision, reasons, decided_by)
    SELECT id, 'acme', 'h', 'approved', '[]', 'rules' FROM "Product\"""",
    """INSERT INTO imports.quality_person (product_id, content_hash, decision, person)
    SELECT id, 'h', 'approved', 'jo' FROM "Product\"""",
    """INSERT INTO imports.product_embedding (product_id, kind, company_id, content_hash, model_checksum, embedding)
    SELECT id, 'text', 'acme', 'h', 'm', array_fill(1.0, ARRAY[768])::vector FROM "Product\"""",
)
TABLES = ("search_document", "quality_decision", "quality_person", "product_embedding")


async def test_nothing_is_left_of_products_that_are_gone(database: Database, claimed: Any) -> None:
    await commit(
        database, await importing(database, claimed, embedding=True, qualityControl=True), page("a", "b", "c")
    )
    for statement in KEPT:
        await execute(database, statement)
    # One is found by the batch that it is in, one by looking through the rows.
    await execute(
        database,
        """UPDATE imports.product_step SET batch_id = NULL, state = 'Done'
        WHERE product_id = (SELECT id FROM "Product" WHERE "externalId" = 'b')""",
    )
    await execute(database, """DELETE FROM "Product" WHERE "externalId" IN ('a', 'b')""")
    await take(database, EMBED)
    await StepControl(database).forget_gone(START)
    for table in ("product_step", *TABLES):
        left = await execute(
            database,
            f"""SELECT count(DISTINCT product_id), count(*) FILTER (WHERE product_id NOT IN
            (SELECT id FROM "Product")) FROM imports.{table}""",
        )
        assert left == [(1, 0)], table
