"""Which URLs and addresses images may be fetched from."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.addresses import (
    MAX_URL_LENGTH,
    AllowedNetwork,
    display_url,
    forbidden_kind,
    is_forbidden_address,
    parse_allow_list,
    parse_image_url,
    refusal,
)
from import_core.domain.errors import InvalidInputError


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("169.254.169.254", "link-local"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.100.100.200", "carrier-grade NAT"),
        ("168.63.129.16", "a cloud provider's metadata service"),
        ("192.0.0.192", "reserved"),
        ("192.0.2.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("fd00:ec2::254", "private"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "reserved"),
        ("2001::1", "reserved"),
        ("100::1", "reserved"),
        ("4000::1", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("::7f00:1", "loopback"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b:1::1", "private"),
        ("2002:7f00:1::", "loopback"),
        ("2002:c0a8:101::", "private"),
    ],
)
def test_addresses_that_are_not_public(address: str, kind: str) -> None:
    assert forbidden_kind(ipaddress.ip_address(address)) == kind
    assert is_forbidden_address(ipaddress.ip_address(address), 443)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "172.32.0.1", "172.15.255.255", "100.128.0.1", "2606:4700::6810:84e5",
     "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::"],
)  # fmt: skip
def test_public_addresses(address: str) -> None:
    assert forbidden_kind(ipaddress.ip_address(address)) is None
    assert not is_forbidden_address(ipaddress.ip_address(address), 443)


@given(st.ip_addresses(v=4))
def test_what_the_standard_library_calls_not_global_is_forbidden(address: ipaddress.IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        assert is_forbidden_address(address, 443)


@given(st.ip_addresses(v=4))
def test_an_address_inside_an_ipv6_one_is_judged_alike(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | number)
    nat64 = ipaddress.IPv6Address((0x64FF9B << 96) | number)
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) | (number << 80))
    for carrier in (mapped, nat64, six_to_four):
        assert forbidden_kind(carrier) == forbidden_kind(address)


@pytest.mark.parametrize("port", [22, 25, 5432, 6379, 9200])
def test_ports_of_other_services_are_refused(port: int) -> None:
    assert f"port {port}" in str(refusal(ipaddress.ip_address("8.8.8.8"), port))


def test_allow_list_opens_exactly_what_it_names() -> None:
    allow = parse_allow_list("127.0.0.1:9000, 10.1.0.0/16 ,[::1]:9000")
    assert allow[0] == AllowedNetwork(ipaddress.ip_network("127.0.0.1"), 9000)
    opened = {("127.0.0.1", 9000), ("10.1.2.3", 22), ("::1", 9000), ("::ffff:127.0.0.1", 9000)}
    closed = {("127.0.0.1", 9001), ("127.0.0.2", 9000), ("10.2.0.1", 443), ("::1", 9001)}
    assert not any(is_forbidden_address(ipaddress.ip_address(host), port, allow) for host, port in opened)
    assert all(is_forbidden_address(ipaddress.ip_address(host), port, allow) for host, port in closed)
    assert parse_allow_list(" ") == ()
    assert parse_allow_list("fd00::/8")[0].port is None


@pytest.mark.parametrize(
    "entry", ["localhost", "localhost:80", "10.0.0.1/8", "127.0.0.1:0", "127.0.0.1:x", "[::1]x", "1.2.3"]
)
def test_wrong_allow_list_entries_are_named(entry: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_allow_list(f"10.0.0.0/8, {entry}")
    assert repr(entry) in caught.value.message


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://cdn.example/a.jpg?v=1", "cdn.example", 443),
        ("http://cdn.example/a b".replace(" ", "%20"), "cdn.example", 80),
        ("http://[::1]:8080/a.jpg", "::1", 8080),
        ("https://bücher.example/é.jpg", "bücher.example", 443),
    ],
)
def test_usable_urls(url: str, host: str, port: int) -> None:
    address = parse_image_url(url)
    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://a/b", "http"),
        ("//cdn.example/a.jpg", "http"),
        ("file:///etc/passwd", "http"),
        ("javascript:alert(1)", "http"),
        ("data:image/png;base64,AA", "http"),
        ("https:///a.jpg", "no host"),
        ("https://user@cdn.example/a", "user name"),
        ("https://user:pw@cdn.example/a", "user name"),
        ("https://cdn.example:99999/a", "can't be read"),
        ("https://cdn.example:0/a", "port 0"),
        ("https://[::1/a", "can't be read"),
        ("https://cdn.example/a\r\nHost: x", "control"),
        ("https://cdn.example\\@evil/a", "backslash"),
        ("https://cdn.example/" + "a" * MAX_URL_LENGTH, "characters long"),
        ("", "http"),
    ],
)
def test_unusable_urls_say_why(url: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words) as caught:
        parse_image_url(url)
    assert caught.value.field == "url"


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_clear_error(text: str) -> None:
    try:
        address = parse_image_url(text)
    except InvalidInputError:
        return
    assert address.scheme in {"http", "https"}
    assert 1 <= address.port <= 65_535


def test_displayed_urls_hold_no_secret_and_are_bounded() -> None:
    assert display_url("https://u:pw@cdn.example/a.jpg?sig=secret#x") == "https://cdn.example/a.jpg"
    assert display_url("https://cdn.example/a\n\x1b[31m") == "https://cdn.example/a��[31m"
    assert len(display_url("https://cdn.example/" + "a" * 5000)) == 200
