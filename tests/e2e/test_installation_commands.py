"""`doctor`, `top`, `try` and `scale` on a whole installation: what is green there is green for real."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from e2e.test_refusals import connect
from e2e.world import KUBECTL_IMPORTS, World, job
from import_core.adapters.kube.resources import WORKER_POOL
from import_local.demo.manifests import POOL


async def test_a_whole_installation_is_well(world: World) -> None:
    outcome = await world.imports("doctor", "-o", "json")
    findings = {each["check"]: each for each in json.loads(outcome.out)["checks"]}
    unwell = {name: each for name, each in findings.items() if each["verdict"] != "ok"}
    assert outcome.code == 0, unwell
    # No Alertmanager is part of it.
    assert set(unwell) <= {"alert routing"}, unwell
    assert len(findings) >= 20


async def test_top_shows_the_pool_and_its_workers(world: World) -> None:
    await connect(world, "topped")
    await world.apply(job("topped", company="topped", provider_name="topped"))
    await world.finished("topped")
    report = json.loads((await world.imports("top", "-o", "json")).out)
    assert len(report["workers"]) >= 2
    assert report["paces"][0]["completed"] >= 1
    text = await world.imports("top", "--once")
    assert text.code == 0, text.err
    assert POOL in text.out


async def test_a_catalogue_is_tried_within_the_shared_limit(world: World, tmp_path: Path) -> None:
    await connect(world, "tried", shop="tiny-5-1")
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job("tried", company="tried", provider_name="tried")))
    outcome = await world.run(
        *(KUBECTL_IMPORTS, "try", str(file), "-o", "json"), environment={"PROVIDER_ALLOW": "127.0.0.1"}
    )
    assert outcome.code == 0, outcome.err
    assert len(json.loads(outcome.out)["products"]) == 5


async def test_a_pool_is_held_and_let_go(world: World) -> None:
    assert (await world.imports("scale", POOL, "3")).code == 0
    await world.until(WORKER_POOL, POOL, lambda pool: (pool.get("status") or {}).get("readyReplicas") == 3)
    assert (await world.imports("scale", POOL, "--auto")).code == 0
    await world.until(WORKER_POOL, POOL, lambda pool: (pool.get("status") or {}).get("readyReplicas") == 2)
    # It turns unready first and goes then; the tests after this one ask every worker there is.
    await world.only_workers(2)
