"""Bad input ends in a sentence that names the field or the thing to mend, and changes nothing."""

from __future__ import annotations

import json
import uuid

import httpx2
import pytest
from eventually import eventually

from e2e.world import World, condition_of, job, provider, secret
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.mapping import TARGET_FIELDS
from import_local.samples.settings import SHOPIFY_TOKEN


async def connect(world: World, name: str, *, shop: str = "tiny-3-1", token: str = SHOPIFY_TOKEN) -> None:
    await world.apply(
        secret(name, accessToken=token),
        provider(name, company=name, kind="shopify", url=f"{world.installation.shopify_url}/{shop}"),
    )


async def products_of(world: World, company: str) -> int:
    rows = await world.sql('SELECT count(*) FROM "Product" WHERE "companyId" = %s', company)
    return int(rows[0][0])


async def refused(world: World, name: str) -> dict[str, object]:
    """The status of a job that is not accepted."""
    version = await world.until(
        IMPORT_JOB, name, lambda v: condition_of(v.get("status") or {}, "Accepted").get("status") == "False"
    )
    status: dict[str, object] = version["status"]
    return status


async def test_a_wrong_token_fails_at_once_and_says_what_to_check(world: World) -> None:
    await connect(world, "wrong-token", token="shpat_mistyped")
    await world.apply(job("wrong-token", company="wrong-token", provider_name="wrong-token"))
    status = await world.finished("wrong-token")
    assert status["phase"] == "Failed"
    assert condition_of(status, "Failed")["reason"] == "InvalidCredentials"
    assert "token" in status["message"].lower()
    assert "shpat_mistyped" not in str(status)
    assert await products_of(world, "wrong-token") == 0


async def test_an_unknown_provider_is_named_and_the_job_runs_once_it_exists(world: World) -> None:
    await world.apply(job("early", company="early", provider_name="early"))
    status = await refused(world, "early")
    assert status["phase"] == "Pending"
    assert condition_of(status, "Accepted")["reason"] == "ProviderNotFound"
    assert "early" in str(status["message"])
    await connect(world, "early")
    assert (await world.finished("early"))["phase"] == "Succeeded"


async def test_a_provider_of_another_company_is_refused(world: World) -> None:
    await connect(world, "theirs")
    await world.apply(job("not-mine", company="mine", provider_name="theirs"))
    status = await refused(world, "not-mine")
    assert condition_of(status, "Accepted")["reason"] == "CompanyMismatch"
    assert "companyId" in str(status["message"])
    rows = await world.sql('SELECT count(*) FROM "ProductImportJob" WHERE "objectName" = %s', "not-mine")
    assert rows == [(0,)]


async def test_a_provider_that_does_not_answer_is_retried_and_says_so(world: World) -> None:
    shop = "tiny-4-0"
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        faults = f"{world.sample_root}/control/shopify/{shop}/faults"
        (await client.put(faults, json={"api": {"outage": True}})).raise_for_status()
    await world.apply(
        secret("nobody", accessToken=SHOPIFY_TOKEN),
        provider("nobody", company="nobody", kind="shopify", url=f"{world.installation.shopify_url}/{shop}"),
        job("nobody", company="nobody", provider_name="nobody"),
    )
    # The connection's check fails beside the job's calls, so its breaker may open before a try has failed.
    version = await world.until(
        IMPORT_JOB,
        "nobody",
        lambda v: (v.get("status") or {}).get("waitingReason") in {"Retry", "BreakerOpen"},
    )
    status = version["status"]
    assert status["phase"] == "Queued"
    assert status["attempts"] >= (1 if status["waitingReason"] == "Retry" else 0)
    assert status["message"]
    outcome = await world.kubectl("-n", "imports", "delete", "importjob", "nobody")
    assert outcome.code == 0
    await cancelled(world, "nobody")


async def cancelled(world: World, object_name: str) -> None:
    """Deleting an object stops its work: its row becomes CANCELLED."""

    async def is_cancelled() -> bool:
        rows = await world.sql(
            """SELECT status FROM "ProductImportJob" WHERE "objectName" = %s ORDER BY "createdAt" DESC LIMIT 1""",
            object_name,
        )
        return rows == [("CANCELLED",)]

    await eventually(is_cancelled, seconds=60, what=f"the row of {object_name} is cancelled")


@pytest.mark.parametrize(
    ("mapping", "named"),
    [
        ({"title": "title["}, "title"),
        ({"titel": "title"}, "titel"),
        ({"price": "no_such_function(@)"}, "price"),
    ],
)
async def test_an_invalid_mapping_names_its_field(world: World, mapping: dict[str, str], named: str) -> None:
    await connect(world, "mapped")
    name = f"mapped-{uuid.uuid4().hex[:8]}"
    body = job(name, company="mapped", provider_name="mapped", fieldMapping=mapping)
    outcome = await world.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    if outcome.code != 0:
        # A key that is no product field: CEL can't afford to quote it, so it lists those that are.
        assert "spec.fieldMapping" in outcome.err
        assert "inventoryQuantity" in outcome.err
        assert named not in TARGET_FIELDS
        return
    status = await refused(world, name)
    assert condition_of(status, "Accepted")["reason"] == "InvalidMapping"
    assert f"fieldMapping.{named}" in str(status["message"])


async def test_an_empty_catalogue_succeeds_and_says_that_it_is_empty(world: World) -> None:
    await connect(world, "empty", shop="empty")
    await world.apply(job("empty", company="empty", provider_name="empty"))
    status = await world.finished("empty")
    assert status["phase"] == "Succeeded"
    assert "empty" in status["message"]


async def test_a_custom_mapping_is_followed(world: World) -> None:
    await connect(world, "custom")
    mapping = {"title": "join(' by ', [title, vendor])"}
    await world.apply(job("custom", company="custom", provider_name="custom", fieldMapping=mapping))
    assert (await world.finished("custom"))["phase"] == "Succeeded"
    titles = await world.sql('SELECT title FROM "Product" WHERE "companyId" = %s', "custom")
    assert len(titles) == 3
    assert all(" by " in title for (title,) in titles)


async def test_hostile_images_fail_alone_each_with_its_reason(world: World) -> None:
    await connect(world, "hostile", shop="hostile")
    await world.apply(job("hostile", company="hostile", provider_name="hostile"))
    status = await world.finished("hostile", seconds=200)
    assert status["phase"] == "Succeeded", status
    rows = await world.sql(
        """SELECT e.url, e.stage, e.reason, e.message FROM imports.item_error e
           JOIN "ProductImportJob" j ON j.id = e.job_id WHERE j."objectName" = 'hostile'"""
    )
    messages = {row[0].rsplit("/hostile/", 1)[-1].split("?")[0]: row[3].lower() for row in rows}
    for case, word in {
        "html.jpg": "html",
        "truncated.jpg": "cut off",
        "bomb.png": "megapixel",
        "too-large.jpg": "25,000,000 bytes",
        "too-large-chunked.jpg": "25,000,000 bytes",
        "redirect-metadata": "169.254.169.254",
        "script.svg": "svg",
        "not-found.jpg": "404",
    }.items():
        assert case in messages, (case, sorted(messages))
        assert word in messages[case], (case, messages[case])
    harmless = {"good.webp", "good.avif", "good.gif", "good.png"}
    assert not harmless & set(messages)
    outcome = await world.imports("errors", "hostile")
    assert outcome.code == 0
    assert "169.254.169.254" in outcome.out


async def test_a_row_inserted_by_hand_runs_without_an_object(world: World) -> None:
    await connect(world, "by-hand", shop="tiny-2-1")
    job_id = str(uuid.uuid4())
    await world.sql(
        'INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES (%s, %s, %s)',
        job_id,
        "by-hand",
        "by-hand",
    )
    assert await final_state(world, job_id) == ("COMPLETED", None)
    assert await products_of(world, "by-hand") == 2


async def test_a_row_by_hand_with_an_unknown_provider_fails_and_names_it(world: World) -> None:
    job_id = str(uuid.uuid4())
    await world.sql(
        'INSERT INTO "ProductImportJob" (id, "companyId", provider) VALUES (%s, %s, %s)',
        job_id,
        "x",
        "no-such",
    )
    state, message = await final_state(world, job_id)
    assert state == "FAILED"
    assert "no-such" in str(message)


async def final_state(world: World, job_id: str) -> tuple[str, str | None]:
    async def look() -> tuple[str, str | None] | None:
        rows = await world.sql('SELECT status, "errorMessage" FROM "ProductImportJob" WHERE id = %s', job_id)
        state, message = rows[0]
        return (state, message) if state in {"COMPLETED", "FAILED", "CANCELLED"} else None

    found: tuple[str, str | None] = await eventually(look, seconds=120, what=f"the end of {job_id}")
    return found
