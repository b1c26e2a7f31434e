"""What the demo calls live, archived, held back or lost, and whom a search for their titles finds."""

from __future__ import annotations

from search_catalogue import Catalogue, product

from import_core.adapters.postgres import Database
from import_local.demo import measures
from import_local.demo.fates import fate_of, find_each
from import_local.samples.catalogue.generated import DIFFICULT_TITLES

ACME = {"company": "acme"}


async def test_each_product_is_live_archived_held_back_or_lost(database: Database, database_url: str) -> None:
    catalogue = Catalogue(database)
    await catalogue.prepare("acme", "other")
    for product_id, decision in {"b": "approved", "a": "approved", "r": "rejected", "f": "flagged"}.items():
        await catalogue.decide(product_id, decision)
    await catalogue.add(
        product("b", "Beta"), product("a", "Alpha"), product("r", "Replica"), product("f", "Foxed")
    )
    await catalogue.add(product("old", "Aged", status="ARCHIVED"))
    await catalogue.insert(product("lost", "Absent"))
    await catalogue.decide("lost", "approved")
    await catalogue.add(product("theirs", "Another company's", company="other"))

    rows = await measures.read_all(database_url, measures.PRODUCTS, ACME)
    fates = {
        external_id: fate_of(archived=archived, indexed=indexed, decision=decision, reasons=reasons)
        for external_id, _, archived, indexed, decision, reasons in rows
    }
    assert fates == {
        "external-a": "live",
        "external-b": "live",
        "external-f": "flagged: no reason given",
        "external-lost": "lost on its way",
        "external-old": "archived",
        "external-r": "rejected: no reason given",
    }
    titles = {row[0]: row[1] for row in rows}
    assert list(titles.values()) == sorted(titles.values())
    assert await find_each(database_url, "acme", titles) == ["external-a", "external-b"]


async def test_a_title_finds_its_product_however_it_is_written(database: Database, database_url: str) -> None:
    catalogue = Catalogue(database)
    await catalogue.prepare("acme")
    titles = {f"external-{number}": title for number, title in enumerate(DIFFICULT_TITLES)}
    await catalogue.add(*(product(str(number), title) for number, title in enumerate(DIFFICULT_TITLES)))
    for number in range(len(DIFFICULT_TITLES)):
        await catalogue.decide(str(number), "approved")
    assert await find_each(database_url, "acme", titles) == list(titles)
