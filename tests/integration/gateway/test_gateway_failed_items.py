"""What finished imports gave up, over HTTP: beside dead steps, with a clear refusal where nothing can be done."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest_asyncio
from gateway_world import Gateway, World
from structlog.testing import capture_logs
from test_gateway_dead_letters import ALL, Letters
from test_gateway_imports import problem

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.dead_letters import item_id
from import_core.domain.reopening import RETRY_ITEMS_ANNOTATION
from import_core.domain.values import MAX_TEXT_LENGTH

ITEM = """
INSERT INTO imports.item_error (job_id, external_id, stage, reason, message) VALUES (%s, %s, 'map', %s, 'no number')
"""


async def give_up(world: World, job_id: str, *external_ids: str, reason: str = "InvalidField") -> str:
    """Products that an import could not import; it has ended."""
    for external_id in external_ids:
        await world.execute(ITEM, (job_id, external_id, reason))
    await world.execute(
        """UPDATE "ProductImportJob" SET status = 'COMPLETED', "completedAt" = clock_timestamp() WHERE id = %s""",
        (job_id,),
    )
    return job_id


@dataclass(frozen=True)
class Ended:
    """An import with an object that has ended."""

    id: str
    name: str


@pytest_asyncio.fixture(loop_scope="session")
async def autumn(world: World) -> AsyncIterator[Ended]:
    """An import with its object that gave two products up; there is one of another namespace, too."""
    await give_up(world, await world.row("elsewhere", namespace="another"), "e")
    name = f"autumn-{uuid.uuid4().hex[:8]}"
    yield Ended(await give_up(world, await world.job(name), "a", "b"), name)


async def token(gateway: Gateway, name: str) -> Any:
    """The request for a retry of failed items that the object bears."""
    body = await gateway.cluster.kube.get(IMPORT_JOB, gateway.cluster.namespace, name)
    assert body is not None
    return (body["metadata"].get("annotations") or {}).get(RETRY_ITEMS_ANNOTATION)


async def test_they_are_listed_behind_dead_steps_counted_and_shown(
    gateway: Gateway, world: World, autumn: Ended
) -> None:
    letters = Letters(world)
    await letters.add("p1", job=autumn.id)
    found, cursor = [], ""
    while cursor is not None:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await gateway.call("GET", ALL, caller="viewer", params=query)).json()
        found += [(item["step"], item["externalId"], item["productId"]) for item in page["items"]]
        cursor = page["next"]
    assert found == [
        ("generate-embedding", "external-p1", "p1"),
        ("import", "a", None),
        ("import", "b", None),
    ]
    reasons = (await gateway.call("GET", f"{ALL}/reasons?job={autumn.name}", caller="viewer")).json()
    assert [(row["step"], row["reason"], row["count"]) for row in reasons["items"]] == [
        ("import", "InvalidField", 2),
        ("generate-embedding", "Timeout", 1),
    ]
    assert "field mapping" in reasons["items"][0]["fix"]
    one = (await gateway.call("GET", f"{ALL}/{item_id(autumn.id, 'a')}", caller="viewer")).json()
    assert (one["jobId"], one["retryable"], one["product"], one["steps"]) == (autumn.id, False, None, [])
    only = (await gateway.call("GET", f"{ALL}?step=import&product=b&companyId=acme")).json()
    assert [item["id"] for item in only["items"]] == [item_id(autumn.id, "b")]


async def test_one_of_the_longest_id_that_an_import_keeps_is_opened_and_acted_on(
    gateway: Gateway, world: World, autumn: Ended
) -> None:
    longest = "\N{TEAPOT}" * MAX_TEXT_LENGTH
    await give_up(world, autumn.id, longest)
    (item,) = (await gateway.call("GET", ALL, params={"product": longest})).json()["items"]
    one = (await gateway.call("GET", f"{ALL}/{item['id']}", caller="viewer")).json()
    assert (one["externalId"], one["jobId"]) == (longest, autumn.id)
    assert (await gateway.call("POST", f"{ALL}/{item['id']}/discard")).json()["changed"] == 1


async def test_a_retry_asks_the_import_once_and_says_by_whom(
    gateway: Gateway, world: World, autumn: Ended
) -> None:
    with capture_logs() as logs:
        path = f"{ALL}/{item_id(autumn.id, 'a')}/retry"
        assert (await gateway.call("POST", path, caller="submitter")).json()["changed"] == 1
    asked = await token(gateway, autumn.name)
    assert asked
    (line,) = [line for line in logs if line["event"] == "dead_letters.retried"]
    assert (line["jobIds"], line["steps"], line["changed"]) == ([autumn.id], ["import"], 1)
    assert line["caller"].endswith(":submitter")
    answer = problem(await gateway.call("POST", path), 409, "conflict")
    assert "already" in answer["detail"]
    many = (await gateway.call("POST", f"{ALL}/retry", json={"step": "import"})).json()
    assert (many["changed"], many["skipped"]) == (0, 2)
    assert await token(gateway, autumn.name) == asked
    # The operator honours it, the run gives one up again, and that one may be retried anew.
    await world.execute(
        """UPDATE "ProductImportJob" SET "itemsRetryToken" = %s WHERE id = %s""", (asked, autumn.id)
    )
    assert (await gateway.call("POST", path)).json()["changed"] == 1
    assert await token(gateway, autumn.name) != asked


async def test_an_import_without_an_object_is_run_by_its_row(gateway: Gateway, world: World) -> None:
    for job in ("row-1", "row-2"):
        await world.row(job, company=job)
        await give_up(world, job, "x", "y")
    wanted = {"step": "import", "reason": "InvalidField"}
    done = (await gateway.call("POST", f"{ALL}/retry", json=wanted)).json()
    assert (done["changed"], done["skipped"], done["more"]) == (4, 0, False)
    rows = await world.execute("""SELECT id, status, "itemsOnly" FROM "ProductImportJob" ORDER BY id""")
    assert rows == [("row-1", "PENDING", True), ("row-2", "PENDING", True)]


async def test_a_retry_of_many_counts_all_of_an_import_with_the_call_that_runs_it_again(
    gateway: Gateway, world: World, autumn: Ended
) -> None:
    await give_up(world, autumn.id, "c", reason="NoExternalId")
    await give_up(world, autumn.id, "d", reason="Malformed")
    await give_up(world, await world.row("row", company="bean"), "x", "y", "z")
    wanted = {"step": "import", "limit": 1}
    first = (await gateway.call("POST", f"{ALL}/retry", json=wanted)).json()
    assert (first["changed"], first["skipped"], first["more"]) == (3, 0, True)
    rest = (await gateway.call("POST", f"{ALL}/retry", json={**wanted, "cursor": first["next"]})).json()
    assert (rest["changed"], rest["skipped"], rest["more"]) == (3, 1, False)
    assert "retry the whole import" in rest["why"]
    assert await token(gateway, autumn.name)


async def test_while_the_import_is_under_way_nothing_is_decided(
    gateway: Gateway, world: World, autumn: Ended
) -> None:
    for status in ("PENDING", "IN_PROGRESS"):
        await world.set(autumn.id, status)
        path = f"{ALL}/{item_id(autumn.id, 'a')}"
        for action in ("retry", "discard"):
            answer = problem(await gateway.call("POST", f"{path}/{action}"), 409, "conflict")
            assert f"{autumn.name} is under way" in answer["detail"]
        answer = problem(await gateway.call("GET", path), 404, "not-found")
        assert f"{autumn.name} is under way" in answer["detail"]
        assert (await gateway.call("GET", f"{ALL}?step=import")).json()["items"] == []
        done = (await gateway.call("POST", f"{ALL}/discard", json={"step": "import"})).json()
        assert (done["changed"], done["more"]) == (0, False)
    assert await token(gateway, autumn.name) is None


async def test_what_can_not_be_retried_says_why(gateway: Gateway, world: World, autumn: Ended) -> None:
    await world.execute("""UPDATE imports.item_error SET reason = 'NoExternalId' WHERE external_id = 'b'""")
    answer = await gateway.call("POST", f"{ALL}/{item_id(autumn.id, 'b')}/retry")
    assert "retry the whole import" in problem(answer, 409, "conflict")["detail"]
    await world.execute(
        """UPDATE "ProductImportJob" SET "objectName" = 'spring', "objectUid" = 'gone' WHERE id = %s""",
        (autumn.id,),
    )
    answer = await gateway.call("POST", f"{ALL}/{item_id(autumn.id, 'a')}/retry")
    assert "The ImportJob of spring is gone" in problem(answer, 409, "conflict")["detail"]
    await give_up(world, await world.row("later", company="bean"), "z")
    done = (await gateway.call("POST", f"{ALL}/retry", json={"all": True})).json()
    assert (done["changed"], done["skipped"], done["more"]) == (1, 2, False)


async def test_a_discarded_one_is_none_any_more(gateway: Gateway, world: World, autumn: Ended) -> None:
    path = f"{ALL}/{item_id(autumn.id, 'a')}"
    answers = await asyncio.gather(*(gateway.call("POST", f"{path}/discard") for _ in range(3)))
    codes = [answer.status_code for answer in answers]
    assert codes.count(200) == 1
    assert set(codes) <= {200, 404, 409}
    problem(await gateway.call("GET", path), 404, "not-found")
    rows = await world.execute(
        "SELECT stage, message FROM imports.item_error WHERE job_id = %s AND external_id = 'a'", (autumn.id,)
    )
    caller = f"system:serviceaccount:{gateway.cluster.namespace}:operations"
    assert rows == [("discarded", f"no number (discarded by {caller})")]
    left = (await gateway.call("POST", f"{ALL}/discard", json={"job": autumn.name})).json()
    assert left["changed"] == 1
    assert await world.execute("SELECT stage FROM imports.item_error WHERE job_id = 'elsewhere'") == [
        ("map",)
    ]


async def test_those_of_another_namespace_are_not_found(gateway: Gateway, autumn: Ended) -> None:
    for one in (
        item_id("elsewhere", "e"),
        item_id(autumn.id, "unknown"),
        item_id("unknown", "a"),
        "import.cDE",
    ):
        for method, tail in (("GET", ""), ("POST", "/retry"), ("POST", "/discard")):
            problem(await gateway.call(method, f"{ALL}/{one}{tail}"), 404, "not-found")


async def test_an_import_is_shown_with_how_many_it_gave_up(
    gateway: Gateway, world: World, autumn: Ended
) -> None:
    await world.checkpoint(autumn.id, products_failed=2)
    assert (await gateway.call("GET", gateway.one(autumn.name))).json()["deadLetters"] == 2
    await gateway.call("POST", f"{ALL}/{item_id(autumn.id, 'a')}/discard")
    assert (await gateway.call("GET", gateway.one(autumn.name))).json()["deadLetters"] == 1
