"""What goes over HTTP of sellers' links."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from import_core.domain.resources.common import CompanyId
from import_core.domain.seller_links import LONGEST_MINUTES
from import_gateway.api.models import ApiModel, RequestModel


class LinkRequest(RequestModel):
    """A link to one company's progress page."""

    company_id: CompanyId
    """Whose imports the page shows."""
    minutes: Annotated[int, Field(ge=1, le=LONGEST_MINUTES)] = 60
    """The link opens the page for so long, a week at most."""


class SellerLinkView(ApiModel):
    """A link to one company's progress page."""

    id: str
    """Names the link, to revoke it; it opens nothing."""
    company_id: str
    """Whose imports the page shows."""
    created_by: str
    """Who made it."""
    created_at: datetime
    """When it was made."""
    expires_at: datetime
    """Until when it opens the page."""


class SellerLinkWithUrl(SellerLinkView):
    """A link that was just made."""

    url: str
    """The link. Whoever has it sees the company's imports; it is told this once."""


class SellerLinkPage(ApiModel):
    """Links whose time is not up."""

    items: list[SellerLinkView]
    """Those that last longest first; 1,000 at most."""


class OpenLink(RequestModel):
    """A link's token."""

    token: Annotated[str, Field(min_length=1, max_length=200)]
    """What comes after "#" in the link."""


class SellerSession(ApiModel):
    """Whose page a browser has opened by a link."""

    company_id: str
    """The company whose imports are shown."""
    expires_at: datetime
    """Until when."""
