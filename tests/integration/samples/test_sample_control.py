"""The control API: faults, changed products, counters; and the command."""

import asyncio
import os
import signal
import sys

import httpx2
import pytest

from import_local.samples.app import serve_samples
from import_local.samples.settings import SampleSettings

TITLES = "{ products(first: 9) { nodes { title status updatedAt variants(first: 1) { nodes { price } } } } }"


async def test_the_next_answers_are_as_ordered(http, shop, roastify) -> None:
    order = {
        "api": {
            "next": [
                {"status": 429, "retryAfter": 7},
                {"status": 502, "times": 2},
                {"kind": "throttled"},
                {"kind": "slow", "seconds": 0},
            ]
        }
    }
    client = shop("tiny-1-0-ordered")
    put = await http.put(f"/control/shopify/{client.name}/faults", json=order)
    assert put.json()["faults"]["apiPending"] == 5
    answers = [await client.post("{ shop { name } }") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [429, 502, 502, 200, 200, 200]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[3].json()["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert "data" in answers[4].json()
    await http.put("/control/roastify/tiny-1-0-ordered/faults", json=order)
    answers = [await roastify("tiny-1-0-ordered", "/products") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [429, 502, 502, 429, 200]
    assert answers[1].json().keys() == {"message", "code"}


async def test_a_dropped_connection_gives_no_answer_and_the_next_call_works(http, shop) -> None:
    client = shop("tiny-1-1-dropped")
    await http.put(
        f"/control/shopify/{client.name}/faults",
        json={"api": {"next": [{"kind": "drop"}]}, "images": {"next": [{"kind": "drop"}]}},
    )
    with pytest.raises(httpx2.TransportError):
        await client.post("{ shop { name } }")
    with pytest.raises(httpx2.TransportError):
        await http.get(f"/images/shopify/{client.name}/0/0/x.jpg")
    assert (await client.post("{ shop { name } }")).status_code == 200
    calls = (await http.get(f"/control/shopify/{client.name}/calls")).json()["calls"]
    assert [call["status"] for call in calls] == [0, 200]
    assert calls[0]["at"] < calls[1]["at"]


async def test_an_outage_lasts_until_it_is_taken_back_and_is_this_shops_alone(http, shop) -> None:
    client, other = shop("tiny-1-0-out"), shop("tiny-1-0-in")
    await http.put(f"/control/shopify/{client.name}/faults", json={"api": {"outage": True}})
    assert {(await client.post("{ shop { name } }")).status_code for _ in range(3)} == {503}
    assert (await other.post("{ shop { name } }")).status_code == 200
    assert (await http.delete(f"/control/shopify/{client.name}")).status_code == 204
    assert (await client.post("{ shop { name } }")).status_code == 200


async def test_images_have_faults_of_their_own(http, shop) -> None:
    client = shop("tiny-1-1-imagefaults")
    faults = {"images": {"next": [{"status": 503, "retryAfter": 1}]}}
    await http.put(f"/control/shopify/{client.name}/faults", json=faults)
    assert (await client.post("{ shop { name } }")).status_code == 200
    address = f"/images/shopify/{client.name}/0/0/x.jpg"
    statuses = [(await http.get(address)).status_code for _ in range(2)]
    assert statuses == [503, 200]
    images = (await http.get(f"/control/shopify/{client.name}/images")).json()["images"]
    assert sum(images.values()) == 2


async def test_a_changed_product_is_served_changed(http, shop) -> None:
    client = shop("tiny-3-0-changed")
    path = f"/control/shopify/{client.name}/products"
    before = (await client.ask(TITLES))["products"]["nodes"]
    order = {"title": "New 🌿", "priceCents": 1234, "status": "ARCHIVED", "updatedAt": "2026-11-01T10:00:00Z"}
    assert (await http.patch(f"{path}/1", json=order)).status_code == 200
    assert (await http.patch(f"{path}/2", json={"removed": True})).status_code == 200
    after = (await client.ask(TITLES))["products"]["nodes"]
    assert after[0] == before[0]
    assert (after[1]["title"], after[1]["status"], after[1]["updatedAt"]) == (
        "New 🌿",
        "ARCHIVED",
        "2026-11-01T10:00:00Z",
    )
    assert after[1]["variants"]["nodes"][0]["price"] == "12.34"
    assert len(after) == 2
    assert (await http.patch(f"{path}/3", json={"title": "none"})).status_code == 404
    await http.delete(f"/control/shopify/{client.name}")
    assert (await client.ask(TITLES))["products"]["nodes"] == before


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"api": {"errorRate": 2}}, "errorRate"),
        ({"colour": "red"}, "colour"),
        ({"rateScale": 0}, "rateScale"),
        ({"throttleStatus": 500}, "throttleStatus"),
        ({"api": {"next": [{"kind": "explode"}]}}, "kind"),
    ],
)
async def test_a_wrong_order_names_the_field_and_changes_nothing(http, body: dict, place: str) -> None:
    path = "/control/shopify/tiny-1-0-orders"
    response = await http.put(f"{path}/faults", json=body)
    assert response.status_code == 422
    assert place in response.json()["details"][0]["loc"]
    assert (await http.get(path)).json()["faults"]["rateScale"] == 1.0


async def test_counters_are_shown_and_reset(http, shop) -> None:
    client = shop("tiny-1-0-counted")
    for _ in range(3):
        await client.post("{ shop { name } }")
    path = f"/control/shopify/{client.name}"
    counters = (await http.get(path)).json()["counters"]
    assert (counters["apiCalls"], counters["statuses"], counters["mostIn60Seconds"]) == (3, {"200": 3}, 3)
    accounts = (await http.get("/control")).json()["accounts"]
    assert client.name in {account["name"] for account in accounts}
    await http.delete(f"{path}/counters")
    assert (await http.get(path)).json()["counters"]["apiCalls"] == 0
    assert (await http.get("/control/shopify/nobody")).status_code == 404
    assert (await http.get("/control/other/vendure")).status_code == 404


async def test_limits_can_be_filled_up_and_everything_taken_back() -> None:
    settings = SampleSettings(data_folder=None, roastify_requests=2)
    headers = {"x-api-key": "rty_test_example"}
    async with serve_samples(settings) as running, httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        url = f"{running.roastify_url}/vendure/v1/products"
        control = f"{running.base_url}/control"
        assert [(await client.get(url, headers=headers)).status_code for _ in range(3)] == [200, 200, 429]
        await client.delete(f"{control}/roastify/vendure/limits")
        assert (await client.get(url, headers=headers)).status_code == 200
        await client.delete(control)
        assert running.account("roastify", "vendure").counters.api_calls == 0


async def test_the_command_serves_until_it_is_told_to_stop() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "import_local.samples",
        "--port",
        "0",
        stdout=asyncio.subprocess.PIPE,
        env=os.environ,
    )
    try:
        async with asyncio.timeout(60):
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            address = line.split(": ", 1)[1].removesuffix("/shopify/<shop>\n")
            async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
                assert (await client.get(f"{address}/healthz")).json() == {"status": "ok"}
            second = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "import_local.samples",
                "--port",
                address.rsplit(":", 1)[1],
                stderr=asyncio.subprocess.PIPE,
            )
            _, errors = await second.communicate()
            assert (second.returncode, b"in use" in errors) == (2, True)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
