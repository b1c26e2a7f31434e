"""The section `whatsapp` of an ImportProvider: how a WhatsApp catalogue is read, from its page or from Meta's API."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from import_core.domain.resources.common import ResourceModel, Rule

GRAPH_URL = "https://graph.facebook.com"
"""Meta's Graph API; what baseUrl is where mode is Graph and none is given."""

Selector = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A CSS selector; only a browser knows whether it is a valid one."""
AttributeName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_:.-]*$")]
CurrencyCode = Annotated[str, Field(min_length=3, max_length=3, pattern=r"^[A-Z]{3}$")]
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
HostName = Annotated[str, Field(min_length=1, max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$")]


class WhatsAppMode(StrEnum):
    """Where the products are read."""

    SCRAPE = "Scrape"
    GRAPH = "Graph"


class ItemSelectors(ResourceModel):
    """CSS selectors of the catalogue's page. Those of a product's parts are looked for within its item."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="idAttribute",
            cel="has(self.idAttribute) || has(self.link)",
            message="idAttribute: this or link is needed, for one of them says what a product's id is",
            check=lambda found: found.id_attribute is not None or found.link is not None,
        ),
    )

    item: Selector
    """Every product of the list."""
    title: Selector
    """The title; without it an item is a failed product."""
    id_attribute: AttributeName | None = None
    """Attribute of the item that holds the product's id; if absent the id is taken from the link: from
    /p/<id>/… the id, else the last part of the path."""
    link: Selector | None = None
    """The link to the product's own page (its href)."""
    price: Selector | None = None
    """The price as text, such as €49.90; text without a digit means that there is none."""
    description: Selector | None = None
    """The description."""
    image: Selector | None = None
    """The images, in order."""
    image_attribute: AttributeName = "src"
    """Attribute of the images that holds the address."""
    empty: Selector | None = None
    """What the page shows where the catalogue has no products. Without it a page on which nothing is found is an
    error, because a changed layout looks the same."""


class ItemPageSelectors(ResourceModel):
    """CSS selectors of a product's own page. What is found there goes before what the list says."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="title",
            cel="has(self.title) || has(self.price) || has(self.description) || has(self.image)",
            message="title: this, price, description or image is needed, or there is nothing to visit the page for",
            check=lambda found: bool(found.to_json()),
        ),
    )

    title: Selector | None = None
    """The title."""
    price: Selector | None = None
    """The price as text."""
    description: Selector | None = None
    """The description."""
    image: Selector | None = None
    """The images, in order."""


class Scrolling(ResourceModel):
    """How a list that goes on by scrolling is read to its end."""

    max_rounds: Annotated[int, Field(ge=0, le=2000)] = 200
    """At most so many times it is scrolled down; a list that still grows then fails the job. 0: never."""
    idle_rounds: Annotated[int, Field(ge=1, le=20)] = 3
    """The list has ended when scrolling so many times in a row brought no further product."""
    quiet_milliseconds: Annotated[int, Field(ge=50, le=30_000)] = 700
    """After scrolling, the page is waited for until it asked its server for nothing for so long."""


class ScrapeSettings(ResourceModel):
    """How the catalogue's page at baseUrl is read in a browser."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="itemPage",
            cel="!has(self.itemPage) || has(self.selectors.link)",
            message="itemPage: needs selectors.link, for it says where a product's page is",
            check=lambda found: found.item_page is None or found.selectors.link is not None,
        ),
    )

    selectors: ItemSelectors
    """CSS selectors of the catalogue's page."""
    item_page: ItemPageSelectors | None = None
    """CSS selectors of the products' own pages; if absent these are not visited. Each is a page load."""
    scroll: Scrolling = Scrolling()
    """How a list that goes on by scrolling is read to its end."""
    max_items: Annotated[int, Field(ge=1, le=5000)] = 1000
    """A catalogue with more products fails the job, after these are imported."""
    hosts: Annotated[
        tuple[HostName, ...],
        Field(strict=False, max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """Further hosts, beside that of baseUrl, from which the page may load what it needs: its scripts, its data,
    itself after a redirect. Whatever else it asks for is refused."""
    user_agent: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[ -~]+$")] | None = None
    """The User-Agent to send; if absent import-operator's own, which says who asks."""
    respect_robots: bool = True
    """Pages that the host's robots.txt (RFC 9309) closes to the user agent fail the job."""
    currency: CurrencyCode | None = None
    """The currency (ISO 4217) of prices whose text names none or, as $ does, several."""


class GraphSettings(ResourceModel):
    """Which catalogue is read from Meta's Graph API; the Secret's key accessToken holds the token."""

    catalog_id: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[0-9]+$")]
    """The catalogue's id, digits."""
    api_version: Annotated[str, Field(min_length=4, max_length=8, pattern=r"^v[1-9][0-9]{0,2}\.[0-9]$")] = (
        "v25.0"
    )
    """Version of the Graph API."""
    page_size: Annotated[int, Field(ge=1, le=200)] = 25
    """Products of one call, which is one checkpoint."""


class WhatsAppSettings(ResourceModel):
    """How a WhatsApp catalogue is read."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="scrape",
            cel="(self.mode == 'Scrape') == has(self.scrape)",
            message="scrape: is needed with mode Scrape, and belongs to no other mode",
            check=lambda found: (found.mode is WhatsAppMode.SCRAPE) == (found.scrape is not None),
        ),
        Rule(
            field="graph",
            cel="(self.mode == 'Graph') == has(self.graph)",
            message="graph: is needed with mode Graph, and belongs to no other mode",
            check=lambda found: (found.mode is WhatsAppMode.GRAPH) == (found.graph is not None),
        ),
    )

    mode: Annotated[WhatsAppMode, Field(strict=False)]
    """Scrape: the catalogue's page at baseUrl in a browser, for no page's shape is documented by selectors that you
    give. Graph: Meta's Graph API, where the seller grants access; the sound way."""
    scrape: ScrapeSettings | None = None
    """How the page is read; with mode Scrape."""
    graph: GraphSettings | None = None
    """Which catalogue is read; with mode Graph."""
