"""Downloads reach only addresses that were checked, whatever names, redirects and proxies say."""

import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from integration.images import image_server
from integration.images.image_server import Downloading, ImageServer, answering, failure, fetch

from import_worker.pipeline.download import Downloaded, ImageDownloader


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:{other}/",
        "http://localhost:{other}/",
        "http://2130706433:{other}/",
        "http://0x7f.1:{other}/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.0.0.8/",
        "http://0.0.0.0:{other}/",
    ],
)
async def test_redirects_to_internal_addresses_are_refused(
    server: ImageServer, downloading: Downloading, target: str
) -> None:
    async with image_server.running() as other:
        url = server.serve("/a.jpg", b"", status=302, Location=target.format(other=other.port))
        async with downloading() as downloader:
            error = await failure(downloader, url)
        assert not other.requests
    assert (error.stage, error.reason) == ("download", "ForbiddenAddress")
    assert f"redirected from {url}" in error.message


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://a/b.jpg", "http://user:secret@host/a.jpg"])
async def test_redirects_to_unusable_urls_are_refused(
    server: ImageServer, downloading: Downloading, target: str
) -> None:
    url = server.serve("/a.jpg", b"", status=301, Location=target)
    async with downloading() as downloader:
        error = await failure(downloader, url)
    assert error.reason == "InvalidUrl"
    assert "secret" not in error.message


@pytest.mark.parametrize(
    "answer", [["10.1.2.3"], ["93.184.216.34", "192.168.0.1"], ["::ffff:10.0.0.1"], ["fe80::1%lo"]]
)
async def test_name_that_resolves_to_a_private_address(downloading: Downloading, answer: list[str]) -> None:
    resolver, _ = answering(answer)
    async with downloading(resolver=resolver) as downloader:
        error = await failure(downloader, "https://photos.example/a.jpg?signature=secret")
    assert error.reason == "ForbiddenAddress"
    assert "photos.example resolves to" in error.message
    assert "secret" not in error.message


async def test_connects_to_the_address_that_was_checked(
    server: ImageServer, downloading: Downloading, jpeg: bytes
) -> None:
    """DNS rebinding: the second answer is internal, but there is no second question."""
    server.serve("/a.jpg", jpeg)
    resolver, asked = answering(["127.0.0.1"], ["127.0.0.2"])
    async with downloading(resolver=resolver) as downloader:
        answer = await fetch(downloader, server.url("/a.jpg", host="photos.example"))
    assert isinstance(answer, Downloaded)
    assert asked == ["photos.example"]
    assert server.requests[0].headers["host"] == f"photos.example:{server.port}"


async def test_name_that_does_not_resolve(downloading: Downloading) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with downloading(resolver=resolver) as downloader:
        error = await failure(downloader, "https://photos.example/a.jpg")
    assert (error.reason, "can't be resolved" in error.message) == ("Unreachable", True)


@pytest.mark.parametrize("host", ["a..b.invalid", "a" * 64 + ".invalid", "." + "a" * 300])
async def test_host_that_can_not_be_a_name(downloading: Downloading, host: str) -> None:
    async with downloading() as downloader:
        error = await failure(downloader, f"https://{host}/a.jpg")
    assert (error.stage, error.reason) == ("download", "Unreachable")


async def test_proxies_of_the_environment_are_ignored(
    server: ImageServer, downloading: Downloading, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with image_server.running() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url(""))
        url = server.serve("/a.jpg", jpeg)
        async with downloading() as downloader:
            assert isinstance(await fetch(downloader, url), Downloaded)
        assert not proxy.requests


async def test_tls_keeps_the_name(tmp_path: Path, jpeg: bytes) -> None:
    """The connection goes to a checked address; the certificate and SNI are still the name's."""
    certificate, key = _self_signed("photos.example", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    resolver, _ = answering(["127.0.0.1"])
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with image_server.running(context) as server:
        server.serve("/a.jpg", jpeg)
        downloader = ImageDownloader(allow=server.allow, resolver=resolver, ssl_context=trusting, backoff=())
        answer = await fetch(downloader, server.url("/a.jpg", host="photos.example"))
        assert isinstance(answer, Downloaded)
        assert names == ["photos.example"]
        error = await failure(downloader, server.url("/a.jpg", host="other.example"))
        assert "certificate" in error.message
        await downloader.aclose()


def _self_signed(name: str, folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_path, key_path
