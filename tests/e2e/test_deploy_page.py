"""The commands of docs/how-to/deploy-aws.md that need no AWS do what the page says, as they stand there."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path

from e2e.world import World
from import_local.binaries import find_kubectl

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy-aws.md"
PRODUCTS = 30


def commands(title: str) -> str:
    found = re.findall(
        rf"^```sh {title}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert len(found) == 1
    return found[0]


async def test_the_first_import_and_the_first_day(world: World) -> None:
    programs = [sysconfig.get_path("scripts"), str(find_kubectl().parent), os.environ["PATH"]]
    environment = {
        "PATH": os.pathsep.join(programs),
        "SHOP_URL": f"{world.installation.shopify_url}/generated-30-3",
        "SHOP_TOKEN": "shpat_example",
    }
    outcome = await world.run("bash", "-euc", commands("first import"), environment=environment)
    assert outcome.code == 0, f"{outcome.err}\n{outcome.out}"
    rows = await world.sql("""SELECT count(*) FROM "Product" WHERE "companyId" = 'cedar'""")
    assert rows == [(PRODUCTS,)]
    outcome = await world.run("bash", "-euc", commands("first day"), environment=environment)
    assert outcome.code == 0, f"{outcome.err}\n{outcome.out}"
    assert "cedar-first" in outcome.out
