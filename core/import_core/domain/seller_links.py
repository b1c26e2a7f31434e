"""Links to one seller's progress page: what a token is, and whether a link that is kept still opens the page.

The token is in the link alone. What is kept is its digest, so that who reads the store opens no page with it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

ID_BYTES = 6
SECRET_BYTES = 32
LONGEST_MINUTES = 7 * 24 * 60
_TOKEN = re.compile(r"([0-9a-f]{12})\.([A-Za-z0-9_-]{43})")
_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class SellerLink:
    """A link as it is kept."""

    id: str
    namespace: str
    company_id: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    digest: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "namespace": self.namespace,
            "companyId": self.company_id,
            "createdBy": self.created_by,
            "createdAt": self.created_at.timestamp(),
            "expiresAt": self.expires_at.timestamp(),
            "digest": self.digest,
        }


@dataclass(frozen=True, slots=True)
class NewLink:
    """A new link, and its token, which is told once."""

    link: SellerLink
    token: str


def new_link(
    random: tuple[str, str], *, namespace: str, company_id: str, created_by: str, now: datetime, minutes: int
) -> NewLink:
    """A link that opens the page for so many minutes; `random` are its id, in hex, and its secret, url-safe base64."""
    identity, secret = random
    link = SellerLink(
        id=identity,
        namespace=namespace,
        company_id=company_id,
        created_by=created_by,
        created_at=now,
        expires_at=now + timedelta(minutes=minutes),
        digest=_digest(secret),
    )
    return NewLink(link, f"{identity}.{secret}")


def is_link_id(text: str) -> bool:
    """Whether a text can be a link's id."""
    return _ID.fullmatch(text) is not None


def link_id_of(token: str) -> str | None:
    """The id of the link that a token belongs to; None for what is no token."""
    found = _TOKEN.fullmatch(token)
    return found.group(1) if found else None


def link_from_json(identity: str, value: Mapping[str, Any]) -> SellerLink:
    """Read a link that was kept. Raises KeyError and ValueError for what is none."""
    return SellerLink(
        id=identity,
        namespace=str(value["namespace"]),
        company_id=str(value["companyId"]),
        created_by=str(value["createdBy"]),
        created_at=datetime.fromtimestamp(float(value["createdAt"]), UTC),
        expires_at=datetime.fromtimestamp(float(value["expiresAt"]), UTC),
        digest=str(value["digest"]),
    )


def opens(link: SellerLink | None, token: str, *, namespace: str, now: datetime) -> bool:
    """Whether the token opens the page of the link's seller in this namespace."""
    found = _TOKEN.fullmatch(token)
    return (
        link is not None
        and found is not None
        and link.id == found.group(1)
        and link.namespace == namespace
        and now < link.expires_at
        and hmac.compare_digest(link.digest, _digest(found.group(2)))
    )


def _digest(secret: str) -> str:
    # The secret has 256 random bits: nothing slower is needed.
    return hashlib.sha256(secret.encode()).hexdigest()
