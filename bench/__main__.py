"""`python -m bench [name …]`: runs the benchmarks one after the other and prints one table each."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import platform

BENCHMARKS = (
    "images",
    "products",
    "feed",
    "jobs",
    "rows",
    "operator",
    "worker_start",
    "queue_memory",
    "intake",
    "scaling",
    "live",
    "admission",
    "backpressure",
    "reimport",
    "embedding",
    "quality",
    "search",
    "scraping",
    "sync",
    "memory",
)
PEER_BENCHMARKS = ("feed_peers", "jobs_peers")
"""Those that install other projects first, each in an environment of its own (`bench.peers`)."""


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Ratios against a bare reference in the same run; every figure is a median of interleaved runs.",
        epilog="example: python -m bench products jobs",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"one of {', '.join(BENCHMARKS)} (with --peers: {', '.join(PEER_BENCHMARKS)}); all if none",
    )
    parser.add_argument("--peers", action="store_true", help="the benchmarks beside other projects")
    arguments = parser.parse_args()
    known = PEER_BENCHMARKS if arguments.peers else BENCHMARKS
    chosen = arguments.names or known
    unknown = set(chosen) - set(known)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    print(
        f"machine: {os.cpu_count()} cores, {memory} GiB, Python {platform.python_version()}, {platform.system()}"
    )
    for name in chosen:
        print(f"\n## {name}", flush=True)
        asyncio.run(importlib.import_module(f"bench.{name}").main())


if __name__ == "__main__":
    main()
