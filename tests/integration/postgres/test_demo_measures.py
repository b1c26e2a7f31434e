"""What the demo counts as live, archived and held back: each product once, and a lost one as none of these."""

from __future__ import annotations

from search_catalogue import Catalogue, product

from import_core.adapters.postgres import Database
from import_local.demo import measures

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

    assert await measures.read_all(database_url, measures.LIVE_ARCHIVED_WITHHELD, ACME) == [(2, 1, 2)]
    assert await measures.read_all(database_url, measures.A_LIVE_TITLE, ACME) == [("Alpha",)]
