"""Certificates hold only for whom and what they were issued, and kubeconfigs lead where they say."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from import_local.credentials import (
    CertificateAuthority,
    ensure_signing_key,
    read_cluster,
    write_kubeconfig,
    write_private,
)
from import_local.errors import LocalError


def test_an_authority_is_kept_and_its_certificates_verify(tmp_path: Path) -> None:
    first = CertificateAuthority(tmp_path, "cluster")
    content = first.certificate.read_bytes()
    issued = CertificateAuthority(tmp_path, "cluster").issue(
        "admin", common_name="ann", organizations=["admins"]
    )
    assert first.certificate.read_bytes() == content
    certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(content))
    assert [attribute.value for attribute in certificate.subject] == ["admins", "ann"]
    ssl.create_default_context().load_cert_chain(issued.certificate, issued.key)


def test_a_server_certificate_names_addresses_and_hosts(tmp_path: Path) -> None:
    issued = CertificateAuthority(tmp_path, "ca").issue(
        "s", common_name="s", hosts=["127.0.0.1", "localhost"]
    )
    certificate = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_keys_are_private_and_a_signing_key_is_made_once(tmp_path: Path) -> None:
    first = ensure_signing_key(tmp_path, "accounts")
    content = first.key.read_bytes()
    assert ensure_signing_key(tmp_path, "accounts").key.read_bytes() == content
    assert first.key.stat().st_mode & 0o777 == 0o600


def test_write_private_replaces_a_readable_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    target.chmod(0o644)
    write_private(target, "new")
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_kubeconfig_leads_to_its_cluster(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path, "ca").certificate
    server = "https://127.0.0.1:6443"
    path = write_kubeconfig(
        tmp_path / "config", server=server, authority=authority, user="ann", credentials="token"
    )
    assert read_cluster(path).server == server
    (tmp_path / "broken").write_text("clusters: []")
    for wrong in (tmp_path / "broken", tmp_path / "missing"):
        with pytest.raises(LocalError, match="not a kubeconfig"):
            read_cluster(wrong)
