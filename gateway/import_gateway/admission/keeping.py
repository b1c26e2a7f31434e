"""The Secret in which all replicas keep the webhook's certificate: its body as values, and values as its body."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from import_core.domain.certificates import CertificateState
from import_gateway.admission.certificates import KeyPair, fingerprints, read_key_pair
from import_gateway.admission.tls import can_be_served

ROTATE_ANNOTATION = "imports.avnz.io/rotate"
"""A person sets it, to any value, to have the certificate exchanged; the gateway removes it."""

_CURRENT = ("tls.crt", "tls.key", "ca.crt")
_FOLLOWING = ("next-tls.crt", "next-tls.key", "next-ca.crt")
_PREVIOUS = "previous-ca.crt"


@dataclass(frozen=True, slots=True)
class Kept:
    """What the Secret holds; what can't be read or served counts as absent."""

    current: KeyPair | None = None
    following: KeyPair | None = None
    previous: bytes | None = None
    """Authority of the certificate served before."""
    rotation_asked: bool = False

    @property
    def authorities(self) -> bytes:
        """Those that the API server must trust, newest first (PEM)."""
        pairs = (self.following, self.current)
        known = [pair.authority for pair in pairs if pair is not None]
        return b"".join([*known, *([self.previous] if self.previous else [])])

    def state(self, bundle: bytes | None) -> CertificateState:
        """What a decision needs; `bundle` is what the API server trusts, None where that is unknown."""
        previous = fingerprints(self.previous) if self.previous else frozenset()
        return CertificateState(
            current=None if self.current is None else read_key_pair(self.current),
            following=None if self.following is None else read_key_pair(self.following),
            previous=next(iter(previous), None),
            trusted=None if bundle is None else fingerprints(bundle),
            rotation_asked=self.rotation_asked,
        )

    def made(self, pair: KeyPair) -> Kept:
        """After MAKE: nothing else is left."""
        return Kept(current=pair)

    def prepared(self, pair: KeyPair) -> Kept:
        """After PREPARE: what was asked for is under way."""
        return replace(self, following=pair, rotation_asked=False)

    def switched(self) -> Kept:
        """After SWITCH."""
        before = self.current.authority if self.current is not None else None
        return replace(self, current=self.following, following=None, previous=before)

    def retired(self) -> Kept:
        """After RETIRE."""
        return replace(self, previous=None)


def read_secret(body: Mapping[str, Any]) -> Kept:
    """Read a Secret's body."""
    data = _decoded(body.get("data") or {})
    previous = data.get(_PREVIOUS)
    return Kept(
        current=_pair(data, _CURRENT),
        following=_pair(data, _FOLLOWING),
        previous=previous if previous and len(fingerprints(previous)) == 1 else None,
        rotation_asked=ROTATE_ANNOTATION in (body["metadata"].get("annotations") or {}),
    )


def write_secret(body: Mapping[str, Any], kept: Kept) -> dict[str, Any]:
    """The Secret's body with these values in it, at the same resourceVersion."""
    data: dict[str, bytes] = {}
    for names, pair in ((_CURRENT, kept.current), (_FOLLOWING, kept.following)):
        if pair is not None:
            data |= dict(zip(names, (pair.certificate, pair.key, pair.authority), strict=True))
    if kept.previous is not None:
        data[_PREVIOUS] = kept.previous
    metadata = dict(body["metadata"])
    if not kept.rotation_asked:
        annotations = metadata.get("annotations") or {}
        metadata["annotations"] = {
            key: value for key, value in annotations.items() if key != ROTATE_ANNOTATION
        }
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return {**body, "metadata": metadata, "data": encoded}


def _pair(data: Mapping[str, bytes], names: tuple[str, str, str]) -> KeyPair | None:
    pair = KeyPair(*(data.get(name, b"") for name in names))
    return pair if read_key_pair(pair) is not None and can_be_served(pair) else None


def _decoded(data: Mapping[str, str]) -> dict[str, bytes]:
    found = {}
    for key, value in data.items():
        try:
            found[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            continue
    return found
