"""Sellers' links over HTTP: made, listed and revoked by callers; opened by a browser, which follows one company."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from starlette.responses import Response

from import_core.domain.errors import ObjectNotFoundError
from import_core.domain.seller_links import SellerLink, is_link_id
from import_core.observability.logs import get_logger
from import_gateway.access.credentials import comes_from_own_page
from import_gateway.access.sellers import forget_seller, read_token, set_seller
from import_gateway.api.events import LONGEST_ID
from import_gateway.api.link_models import (
    LinkRequest,
    OpenLink,
    SellerLinkPage,
    SellerLinkView,
    SellerLinkWithUrl,
    SellerSession,
)
from import_gateway.api.models import NoQuery
from import_gateway.api.operation import Call, get_json_response
from import_gateway.api.problems import FOREIGN_ORIGIN, TOO_SLOW, ProblemError
from import_gateway.api.reading import read_body, read_query
from import_gateway.api.sessions import BODY_SECONDS
from import_gateway.live.sellers import SellerFeed, seller_events
from import_gateway.live.stream import EventStream, Terms

log = get_logger(__name__)

PAGE = "/seller"


async def create_link(call: Call) -> Response:
    """Make a link to one company's page."""
    wanted = await read_body(call.request, LinkRequest)
    made = await call.services.sellers.create(
        company_id=wanted.company_id, minutes=wanted.minutes, created_by=call.caller.username
    )
    log.info("seller_link.created", linkId=made.link.id, companyId=wanted.company_id, minutes=wanted.minutes)
    # Behind "#" no server and no proxy sees the token; the page sends it once, in a body.
    url = f"{_address(call)}{PAGE}#{made.token}"
    view = SellerLinkWithUrl(**_present(made.link).model_dump(), url=url)
    return get_json_response(view, 201)


async def list_links(call: Call) -> Response:
    """Answer the links whose time is not up."""
    read_query(call.request, NoQuery)
    links = await call.services.sellers.store.listed(datetime.now(UTC))
    return get_json_response(SellerLinkPage(items=[_present(link) for link in links]))


async def revoke_link(call: Call) -> Response:
    """Have a link open nothing any more."""
    link_id = str(call.request.path_params["id"])
    if not is_link_id(link_id) or not await call.services.sellers.revoke(link_id):
        raise ObjectNotFoundError("There is no such link: it has expired, was revoked or is unknown")
    log.info("seller_link.revoked", linkId=link_id)
    return Response(status_code=204)


async def open_link(call: Call) -> Response:
    """Exchange a link's token for a cookie."""
    _check_origin(call)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            wanted = await read_body(call.request, OpenLink)
    except TimeoutError as error:
        raise ProblemError(TOO_SLOW, f"The body did not come within {BODY_SECONDS:g} s") from error
    link = await call.services.sellers.open(wanted.token)
    call.services.sellers.count_call(link)
    response = get_json_response(_session(link), 201)
    set_seller(response, wanted.token, link, call.services.settings)
    return response


async def get_seller(call: Call) -> Response:
    """Answer whose page the cookie opens."""
    read_query(call.request, NoQuery)
    return get_json_response(_session((await _opened(call))[0]))


async def leave_seller(call: Call) -> Response:
    """Have the browser forget the link."""
    _check_origin(call)
    response = Response(status_code=204)
    forget_seller(response, call.services.settings)
    return response


async def follow_seller(call: Call) -> Response:
    """Stream the imports of the cookie's company."""
    read_query(call.request, NoQuery)
    link, token = await _opened(call)
    services = call.services

    async def check() -> None:
        await services.sellers.open(token)

    last_id = call.request.headers.get("last-event-id")
    terms = Terms(
        last_id if last_id and len(last_id) <= LONGEST_ID else None,
        services.settings.heartbeat_seconds,
        check,
    )
    place = services.hub.take_place(f"seller\0{link.id}")
    feed = SellerFeed(
        services.hub, services.jobs, namespace=services.settings.namespace, company_id=link.company_id
    )
    events = seller_events(services.hub, feed, terms, reread_seconds=services.settings.reread_seconds)
    return EventStream(events, place)


async def _opened(call: Call) -> tuple[SellerLink, str]:
    """The link of the cookie and its token, with one more request counted. Raises LinkInvalidError."""
    token = read_token(call.request, call.services.settings)
    link = await call.services.sellers.open(token)
    call.services.sellers.count_call(link)
    return link, token


def _check_origin(call: Call) -> None:
    """A page of others may neither open somebody's page as somebody else's, nor close it."""
    if not comes_from_own_page(call.request, call.services.settings):
        raise ProblemError(FOREIGN_ORIGIN, "A link is opened and left on the gateway's own page")


def _address(call: Call) -> str:
    settings, request = call.services.settings, call.request
    return settings.public_url or f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"


def _present(link: SellerLink) -> SellerLinkView:
    return SellerLinkView(
        id=link.id,
        company_id=link.company_id,
        created_by=link.created_by,
        created_at=link.created_at,
        expires_at=link.expires_at,
    )


def _session(link: SellerLink) -> SellerSession:
    return SellerSession(company_id=link.company_id, expires_at=link.expires_at)
