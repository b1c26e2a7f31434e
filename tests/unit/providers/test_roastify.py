"""Roastify's list and details: paging, cursors, single failures, and what is kept of a broken page."""

from urllib.parse import parse_qs, urlsplit

import pytest

from import_core.domain.errors import CredentialsError, ProviderRejectedError, ProviderUnavailableError
from import_core.domain.products import SourceImage
from import_worker.providers.base import CatalogueFilter
from import_worker.providers.http import CallPolicy
from import_worker.providers.roastify import RoastifyCursor, RoastifyProvider, RoastifySettings, images_of

SETTINGS = RoastifySettings(list_size=5, page_size=2, policy=CallPolicy(first_outage_delay=0.001))


class Account:
    """A Roastify account of `size` products; `broken` gives other answers for single ids, `listed` other entries."""

    def __init__(self, size, reply):
        self.size = size
        self.reply = reply
        self.broken = {}
        self.listed = {}

    def __call__(self, request):
        url = urlsplit(request.target)
        if url.path == "/products":
            query = parse_qs(url.query)
            start, count = int(query.get("cursor", ["0"])[0]), int(query["pageSize"][0])
            end = min(self.size, start + count)
            return self.reply(
                {
                    "products": [
                        self.listed.get(n, {"id": f"p/{n}", "title": f"Coffee {n}"})
                        for n in range(start, end)
                    ],
                    "pageInfo": {"endCursor": str(end), "hasNextPage": end < self.size},
                }
            )
        external_id = url.path.removeprefix("/products/").replace("%2F", "/")
        if external_id in self.broken:
            return self.broken[external_id]
        variants = [{"id": "v", "retailPrice": 1899, "stockQty": 999}]
        return self.reply(
            {"id": external_id, "images": [{"url": f"https://x/{external_id}"}], "variants": variants}
        )


@pytest.fixture
def account(server, reply):
    server.respond = Account(12, reply)
    return server.respond


@pytest.fixture
async def provider(connect, limiter):
    made = RoastifyProvider(connect({"apiKey": "rty_test_1"}), limiter, CatalogueFilter(), settings=SETTINGS)
    yield made
    await made.aclose()


async def collect(provider, cursor=None):
    return [page async for page in provider.pages(cursor)]


async def collect_into(pages, provider):
    """Keep the pages that came before an error."""
    async for page in provider.pages(None):
        pages.append(page)


def ids(pages):
    return [product.external_id for page in pages for product in page.products]


async def test_every_product_comes_once_with_its_document(provider, account, server):
    pages = await collect(provider)
    assert ids(pages) == [f"p/{n}" for n in range(12)]
    first = pages[0].products[0]
    assert first.document["variants"][0]["retailPrice"] == 1899
    assert first.images == (SourceImage("https://x/p/0"),)
    assert {request.headers["x-api-key"] for request in server.requests} == {"rty_test_1"}
    assert len(server.requests) == 3 + 12
    assert pages[-1].cursor is None


async def test_the_total_is_told_once_the_list_has_ended(provider, account):
    totals = [page.total for page in await collect(provider)]
    assert totals[0] is None
    assert totals[-1] == 12


async def test_every_cursor_resumes_with_exactly_the_rest(provider, account):
    pages = await collect(provider)
    for number, page in enumerate(pages[:-1]):
        assert ids(await collect(provider, page.cursor)) == ids(pages[number + 1 :])


async def test_an_unknown_cursor_version_starts_over(provider, account):
    pages = await collect(provider, {"version": 99, "pending": ["x"]})
    assert len(ids(pages)) == 12
    assert [page.restarted for page in pages] == [True] + [False] * (len(pages) - 1)


async def test_a_new_or_resumed_job_does_not_start_over(provider, account):
    pages = await collect(provider)
    pages += await collect(provider, pages[0].cursor)
    assert not any(page.restarted for page in pages)


async def test_one_missing_or_unreadable_product_does_not_end_the_job(provider, account, reply):
    account.broken = {
        "p/1": reply({"message": "No such product", "code": "not_found"}, status=404),
        "p/2": reply({"message": "Bad", "code": "unprocessable"}, status=422),
        "p/3": reply({"id": "other"}),
        "p/4": reply(b"<html>"),
    }
    pages = await collect(provider)
    failures = [failure for page in pages for failure in page.failures]
    assert [failure[:2] for failure in failures] == [
        ("p/1", "NotFound"),
        ("p/2", "ProviderRejected"),
        ("p/3", "Malformed"),
        ("p/4", "Malformed"),
    ]
    assert "No such product" in failures[0][2]
    assert len(ids(pages)) == 8
    assert pages[-1].total == 12


@pytest.mark.parametrize("listed", [{"id": None}, {"title": "Coffee"}, {"id": " "}, {"id": ["p/1"]}])
async def test_a_listed_product_without_an_id_is_a_failure_that_is_named_by_its_place(
    provider, account, listed
):
    account.listed = {1: listed, 7: listed}
    pages = await collect(provider)
    failures = [failure for page in pages for failure in page.failures]
    assert [failure[:2] for failure in failures] == [
        ("number 2 of the list", "NoExternalId"),
        ("number 8 of the list", "NoExternalId"),
    ]
    assert [failure.document for failure in failures] == [listed, listed]
    assert ids(pages) == [f"p/{n}" for n in range(12) if n not in {1, 7}]
    assert pages[-1].total == 12
    for number, page in enumerate(pages[:-1]):
        rest = await collect(provider, page.cursor)
        assert [failure for later in rest for failure in later.failures] == [
            failure for later in pages[number + 1 :] for failure in later.failures
        ]


async def test_a_product_that_is_listed_twice_counts_once(provider, account):
    account.listed = {1: {"id": "p/0"}}
    pages = await collect(provider)
    assert ids(pages) == [f"p/{n}" for n in range(12) if n != 1]
    assert pages[-1].total == 11


async def test_what_was_fetched_before_an_outage_is_yielded_with_a_cursor_to_the_rest(
    connect, limiter, account, reply
):
    account.broken = {"p/3": reply(status=500)}
    settings = RoastifySettings(list_size=5, page_size=5, concurrency=1, policy=SETTINGS.policy)
    provider = RoastifyProvider(
        connect({"apiKey": "rty_test_1"}), limiter, CatalogueFilter(), settings=settings
    )
    pages = []
    with pytest.raises(ProviderUnavailableError):
        await collect_into(pages, provider)
    assert ids(pages) == ["p/0", "p/1", "p/2"]
    account.broken = {}
    assert ids(await collect(provider, pages[-1].cursor)) == [f"p/{n}" for n in range(3, 12)]
    await provider.aclose()


async def test_refused_credentials_end_the_job_with_what_to_check(provider, server, reply):
    server.script(reply({"message": "Bad key rty_test_1", "code": "unauthorized"}, status=401))
    for call in (provider.check(), collect(provider)):
        with pytest.raises(CredentialsError, match="apiKey") as raised:
            await call
        assert "rty_test_1" not in raised.value.message


async def test_credentials_that_end_during_details_are_no_item_failure(provider, account, reply):
    account.broken = {"p/0": reply({"message": "revoked"}, status=403)}
    with pytest.raises(CredentialsError):
        await collect(provider)


async def test_an_empty_catalogue_is_one_empty_last_page(provider, account):
    account.size = 0
    (page,) = await collect(provider)
    assert (page.products, page.cursor, page.total) == ((), None, 0)


async def test_a_list_that_does_not_go_on_is_refused(provider, server, reply):
    server.script(reply({"products": [], "pageInfo": {"endCursor": "7", "hasNextPage": True}}))
    with pytest.raises(ProviderRejectedError, match="does not go on"):
        await collect(provider)


@pytest.mark.parametrize("body", [b"<html>", {}, [], {"products": [{}], "pageInfo": {}}])
async def test_an_unreadable_list_is_an_outage(provider, server, reply, body):
    server.script(reply(body))
    with pytest.raises(ProviderUnavailableError):
        await collect(provider)


def test_a_secret_without_the_key_says_so(connect, limiter):
    with pytest.raises(CredentialsError, match="apiKey"):
        RoastifyProvider(connect({"token": "x"}), limiter, CatalogueFilter())


def test_images_fall_back_to_the_main_one():
    assert images_of({"images": [], "imageUrl": "https://x/1"}) == (SourceImage("https://x/1"),)
    assert images_of({"images": [{"url": "a"}, {"url": None}, "b"], "imageUrl": "c"}) == (SourceImage("a"),)
    assert images_of({"images": None, "imageUrl": None}) == ()


def test_a_cursor_survives_its_stored_form():
    cursor = RoastifyCursor(("a", "b"), "5", True, 3)
    assert RoastifyCursor.parse(cursor.to_json()) == cursor
