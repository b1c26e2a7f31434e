"""The webhook's key pairs, the Secret that keeps them, and the TLS context that serves them."""

import base64
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from import_gateway.admission.certificates import (
    KeyPair,
    fingerprints,
    make_key_pair,
    normal_host,
    read_key_pair,
)
from import_gateway.admission.keeping import ROTATE_ANNOTATION, Kept, read_secret, write_secret
from import_gateway.admission.tls import ServingContext

NOW = datetime.now(UTC).replace(microsecond=0)
LIFE = timedelta(days=90)


def make(*hosts: str) -> KeyPair:
    return make_key_pair(hosts or ("127.0.0.1", "gateway.imports.svc"), now=NOW, life=LIFE)


FIRST, SECOND = make(), make()


def secret(**metadata: Any) -> dict[str, Any]:
    return {
        "kind": "Secret",
        "metadata": {"name": "certificate", "resourceVersion": "7", **metadata},
        "type": "Opaque",
    }


def test_a_pair_says_what_it_is_good_for() -> None:
    certificate = read_key_pair(FIRST)
    assert certificate is not None
    assert certificate.hosts == {"127.0.0.1", "gateway.imports.svc"}
    assert certificate.is_good(NOW)
    assert certificate.not_after == NOW + LIFE
    assert {certificate.authority} == fingerprints(FIRST.authority)
    other = read_key_pair(SECOND)
    assert other is not None
    assert other.authority != certificate.authority


@pytest.mark.parametrize(
    "pair",
    [
        replace(FIRST, key=SECOND.key),
        replace(FIRST, authority=SECOND.authority),
        replace(FIRST, certificate=b"nothing"),
        replace(FIRST, key=b""),
        replace(FIRST, authority=b""),
        replace(FIRST, certificate=FIRST.authority),
    ],
)
def test_what_does_not_belong_together_is_no_pair(pair: KeyPair) -> None:
    assert read_key_pair(pair) is None


def test_a_bundle_that_can_not_be_read_holds_nothing() -> None:
    assert fingerprints(b"") == frozenset()
    assert fingerprints(b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n") == frozenset()
    assert len(fingerprints(FIRST.authority + SECOND.authority)) == 2


def test_every_step_is_kept() -> None:
    body = secret(annotations={ROTATE_ANNOTATION: "now", "other": "stays"})
    assert read_secret(body) == Kept(rotation_asked=True)
    kept = Kept(rotation_asked=True).made(FIRST)
    for following in (kept, kept.prepared(SECOND), kept.prepared(SECOND).switched()):
        written = write_secret(body, following)
        assert read_secret(written) == following
        assert written["metadata"]["resourceVersion"] == "7"
        assert written["metadata"]["annotations"] == {"other": "stays"}
    switched = kept.prepared(SECOND).switched()
    assert switched == Kept(current=SECOND, previous=FIRST.authority)
    assert switched.authorities == SECOND.authority + FIRST.authority
    assert switched.retired() == Kept(current=SECOND)
    assert "next-tls.key" not in write_secret(body, switched)["data"]


def test_what_can_not_be_read_counts_as_absent() -> None:
    body = write_secret(secret(), Kept(current=FIRST, previous=SECOND.authority))
    for key, value in (("tls.key", "!"), ("tls.crt", base64.b64encode(b"x").decode())):
        assert read_secret({**body, "data": {**body["data"], key: value}}).current is None
    damaged = {**body, "data": {**body["data"], "previous-ca.crt": "AAAA"}}
    assert read_secret(damaged) == Kept(current=FIRST)


def weak_pair() -> KeyPair:
    """Its own authority, with a key that OpenSSL does not serve."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - weak on purpose
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("weak")]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(certificate, private, certificate)


def test_what_can_not_be_served_counts_as_absent() -> None:
    weak = weak_pair()
    assert read_key_pair(weak) is not None
    assert read_secret(write_secret(secret(), Kept(current=weak, following=weak))) == Kept()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("part", ["certificate", "key", "authority"])
def test_a_garbled_pair_is_none(part: str) -> None:
    """Its envelope is right, and something in it is not; each byte is a parser's other way out."""
    content: bytes = getattr(FIRST, part)
    lines = content.splitlines(keepends=True)
    inside = bytearray(base64.b64decode(b"".join(lines[1:-1])))
    for place in range(len(inside)):
        garbled = bytearray(inside)
        garbled[place] ^= 0xFF
        pem = lines[0] + base64.encodebytes(bytes(garbled)) + lines[-1]
        read_secret(
            write_secret(secret(), replace(Kept(current=FIRST), current=replace(FIRST, **{part: pem})))
        )
        fingerprints(pem)


def test_hosts_are_compared_in_one_spelling() -> None:
    hosts = ("0:0:0:0:0:0:0:1", "fe80::1%eth0", "Gateway.imports.SVC", "127.0.0.1")
    certificate = read_key_pair(make(*hosts))
    assert certificate is not None
    assert certificate.hosts == set(map(normal_host, hosts))
    assert certificate.hosts == {"::1", "fe80::1", "gateway.imports.svc", "127.0.0.1"}


def handshake(server: ssl.SSLContext, authority: bytes, host: str) -> bytes | None:
    """Shake hands in memory; returns the certificate that the client saw. Raises ssl.SSLError."""
    client = ssl.create_default_context()
    client.load_verify_locations(cadata=authority.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (ours, theirs, ours, theirs):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ours.getpeercert(binary_form=True)


def test_new_connections_get_the_new_certificate() -> None:
    context = ServingContext()
    context.load(FIRST)
    for host in ("127.0.0.1", "gateway.imports.svc"):
        assert handshake(context(), FIRST.authority, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context(), FIRST.authority, "another.imports.svc")
    before = handshake(context(), FIRST.authority, "127.0.0.1")
    context.load(SECOND)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context(), FIRST.authority, "127.0.0.1")
    both = FIRST.authority + SECOND.authority
    assert handshake(context(), both, "127.0.0.1") != before
