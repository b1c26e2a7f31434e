"""The sample images over HTTP: exact bytes, conditional requests, changes, and the hostile ones."""

import asyncio
import hashlib

import httpx2
import pytest
import pyvips

from import_local.samples.app import serve_samples
from import_local.samples.catalogue import expected_products
from import_local.samples.settings import SampleSettings

MEBIBYTE = 1024 * 1024


async def _expected(samples, name: str):
    catalogue = samples.account("shopify", name).catalogue
    return list(expected_products(catalogue, "shopify", samples.base_url))


async def test_an_image_has_the_expected_bytes_and_headers(samples, http: httpx2.AsyncClient) -> None:
    products = await _expected(samples, "generated-3-2-bytes")
    for image in (image for product in products for image in product.images):
        response = await http.get(image.url)
        assert response.status_code == 200
        assert response.content == await asyncio.to_thread(image.content)
        assert int(response.headers["content-length"]) == len(response.content)
        header = pyvips.Image.new_from_buffer(response.content, "")
        assert (header.width, header.height) == (image.width, image.height)


async def test_unchanged_images_answer_304(samples, http: httpx2.AsyncClient) -> None:
    [product] = await _expected(samples, "tiny-1-1-conditional")
    url = product.images[0].url
    first = await http.get(url)
    for headers in (
        {"If-None-Match": first.headers["etag"]},
        {"If-None-Match": f'"x", W/{first.headers["etag"]}'},
        {"If-Modified-Since": first.headers["last-modified"]},
    ):
        again = await http.get(url, headers=headers)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    for headers in ({"If-None-Match": '"other"'}, {"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}):
        assert (await http.get(url, headers=headers)).status_code == 200
    counters = samples.account("shopify", "tiny-1-1-conditional").counters.summary()
    assert (counters["imageRequests"], counters["imagesNotModified"]) == (6, 3)
    assert counters["imageBytes"] == 3 * len(first.content)
    assert counters["apiCalls"] == 0


async def test_a_replaced_image_changes_under_its_address(samples, http: httpx2.AsyncClient) -> None:
    name = "tiny-2-1-replaced"
    before = (await _expected(samples, name))[0].images[0]
    old = await http.get(before.url)
    await http.patch(f"/control/shopify/{name}/products/0", json={"image": "replace"})
    after = (await _expected(samples, name))[0].images[0]
    new = await http.get(before.url, headers={"If-None-Match": old.headers["etag"]})
    assert after.url == before.url
    assert new.status_code == 200
    assert new.content != old.content
    await http.patch(f"/control/shopify/{name}/products/0", json={"image": "new-address"})
    assert (await _expected(samples, name))[0].images[0].url != before.url


async def test_missing_images_are_404(samples, http: httpx2.AsyncClient) -> None:
    for path in (
        "shopify/tiny-1-1/0/1/x.jpg",
        "shopify/tiny-1-1/1/0/x.jpg",
        "other/tiny-1-1/0/0/x.jpg",
        "shopify/no/0/0/x.jpg",
    ):
        assert (await http.get(f"/images/{path}")).status_code == 404


async def test_a_few_hundred_small_images_are_distinct(samples, http: httpx2.AsyncClient) -> None:
    products = await _expected(samples, "tiny-10000-1")
    urls = [product.images[0].url for product in products[::40]]
    assert len(products) == 10_000
    digests = {hashlib.sha256((await http.get(url)).content).digest() for url in urls}
    assert len(digests) == len(urls) == 250


async def test_the_hostile_shop_points_each_product_to_one_case(samples, shop, http) -> None:
    query = """{ products(first: 50) { nodes { title
      media(first: 2) { nodes { ... on MediaImage { image { url } } } } } } }"""
    nodes = (await shop("hostile").ask(query))["products"]["nodes"]
    urls = [node["media"]["nodes"][0]["image"]["url"] for node in nodes]
    assert (await http.get(urls[0])).headers["content-type"] == "image/jpeg"
    assert all(url.startswith(f"{samples.base_url}/hostile/") for url in urls[1:])
    assert len(set(urls)) == len(urls) == 20


async def test_bodies_that_lie_about_themselves(http: httpx2.AsyncClient) -> None:
    html = await http.get("/hostile/html.jpg")
    assert (html.headers["content-type"], html.content[:9]) == ("image/jpeg", b"<!doctype")
    truncated = await http.get("/hostile/truncated.jpg")
    with pytest.raises(pyvips.Error):
        pyvips.Image.jpegload_buffer(truncated.content, fail_on="truncated").avg()
    lying = await http.get("/hostile/wrong-type.png")
    assert lying.headers["content-type"].startswith("text/html")
    assert pyvips.Image.new_from_buffer(lying.content, "").width == 640
    svg = await http.get("/hostile/script.svg")
    assert b"<script>" in svg.content
    assert (await http.get("/hostile/empty.jpg")).content == b""


async def test_the_bomb_is_small_and_huge(http: httpx2.AsyncClient) -> None:
    bomb = (await http.get("/hostile/bomb.png")).content
    header = pyvips.Image.new_from_buffer(bomb, "")
    assert len(bomb) < 200_000
    assert header.width * header.height == 900_000_000


@pytest.mark.parametrize(("case", "has_length"), [("too-large.jpg", True), ("too-large-chunked.jpg", False)])
async def test_a_body_over_25_mebibytes(http: httpx2.AsyncClient, case: str, has_length: bool) -> None:
    async with http.stream("GET", f"/hostile/{case}") as response:
        assert ("content-length" in response.headers) == has_length
        size = 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
    assert size == 26 * MEBIBYTE


@pytest.mark.parametrize(
    ("case", "target"),
    [
        ("redirect-metadata", "http://169.254.169.254/latest/meta-data/"),
        ("redirect-loopback", "http://127.0.0.1:9/secret.jpg"),
        ("redirect-loop", "/hostile/redirect-loop"),
        ("redirect-good", "/hostile/good.jpg"),
    ],
)
async def test_redirects(http: httpx2.AsyncClient, samples, case: str, target: str) -> None:
    response = await http.get(f"/hostile/{case}")
    location = target if target.startswith("http") else samples.base_url + target
    assert (response.status_code, response.headers["location"]) == (302, location)


@pytest.mark.parametrize(
    ("case", "status"), [("not-found.jpg", 404), ("error.jpg", 500), ("forbidden.jpg", 403), ("x", 404)]
)
async def test_plain_errors(http: httpx2.AsyncClient, case: str, status: int) -> None:
    assert (await http.get(f"/hostile/{case}")).status_code == status


@pytest.mark.parametrize("encoding", ["jpeg", "png", "webp", "avif", "gif"])
async def test_correct_images_of_every_kind(http: httpx2.AsyncClient, encoding: str) -> None:
    response = await http.get(f"/hostile/good.{encoding.replace('jpeg', 'jpg')}")
    image = pyvips.Image.new_from_buffer(response.content, "", fail_on="warning")
    assert response.headers["content-type"] == f"image/{encoding}"
    assert (image.width, image.height) == (640, 480)


async def test_a_dripping_answer_ends_with_the_server() -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        async with (
            serve_samples(SampleSettings(data_folder=None)) as running,
            client.stream("GET", f"{running.base_url}/hostile/slow.jpg") as response,
        ):
            chunk = await anext(response.aiter_raw())
            assert len(chunk) < int(response.headers["content-length"])
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"{running.base_url}/healthz")
