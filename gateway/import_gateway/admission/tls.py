"""A TLS context whose certificate can be exchanged while it serves: new connections get the new one."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from import_gateway.admission.certificates import KeyPair


class ServingContext:
    """What uvicorn takes as its `ssl_context_factory`."""

    def __init__(self) -> None:
        self._context = _context()

    def load(self, pair: KeyPair) -> None:
        """Serve this certificate from the next handshake on; connections that stand go on as they are."""
        _load(self._context, pair)

    def __call__(self, *_details: object) -> ssl.SSLContext:
        """The context; always the same."""
        return self._context


def can_be_served(pair: KeyPair) -> bool:
    """Whether OpenSSL takes it, which refuses keys and signatures that are too weak. It must be readable."""
    try:
        _load(_context(), pair)
    except ssl.SSLError:
        return False
    return True


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The API server speaks it since Kubernetes 1.12.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    with _file(pair.certificate + pair.key) as path:
        context.load_cert_chain(path)


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A path from which OpenSSL can read `content`, in memory where the system can: keys don't go to disks."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pair.pem"
            path.touch(mode=0o600)
            path.write_bytes(content)
            yield str(path)
        return
    descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
