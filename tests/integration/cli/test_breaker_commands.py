"""`kubectl imports open-breaker` and `reset-breaker` against real servers."""

import json
from datetime import UTC, datetime

import pytest
from cli_world import CliWorld

from import_core.adapters.postgres.breakers import BreakerStore
from import_core.domain.breaker import CLOSED, Breaker, BreakerPolicy


async def breaker(cli: CliWorld, name: str = "shop") -> Breaker:
    return (await BreakerStore(cli.database).read(cli.namespace, name)).breaker


async def test_a_provider_is_left_alone_and_called_again(cli: CliWorld) -> None:
    await cli.provider("shop")
    dry = await cli.invoke("open-breaker", "shop", "--reason", "moves", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert dry.stdout == (
        "Would open the circuit breaker of shop: its jobs wait, without a try being used up\n"
    )
    assert await breaker(cli) == CLOSED
    opened = await cli.invoke("open-breaker", "shop", "--reason", "moves")
    assert opened.exit_code == 0, opened.output
    assert opened.stdout.endswith("Call it again with: kubectl imports reset-breaker shop\n")
    known = await breaker(cli)
    assert (known.is_forced, known.forced_reason) == (True, "moves")
    assert known.forced_by
    assert known.forced_by.startswith(cli.kube.user or "?")
    shown = await cli.invoke("status")
    assert f"shop: {known.forced_by} opened the circuit breaker (moves)" in shown.stdout
    (listed,) = json.loads((await cli.invoke("status", "-o", "json")).stdout)["openBreakers"]
    assert (listed["provider"], listed["state"], listed["forcedReason"]) == ("shop", "Open", "moves")
    would = await cli.invoke("reset-breaker", "shop", "--dry-run")
    assert would.stdout.endswith(
        "Would reset the circuit breaker of shop: calls go through, the jobs that waited are due\n"
    )
    assert (await breaker(cli)).is_forced
    document = json.loads((await cli.invoke("reset-breaker", "shop", "-o", "json")).stdout)
    assert (document["state"], document["was"], document["reason"]) == ("Closed", "Open", "moves")
    assert await breaker(cli) == CLOSED
    again = await cli.invoke("reset-breaker", "shop")
    assert again.stdout == "The circuit breaker of shop is closed: nothing to do\n"
    assert json.loads((await cli.invoke("status", "-o", "json")).stdout)["openBreakers"] == []


async def test_one_that_opened_by_itself_can_be_kept_open_and_be_reset(cli: CliWorld) -> None:
    await cli.provider("shop")
    store, policy = BreakerStore(cli.database), BreakerPolicy(failure_threshold=2, open_seconds=600)
    for _ in range(2):
        await store.failed(cli.namespace, "shop", holder=None, policy=policy)
    shown = await cli.invoke("status")
    assert "shop: The provider failed 2 times in a row since" in shown.stdout
    document = json.loads(
        (await cli.invoke("open-breaker", "shop", "--reason", "moves", "-o", "json")).stdout
    )
    assert (document["state"], document["was"], document["consecutiveFailures"]) == ("Open", "Open", 2)
    assert datetime.fromisoformat(document["openedAt"]) < datetime.now(UTC)
    known = await breaker(cli)
    assert (known.is_forced, known.probe_at) == (True, None)
    assert (await cli.invoke("reset-breaker", "shop")).exit_code == 0
    assert await breaker(cli) == CLOSED


@pytest.mark.parametrize("name", ["nobody", "No Body", "../x"])
async def test_a_provider_that_is_not_there_is_named(cli: CliWorld, name: str) -> None:
    for command in (("open-breaker", name, "--reason", "r"), ("reset-breaker", name)):
        result = await cli.invoke(*command)
        assert result.exit_code == 2, result.output
        assert f"There is no ImportProvider {name} in namespace {cli.namespace}" in result.stderr
    assert (await cli.invoke("open-breaker", "shop")).exit_code == 2


async def test_the_breaker_of_a_steps_model_is_steered_without_an_object(cli: CliWorld) -> None:
    opened = await cli.invoke("open-breaker", "quality-control", "--reason", "a bill")
    assert opened.exit_code == 0, opened.output
    assert (await breaker(cli, "quality-control")).forced_reason == "a bill"
    reset = await cli.invoke("reset-breaker", "quality-control", "-o", "json")
    assert json.loads(reset.stdout)["was"] == "Open"
    assert (await cli.invoke("open-breaker", "nobody", "--reason", "x")).exit_code == 2
