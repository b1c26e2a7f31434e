"""Dead letters over HTTP: who may, what is shown, what is done, and by whom it is said to have been done."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from gateway_world import Gateway, World
from structlog.testing import capture_logs
from test_gateway_imports import problem
from test_seller_pages import following, token_of

from import_core.domain.dead_letters import letter_id
from import_core.domain.steps import STEPS_IN_ORDER
from import_gateway.access.credentials import cookie_name

EMBED, CHECK, INDEX = STEPS_IN_ORDER
ALL = "/v1/dead-letters"
PRODUCT = """
INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title, price, currency, "createdAt", "updatedAt")
VALUES (%s, %s, %s, 'shopify', %s, 19.90, 'EUR', now(), now())
"""
STEP = """
INSERT INTO imports.product_step
    (product_id, step, company_id, job_id, content_hash, state, attempts, retryable, reason, message, updated_at)
VALUES (%s, %s, %s, %s, 'h', 'Dead', 4, %s, %s, 'no answer', clock_timestamp() - %s * interval '1 minute'),
    (%s, %s, %s, %s, 'h', 'Halted', 0, true, NULL, NULL, clock_timestamp())
"""


class Letters:
    """Dead letters of a test's own database."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def add(
        self,
        product: str,
        *,
        company: str = "acme",
        job: str = "job-acme",
        reason: str | None = "Timeout",
        retryable: bool = True,
        minutes: int = 0,
    ) -> str:
        """A product whose embedding failed for good so many minutes ago; returns the letter's id."""
        await self.world.execute(PRODUCT, (product, company, f"external-{product}", f"Tea {product}"))
        values = (product, EMBED.value, company, job, retryable, reason, minutes)
        await self.world.execute(STEP, (*values, product, CHECK.value, company, job))
        return letter_id(product, EMBED)

    async def states(self) -> dict[str, str]:
        """States of the first step, by product."""
        rows = await self.world.execute(
            "SELECT product_id, state FROM imports.product_step WHERE step = %s", (EMBED.value,)
        )
        return dict(rows)


@pytest_asyncio.fixture(loop_scope="session")
async def letters(world: World) -> AsyncIterator[Letters]:
    """Five of this namespace, one of another, one of a job that is gone."""
    made = Letters(world)
    namespace = world.cluster.namespace
    await world.row("job-acme", namespace=namespace)
    await world.row("job-bean", company="bean")
    await world.row("job-elsewhere", company="elsewhere", namespace="another")
    await made.add("p1", minutes=50)
    await made.add("p2", minutes=40, reason="NothingToEmbed", retryable=False)
    await made.add("p3", minutes=30)
    await made.add("p4", minutes=20, company="bean", job="job-bean")
    await made.add("p5", minutes=10, job="gone")
    await made.add("p6", company="elsewhere", job="job-elsewhere")
    await made.add("p7", company="elsewhere", job="gone-too")
    yield made


async def ids(gateway: Gateway, **query: Any) -> list[str]:
    """Products of all pages of two."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await gateway.call("GET", ALL, caller="viewer", params={"limit": 2, **query, **cursor})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert len(body["items"]) <= 2
        found += [item["productId"] for item in body["items"]]
        if body["next"] is None:
            return found
        cursor = {"cursor": body["next"]}


async def test_they_are_listed_page_by_page_newest_first_and_chosen(
    gateway: Gateway, letters: Letters
) -> None:
    assert await ids(gateway) == ["p5", "p4", "p3", "p2", "p1"]
    assert await ids(gateway, companyId="bean") == ["p4"]
    assert await ids(gateway, companyId="elsewhere") == []
    assert await ids(gateway, reason="Timeout", companyId="acme") == ["p5", "p3", "p1"]
    assert await ids(gateway, step=EMBED.value, product="external-p2") == ["p2"]
    assert await ids(gateway, step=INDEX.value) == []
    assert await ids(gateway, job="job-bean") == ["p4"]
    named = await letters.world.job("by-name")
    await letters.add("p8", job=named)
    assert await ids(gateway, job="by-name") == ["p8"]


async def test_reasons_are_counted_with_what_to_do(gateway: Gateway, letters: Letters) -> None:
    await letters.add("p9", reason=None, retryable=False)
    body = (await gateway.call("GET", f"{ALL}/reasons", caller="viewer")).json()
    assert [(row["reason"], row["count"], row["retryable"]) for row in body["items"]] == [
        ("Timeout", 4, True),
        ("", 1, False),
        ("NothingToEmbed", 1, False),
    ]
    assert body["items"][2]["field"] == "title, description"
    assert (body["total"], body["isAtLeast"], body["more"]) == (6, False, False)
    assert await ids(gateway, reason="") == ["p9"]
    chosen = (await gateway.call("GET", f"{ALL}/reasons?companyId=bean")).json()
    assert [row["count"] for row in chosen["items"]] == [1]
    none = (await gateway.call("GET", f"{ALL}/reasons?companyId=nobody")).json()
    assert (none["items"], none["total"]) == ([], 0)


async def test_one_is_shown_with_its_product_and_all_steps(gateway: Gateway, letters: Letters) -> None:
    one = letter_id("p2", EMBED)
    body = (await gateway.call("GET", f"{ALL}/{one}", caller="viewer")).json()
    assert (body["id"], body["reason"], body["attempts"], body["retryable"]) == (
        one,
        "NothingToEmbed",
        4,
        False,
    )
    assert body["product"]["title"] == "Tea p2"
    assert (body["product"]["price"], body["product"]["currency"]) == ("19.90", "EUR")
    assert [(row["step"], row["state"]) for row in body["steps"]] == [
        (EMBED.value, "Dead"),
        (CHECK.value, "Halted"),
    ]
    assert body["field"] == "title, description"
    assert "title or a description" in body["fix"]
    await letters.world.execute("""DELETE FROM "Product" WHERE id = 'p2'""")
    gone = (await gateway.call("GET", f"{ALL}/{one}")).json()
    assert (gone["product"], gone["title"]) == (None, None)


@pytest.mark.parametrize(("action", "state"), [("retry", "Due"), ("discard", "Discarded")])
async def test_one_is_acted_on_once_and_it_is_kept_who_did(
    gateway: Gateway, letters: Letters, action: str, state: str
) -> None:
    path = f"{ALL}/{letter_id('p1', EMBED)}"
    with capture_logs() as logs:
        answers = await asyncio.gather(*(gateway.call("POST", f"{path}/{action}") for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    assert next(a.json() for a in answers if a.status_code == 200)["changed"] == 1
    problem(next(a for a in answers if a.status_code == 409), 409, "conflict")
    problem(await gateway.call("GET", path), 404, "not-found")
    assert (await letters.states())["p1"] == state
    rows = await letters.world.execute(
        "SELECT message FROM imports.product_step WHERE product_id = 'p1' AND step = %s", (EMBED.value,)
    )
    caller = f"system:serviceaccount:{gateway.cluster.namespace}:operations"
    assert caller in rows[0][0]
    noted = [line for line in logs if line["event"].startswith("dead_letters.")]
    assert [(line["caller"], line["companyIds"], line["changed"]) for line in noted] == [
        (caller, ["acme"], 1)
    ]
    batches = await letters.world.execute(
        """SELECT j.queue, j.namespace FROM imports.product_step s JOIN "ProductImportJob" j ON j.id = s.batch_id"""
    )
    assert batches == ([(EMBED.value, gateway.cluster.namespace)] if action == "retry" else [])


async def test_many_are_acted_on_in_bounds_and_none_that_died_after_one_looked(
    gateway: Gateway, letters: Letters
) -> None:
    as_of = (await gateway.call("GET", f"{ALL}/reasons")).json()["asOf"]
    await letters.add("late")
    wanted = {"reason": "Timeout", "until": as_of, "limit": 2}
    first = await changed(gateway, "retry", wanted)
    assert first[:2] == (2, True)
    assert await changed(gateway, "retry", {**wanted, "cursor": first[2]}) == (2, False, None)
    assert await changed(gateway, "retry", wanted) == (0, False, None)
    states = await letters.states()
    assert {product for product, state in states.items() if state == "Due"} == {"p1", "p3", "p4", "p5"}
    assert states["late"] == "Dead"
    assert await changed(gateway, "discard", {"all": True}) == (2, False, None)
    assert {p for p, state in (await letters.states()).items() if state == "Dead"} == {"p6", "p7"}


async def changed(gateway: Gateway, action: str, wanted: dict[str, Any]) -> tuple[int, bool, str | None]:
    """What an action on many has done, and where it goes on."""
    answer = await gateway.call("POST", f"{ALL}/{action}", json=wanted)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["skipped"] == 0
    return body["changed"], body["more"], body["next"]


BREAKS_OFF = """
INSERT INTO imports.product_step
    (product_id, step, company_id, job_id, content_hash, state, attempts, updated_at)
SELECT 'many-' || n, 'generate-embedding', 'acme', 'job-acme', 'h', 'Dead', 4, now() - n * interval '1 day'
FROM generate_series(1, 450) n;
CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'canceled' USING ERRCODE = 'query_canceled'; END $$;
CREATE TRIGGER break_off BEFORE UPDATE ON imports.product_step FOR EACH ROW WHEN (OLD.product_id = 'many-300')
EXECUTE FUNCTION break_off();
"""


@pytest.mark.parametrize("action", ["retry", "discard"])
async def test_what_was_done_until_an_error_is_kept_of_each_batch(
    gateway: Gateway, letters: Letters, action: str
) -> None:
    await letters.world.execute("DELETE FROM imports.product_step")
    await letters.world.execute(BREAKS_OFF)
    with capture_logs() as logs:
        answer = await gateway.call("POST", f"{ALL}/{action}", json={"all": True})
    assert answer.status_code == 503
    noted = [line["changed"] for line in logs if line["event"].startswith("dead_letters.")]
    left = [product for product, state in (await letters.states()).items() if state == "Dead"]
    assert (noted, len(left)) == ([200], 250)


RIGHTS = [
    ("GET", ALL, "viewer"),
    ("GET", f"{ALL}/reasons", "viewer"),
    ("GET", "{one}", "viewer"),
    ("POST", f"{ALL}/retry", "submitter"),
    ("POST", f"{ALL}/discard", "submitter"),
    ("POST", "{one}/retry", "submitter"),
    ("POST", "{one}/discard", "submitter"),
]


@pytest.mark.parametrize(("method", "path", "least"), RIGHTS)
async def test_every_route_asks_who_calls_and_whether_he_may(
    gateway: Gateway, letters: Letters, method: str, path: str, least: str
) -> None:
    url = path.format(one=f"{ALL}/{letter_id('p1', EMBED)}")
    problem(await gateway.call(method, url, caller=None), 401, "not-authenticated")
    refused = ["nobody", "searcher"] + (["viewer"] if least == "submitter" else [])
    for caller in refused:
        problem(await gateway.call(method, url, caller=caller, json={"all": True}), 403, "not-allowed")
    assert set((await letters.states()).values()) == {"Dead"}
    assert (await gateway.call(method, url, caller=least, json={"all": True})).status_code == 200
    if method == "POST":
        cookie = f"{cookie_name(gateway.services.settings)}={gateway.cluster.tokens['operations']}"
        foreign = {"Cookie": cookie, "Origin": "https://evil.example"}
        answer = await gateway.call(method, url, caller=None, json={"all": True}, headers=foreign)
        problem(answer, 403, "foreign-origin")


async def test_what_is_not_there_or_of_another_namespace_is_not_found(
    gateway: Gateway, letters: Letters
) -> None:
    for one in (
        letter_id("unknown", EMBED),
        letter_id("p1", INDEX),
        letter_id("p6", EMBED),
        letter_id("p7", EMBED),
        "reasons",
        "generate-embedding.a",
        "nothing.cDE",
        "generate-embedding." + "A" * 400,
    ):
        for method, tail in (("GET", ""), ("POST", "/retry"), ("POST", "/discard")):
            if one == "reasons" and method == "GET":
                continue
            problem(await gateway.call(method, f"{ALL}/{one}{tail}"), 404, "not-found")
    for wanted in (
        {"companyId": "elsewhere"},
        {"product": "p6"},
        {"job": "job-elsewhere"},
        {"job": "gone-too"},
    ):
        assert (await gateway.call("POST", f"{ALL}/discard", json=wanted)).json()["changed"] == 0
    assert (await letters.states())["p6"] == "Dead"


WRONG_QUERIES = {
    "step=wash": "step",
    "companyId=a%2Fb": "companyId",
    "limit=0": "limit",
    "limit=201": "limit",
    "cursor=x": "cursor",
    "reason=a%00b": "reason",
    "product=": "product",
    "colour=red": "colour",
    "step=index-product&step=index-product": "step",
}
WRONG_BODIES: tuple[Any, ...] = (
    {},
    {"all": False},
    {"companyId": None},
    {"until": "5"},
    {"all": "yes"},
    {"all": True, "limit": 1001},
    {"all": True, "until": "yesterday"},
    {"step": "wash"},
    {"all": True, "reasons": []},
    {"all": True, "cursor": "x"},
    [],
)


async def test_a_wrong_parameter_is_named(steady_gateway: Gateway) -> None:
    for query, named in WRONG_QUERIES.items():
        answer = problem(await steady_gateway.call("GET", f"{ALL}?{query}"), 422, "invalid")
        assert named in answer["detail"], query


async def test_a_wrong_choice_changes_nothing(gateway: Gateway, letters: Letters) -> None:
    for path in (f"{ALL}/retry", f"{ALL}/discard"):
        for body in WRONG_BODIES:
            problem(await gateway.call("POST", path, json=body), 422, "invalid")
        text: dict[str, Any] = {"content": b"all", "headers": {"Content-Type": "text/plain"}}
        problem(await gateway.call("POST", path, **text), 415, "unsupported-media-type")
        text["headers"] = {"Content-Type": "application/json"}
        problem(await gateway.call("POST", path, **text), 400, "malformed-request")
    assert set((await letters.states()).values()) == {"Dead"}


async def test_who_follows_imports_hears_of_them(world: World, redis_url: str) -> None:
    letters = Letters(world)
    own = await world.job("with-letters", enrich={"embedding": True})
    other = await world.job("of-others")
    async with world.gateway(redis_url=redis_url, reread_seconds=0.1) as gateway:
        _, token = await token_of(gateway)
        async with following(gateway, token) as seller, gateway.events("/v1/events") as everything:
            for events in (seller, everything):
                first = {job["id"]: job["deadLetters"] for job in (await events.next()).data["jobs"]}
                assert first == {own: 0, other: 0}
            await letters.add("a", job=own)
            await letters.add("b", job=own)
            await world.execute("SELECT pg_notify('imports_progress', %s)", (own,))
            for events in (seller, everything):
                while {job["id"]: job["deadLetters"] for job in (await events.next()).data["jobs"]} != {
                    own: 2
                }:
                    pass
            await gateway.call("POST", f"{ALL}/{letter_id('a', EMBED)}/discard")
            for events in (seller, everything):
                while {job["id"]: job["deadLetters"] for job in (await events.next()).data["jobs"]} != {
                    own: 1
                }:
                    pass
        shown = (await gateway.call("GET", gateway.one("with-letters"))).json()
    assert shown["deadLetters"] == 1


async def test_a_database_that_is_away_is_an_outage(world: World) -> None:
    away = "postgresql://nobody:x@127.0.0.1:1/none"
    async with world.gateway(database_url=away, request_seconds=1) as gateway:
        answers = [
            await gateway.call("GET", ALL),
            await gateway.call("POST", f"{ALL}/retry", json={"all": True}),
        ]
    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
