"""Credentials that can't be sent in a header are refused before anything is sent."""

import pytest

from import_core.domain.errors import CredentialsError
from import_core.domain.resources.whatsapp import WhatsAppSettings
from import_worker.providers.base import CatalogueFilter, Connection
from import_worker.providers.registry import PROVIDERS

KEYS = {
    "roastify": "apiKey",
    "shopify": "accessToken",
    "whatsapp": "accessToken",
}
GRAPH = WhatsAppSettings.model_validate({"mode": "Graph", "graph": {"catalogId": "1"}})


def connection(kind: str, credentials: dict[str, str]) -> Connection:
    settings = GRAPH if kind == "whatsapp" else None
    return Connection("imports/acme", kind, "acme", "https://acme.example", credentials, whatsapp=settings)


@pytest.mark.parametrize("kind", sorted(PROVIDERS))
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("rty_é", "printable ASCII"),
        ("rty_\x00", "printable ASCII"),
        ("rty_\ud800", "printable ASCII"),
        ("rty\r\nX-Evil: 1", "printable ASCII"),
        (" rty_1", "blanks"),
        ("rty_1 ", "blanks"),
        ("rty_1\n", "ends in a line break"),
        ("rty_1\r\n", "ends in a line break"),
    ],
)
def test_what_no_header_can_hold_is_refused_by_its_key(kind, value, words, limiter):
    key = KEYS[kind]
    with pytest.raises(CredentialsError, match=words) as raised:
        PROVIDERS[kind](connection(kind, {key: value}), limiter, CatalogueFilter())
    assert key in raised.value.message
    assert value.strip() not in raised.value.message


@pytest.mark.parametrize("key", ["clientId", "clientSecret"])
def test_the_grants_credentials_too(key, limiter):
    credentials = {"clientId": "a", "clientSecret": "b"} | {key: "shpss_ü"}
    with pytest.raises(CredentialsError, match=key):
        PROVIDERS["shopify"](connection("shopify", credentials), limiter, CatalogueFilter())


async def test_other_keys_of_the_secret_are_not_looked_at(limiter):
    credentials = {"apiKey": "rty_1", "notes": "für später\n"}
    provider = PROVIDERS["roastify"](connection("roastify", credentials), limiter, CatalogueFilter())
    await provider.aclose()
