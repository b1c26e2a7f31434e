"""The OpenAPI document, held against the running gateway by schemathesis."""

import asyncio
import sys
from pathlib import Path

from gateway_world import Gateway, World

EXAMPLES = 4
"""For each operation, in each phase; the phases `examples` and `coverage` add those that follow from the schema."""
STREAMS = ("followAll", "followImport", "followSeller")
"""Never end: their errors are the same code's, their events are tested by test_gateway_events."""


async def test_schemathesis_finds_nothing(world: World, redis_url: str, tmp_path: Path) -> None:
    async with world.gateway(redis_url=redis_url) as gateway:
        await examine(gateway, world, tmp_path)


async def examine(gateway: Gateway, world: World, tmp_path: Path) -> None:
    await world.row("present")
    await world.set("present", "FAILED")
    words = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {gateway.cluster.tokens['operations']}"),
        *("--checks", "all", "--mode", "all", "--max-examples", str(EXAMPLES), "--seed", "1"),
        *("--suppress-health-check", "all", "--no-shrink", "--continue-on-failure", "--warnings", "off"),
        *(word for name in STREAMS for word in ("--exclude-operation-id", name)),
    ]
    process = await asyncio.create_subprocess_exec(
        *words, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-12_000:]
