"""A whole feed through the worker's pipeline, beside dlt merging the same feed into the same PostgreSQL.

dlt runs from the same pages, without our checks, hashes, checkpoints and claim; as it is tuned in
`bench/peers/dlt_merge.py`, and as a first pipeline has it. Run with `python -m bench --peers feed_peers`;
FEED_PRODUCTS and FEED_ROUNDS set the size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.feed import COSTS, PRODUCTS, ROUNDS, Server, Taken, import_feed, with_server
from bench.feed_pages import write_feed
from bench.measuring import Figures
from bench.peers import install, run_peer
from bench.table import median_of, print_table, ratios_of

WAYS = {
    "own": "source page → checked, mapped, upserted",
    "upsert": "dlt merge, tuned: strategy upsert, CSV by COPY, variants as JSON",
    "default": "dlt merge, as it comes",
}


async def main() -> None:
    """Measure in turns, print."""
    await install("dlt")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feed.jsonl"
        write_feed(path, PRODUCTS)
        async with with_server() as server:
            rounds = [await measure_round(server, path, turn) for turn in range(ROUNDS)]
    report(rounds)


async def measure_round(server: Server, path: Path, turn: int) -> dict[str, Taken]:
    """Each way once; the order is turned round every second time."""
    taken: dict[str, Taken] = {}
    for way in list(WAYS)[:: -1 if turn % 2 else 1]:
        await server.clear()
        company = f"{way}-{turn}"
        if way == "own":
            taken[way] = await server.run(company, import_feed, path, company)
            continue
        with tempfile.TemporaryDirectory() as folder, server.counted() as counted:
            printed = await run_peer("dlt", "dlt_merge.py", server.url, str(path), company, folder, way)
        taken[way] = Taken(Figures.from_json(printed), counted.cpu_seconds)
    return taken


def report(rounds: Sequence[Mapping[str, Taken]]) -> None:
    """Print medians with ranges over the rounds."""
    print(f"{PRODUCTS:,} products of 15 fields and 3 variants, {ROUNDS} interleaved rounds\n")
    own = [each["own"].own.seconds for each in rounds]
    rows = []
    for way, title in WAYS.items():
        taken = [each[way] for each in rounds]
        seconds = [one.own.seconds for one in taken]
        rows.append(
            (
                title,
                median_of([PRODUCTS / one for one in seconds]),
                median_of(ratios_of(seconds, own)),
                median_of([1e6 * one.own.cpu_seconds / PRODUCTS for one in taken]),
                median_of([1e6 * one.server_cpu_seconds / PRODUCTS for one in taken]),
                median_of([one.own.peak_mib for one in taken]),
            )
        )
    header = ("feed", "products/s", "ours ÷ this", *COSTS)
    print_table(header, rows)
