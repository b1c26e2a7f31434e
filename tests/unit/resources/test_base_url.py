"""Every provider address that the resource accepts can be read by those who call it."""

import ipaddress
from urllib.parse import urlsplit

import httpx2
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.resources.import_provider import BASE_URL

HOSTS = (
    st.from_regex(r"[A-Za-z0-9.-]{1,80}", fullmatch=True)
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
    | st.ip_addresses(v=6).map(lambda address: f"[{address.exploded}]")
    | st.from_regex(r"\[[0-9a-f:.]{2,45}\]", fullmatch=True)
    | st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){0,4}", fullmatch=True)
)


@given(url=st.from_regex(BASE_URL, fullmatch=True))
def test_what_is_accepted_can_be_read(url: str) -> None:
    assert httpx2.URL(url).host
    assert urlsplit(url).hostname


@given(host=HOSTS)
def test_hosts_are_accepted_as_a_caller_reads_them(host: str) -> None:
    accepted = BASE_URL.fullmatch(f"http://{host}/v1") is not None
    if host.startswith("["):
        assert not accepted or ipaddress.IPv6Address(host[1:-1])
    elif host.replace(".", "").isdecimal():
        assert accepted == is_ipv4(host)
    elif accepted:
        assert all(0 < len(label) < 64 for label in host.split("."))
        assert host.encode("idna")


@given(address=st.ip_addresses())
def test_every_address_is_accepted(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    assert BASE_URL.fullmatch(f"https://{host}:8443")


def is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
