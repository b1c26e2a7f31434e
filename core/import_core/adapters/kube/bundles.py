"""Reads certificates in PEM: who they are, and how long they are good."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from import_core.domain.doctor.cluster import SeenCertificate


def read_bundle(bundle: bytes) -> list[SeenCertificate]:
    """All certificates of a bundle; none where it can't be read."""
    try:
        certificates = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return []
    return [
        SeenCertificate(
            each.fingerprint(hashes.SHA256()).hex(), each.not_valid_before_utc, each.not_valid_after_utc
        )
        for each in certificates
    ]
