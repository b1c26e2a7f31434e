"""The control API: tests read the counters and order faults, changed products and other rate limits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from import_local.samples.catalogue.live import ProductChange
from import_local.samples.catalogue.model import Status
from import_local.samples.faults import ControlModel, FaultSettings
from import_local.samples.serving import account_of, sample_of
from import_local.samples.state import Account, Behaviour, BulkMode, CataloguePage, GraphListing

Handler = Callable[[Request, Account, Any], Response]


class FaultOrder(ControlModel):
    """PUT …/faults: the whole behaviour of a shop or account; what is left out is as documented."""

    api: FaultSettings = Field(default_factory=FaultSettings)
    images: FaultSettings = Field(default_factory=FaultSettings)
    rate_scale: float = Field(default=1.0, gt=0, le=1_000_000)
    throttle_status: Literal[200, 429] = 200
    bulk: BulkMode = "complete"
    bulk_seconds: float | None = Field(default=None, ge=0, le=3_600)
    token_seconds: float | None = Field(default=None, ge=0, le=86_400)
    page: CataloguePage = "usual"
    closed_by_robots: bool = False
    listing: GraphListing = "steady"


class ProductOrder(ControlModel):
    """PATCH …/products/{index}: what changes. `image`: other bytes at the same or at a new address."""

    title: str | None = Field(default=None, min_length=1, max_length=255)
    price_cents: int | None = Field(default=None, ge=0, le=100_000_000)
    status: Status | None = None
    image: Literal["replace", "new-address"] | None = None
    removed: bool | None = None
    updated_at: datetime | None = None


def change_product(account: Account, index: int, order: ProductOrder) -> ProductChange:
    """Lay the order over product `index` and return all its changes; IndexError if there is none.

    The product's time of change becomes `updated_at`, or now.
    """
    change = account.catalogue.change_of(index)
    given = {
        name: value
        for name, value in order.model_dump(exclude={"image", "updated_at"}).items()
        if value is not None
    }
    if order.image == "replace":
        given["image_revision"] = change.image_revision + 1
    elif order.image == "new-address":
        given["address_revision"] = change.address_revision + 1
    moment = order.updated_at or datetime.now(UTC)
    given["updated_at"] = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    change = dataclasses.replace(change, **given)
    account.catalogue.change(index, change)
    return change


def set_faults(account: Account, order: FaultOrder) -> None:
    """Replace the account's faults and behaviour."""
    account.api_faults.set(order.api)
    account.image_faults.set(order.images)
    account.behaviour = Behaviour(
        rate_scale=order.rate_scale,
        throttle_status=order.throttle_status,
        bulk=order.bulk,
        bulk_seconds=order.bulk_seconds,
        token_seconds=order.token_seconds,
        page=order.page,
        is_closed_by_robots=order.closed_by_robots,
        listing=order.listing,
    )


def describe(account: Account) -> dict[str, Any]:
    """Return the account's counters and faults as JSON."""
    return {
        "provider": account.provider,
        "name": account.name,
        "products": account.catalogue.count(),
        "counters": account.counters.summary(),
        "faults": {
            "api": account.api_faults.settings.model_dump(by_alias=True),
            "apiPending": account.api_faults.pending(),
            "images": account.image_faults.settings.model_dump(by_alias=True),
            "imagesPending": account.image_faults.pending(),
            "rateScale": account.behaviour.rate_scale,
            "throttleStatus": account.behaviour.throttle_status,
            "bulk": account.behaviour.bulk,
            "page": account.behaviour.page,
            "closedByRobots": account.behaviour.is_closed_by_robots,
            "listing": account.behaviour.listing,
        },
    }


async def overview(request: Request) -> Response:
    """Answer GET /control: every shop and account that was asked for so far."""
    accounts = sample_of(request).accounts()
    return JSONResponse({"accounts": [describe(account) for account in accounts]})


async def everything_back(request: Request) -> Response:
    """Answer DELETE /control: reset every shop and account."""
    for account in sample_of(request).accounts():
        account.reset()
    return Response(status_code=204)


def _route(
    handler: Handler, model: type[ControlModel] | None = None
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        account = account_of(request)
        if account is None:
            return JSONResponse({"error": "no such shop or account"}, 404)
        order = None
        if model is not None:
            try:
                order = model.model_validate_json(await request.body())
            except ValidationError as error:
                details = json.loads(error.json(include_url=False, include_input=False))
                return JSONResponse({"error": "invalid", "details": details}, 422)
        return handler(request, account, order)

    return endpoint


def _show(_request: Request, account: Account, _order: None) -> Response:
    return JSONResponse(describe(account))


def _calls(_request: Request, account: Account, _order: None) -> Response:
    calls = [
        {"at": call.at, "status": call.status, "what": call.what}
        for call in sorted(account.counters.calls, key=lambda call: call.at)
    ]
    return JSONResponse({"calls": calls})


def _image_counts(_request: Request, account: Account, _order: None) -> Response:
    return JSONResponse({"images": dict(account.counters.image_paths)})


def _set_faults(_request: Request, account: Account, order: FaultOrder) -> Response:
    set_faults(account, order)
    return JSONResponse(describe(account))


def _change(request: Request, account: Account, order: ProductOrder) -> Response:
    try:
        change = change_product(account, request.path_params["index"], order)
    except IndexError:
        return JSONResponse({"error": "no such product"}, 404)
    return JSONResponse(json.loads(json.dumps(dataclasses.asdict(change), default=str)))


def _reset(_request: Request, account: Account, _order: None) -> Response:
    account.reset()
    return Response(status_code=204)


def _reset_counters(_request: Request, account: Account, _order: None) -> Response:
    account.reset_counters()
    return Response(status_code=204)


def _reset_limits(_request: Request, account: Account, _order: None) -> Response:
    account.reset_limits()
    return Response(status_code=204)


def routes() -> list[Route]:
    """Return the routes of the control API."""
    one = "/control/{provider}/{account}"
    return [
        Route("/control", overview),
        Route("/control", everything_back, methods=["DELETE"]),
        Route(one, _route(_show)),
        Route(one, _route(_reset), methods=["DELETE"]),
        Route(f"{one}/calls", _route(_calls)),
        Route(f"{one}/images", _route(_image_counts)),
        Route(f"{one}/counters", _route(_reset_counters), methods=["DELETE"]),
        Route(f"{one}/limits", _route(_reset_limits), methods=["DELETE"]),
        Route(f"{one}/faults", _route(_set_faults, FaultOrder), methods=["PUT"]),
        Route(f"{one}/products/{{index:int}}", _route(_change, ProductOrder), methods=["PATCH"]),
    ]
