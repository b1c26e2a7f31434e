"""The commands of docs/getting-started do what the page says, as they stand there."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path

from e2e.world import World
from import_core.adapters.kube.resources import WORKER_POOL
from import_local.binaries import find_kubectl
from import_local.demo.manifests import POOL, get_worker_pool

PAGE = Path(__file__).parents[2] / "docs" / "getting-started" / "README.md"
STEPS = (2, 3, 4)
PRODUCTS = 30


def commands_of_step(number: int) -> str:
    """The shell commands below the heading `## <number>. …`."""
    parts = re.split(r"^## (\d+)\. .*$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = dict(zip(parts[1::2], parts[2::2], strict=True))[str(number)]
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks, f"step {number} has no commands"
    return "".join(blocks)


async def test_the_commands_of_the_page_import_a_catalogue(world: World) -> None:
    programs = [sysconfig.get_path("scripts"), str(find_kubectl().parent), os.environ["PATH"]]
    environment = {"PATH": os.pathsep.join(programs)}
    try:
        for step in STEPS:
            outcome = await world.run("bash", "-euc", commands_of_step(step), environment=environment)
            assert outcome.code == 0, f"step {step}: {outcome.err}\n{outcome.out}"
        status = await world.finished("birch-first")
    finally:
        # The pool of the other tests, which the page's own has replaced.
        await world.apply(
            get_worker_pool(minimum=2, maximum=4, image="import-worker:dev", cooldown_seconds=5)
        )
        await world.until(
            WORKER_POOL, POOL, lambda pool: (pool.get("status") or {}).get("readyReplicas", 0) >= 2
        )
    assert status["phase"] == "Succeeded", status
    assert status["progress"]["productsTotal"] == PRODUCTS
    assert status["progress"].get("productsFailed", 0) == 0, status
    rows = await world.sql("""SELECT count(*) FROM "Product" WHERE "companyId" = 'birch'""")
    assert rows == [(PRODUCTS,)]
