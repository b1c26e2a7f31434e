"""`kubectl imports scale` on a real WorkerPool."""

import json

from cli_world import CliWorld

from import_core.adapters.kube.resources import WORKER_POOL


async def replicas(cli: CliWorld) -> int | None:
    pool = await cli.kube.get(WORKER_POOL, cli.namespace, "workers")
    assert pool is not None
    found: int | None = pool["spec"].get("replicas")
    return found


async def test_a_number_by_hand_and_back(cli: CliWorld) -> None:
    await cli.pool()
    dry = await cli.invoke("scale", "workers", "8", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "Would hold workers at 8 workers\n")
    assert await replicas(cli) is None
    held = await cli.invoke("scale", "workers", "8")
    assert held.stdout.splitlines() == [
        "Held workers at 8 workers",
        f"Back with: kubectl imports scale workers --auto -n {cli.namespace}",
    ]
    assert await replicas(cli) == 8
    assert (
        await cli.invoke("scale", "workers", "8")
    ).stdout == "workers is held at 8 workers already: nothing to do\n"
    auto = await cli.invoke("scale", "workers", "--auto")
    assert (auto.exit_code, auto.stdout) == (0, "Let the queue decide about workers again\n")
    assert await replicas(cli) is None


async def test_what_a_number_means_is_said(cli: CliWorld) -> None:
    await cli.pool(status={"busyReplicas": 4})
    none = await cli.invoke("scale", "workers", "0", "--dry-run")
    assert "With 0 workers nothing runs" in none.stdout
    assert "4 workers have jobs" in none.stdout
    document = json.loads((await cli.invoke("scale", "workers", "60", "--dry-run", "-o", "json")).stdout)
    assert document["was"] is None
    assert document["replicas"] is None
    assert document["warnings"] == [
        "The queue itself would get 2 to 50 workers; a number by hand may be outside"
    ]


async def test_what_can_not_be_meant(cli: CliWorld) -> None:
    await cli.pool()
    for arguments, words in {
        ("workers",): "Give a number of workers, or --auto",
        ("workers", "3", "--auto"): "Give a number of workers, or --auto",
        ("nobody", "3"): "There is no WorkerPool nobody",
        ("A/b", "3"): "There is no WorkerPool A/b",
    }.items():
        result = await cli.invoke("scale", *arguments)
        assert result.exit_code == 2
        assert words in result.stderr.replace("\n", " ")
    assert (await cli.invoke("scale", "workers", "-1")).exit_code == 2
    assert (await cli.invoke("scale", "workers", "1001")).exit_code == 2
