"""Makes the webhook's key pairs, and reads them back from what the Secret holds."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from import_core.domain.certificates import Certificate

CLOCK_DIFFERENCE = timedelta(minutes=5)
"""A certificate is good from before it was made: other machines' clocks may be behind."""
SERIAL_SHOWN = 8


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A serving certificate with its key and the authority that signed it, all PEM."""

    certificate: bytes
    key: bytes
    authority: bytes


def make_key_pair(hosts: Iterable[str], *, now: datetime, life: timedelta) -> KeyPair:
    """Make an authority, have it sign one certificate, and forget its key: nobody can ever sign with it again."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A name of its own: two authorities of one name in a bundle are hard to tell apart for people.
    issuer = _name(f"import-gateway admission authority {serial:x}"[: 33 + SERIAL_SHOWN])
    limits = (now - CLOCK_DIFFERENCE, now + life)
    authority = (
        _builder(issuer, issuer, authority_key.public_key(), limits)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _builder(_name("import-gateway admission"), issuer, key.public_key(), limits)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in sorted(hosts)]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(_pem(certificate), private, _pem(authority))


def read_key_pair(pair: KeyPair) -> Certificate | None:
    """What a pair is good for; None where its three parts can't be read or don't belong together."""
    try:
        return _read(pair)
    except Exception:  # noqa: BLE001 - parsers of certificates raise all sorts; a new pair is made for any of them
        return None


def _read(pair: KeyPair) -> Certificate | None:
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    authority = x509.load_pem_x509_certificate(pair.authority)
    key = serialization.load_pem_private_key(pair.key, password=None)
    certificate.verify_directly_issued_by(authority)
    if key.public_key() != certificate.public_key():
        return None
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return Certificate(
        authority=_fingerprint(authority),
        not_before=max(certificate.not_valid_before_utc, authority.not_valid_before_utc),
        not_after=min(certificate.not_valid_after_utc, authority.not_valid_after_utc),
        hosts=frozenset(map(normal_host, hosts)),
    )


def fingerprints(bundle: bytes) -> frozenset[str]:
    """The fingerprints of a bundle's certificates (PEM); empty where it can't be read."""
    try:
        return frozenset(map(_fingerprint, x509.load_pem_x509_certificates(bundle)))
    except Exception:  # noqa: BLE001 - as above
        return frozenset()


def normal_host(host: str) -> str:
    """A name or address in its one spelling, so that `::1` and `0:0:0:0:0:0:0:1` are the same."""
    try:
        return str(_address(host))
    except ValueError:
        return host.lower()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    # Packed: an interface (fe80::1%eth0) has no place in a certificate.
    return ipaddress.ip_address(ipaddress.ip_address(host).packed)


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    limits: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return builder.not_valid_before(limits[0]).not_valid_after(limits[1])


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
