"""The API's table of contents: every operation, and how it is called."""

from __future__ import annotations

from functools import cache
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from import_core.domain.callers import Action
from import_gateway.api import actions, events, figures, health, imports, queues, search, sellers, sessions
from import_gateway.api.dead_letter_operations import DEAD_LETTERS
from import_gateway.api.endpoint import PathEndpoint, UnderWay
from import_gateway.api.figure_models import Figures, FiguresQuery
from import_gateway.api.link_models import (
    LinkRequest,
    OpenLink,
    SellerLinkPage,
    SellerLinkWithUrl,
    SellerSession,
)
from import_gateway.api.models import (
    ErrorsQuery,
    Health,
    Import,
    ImportPage,
    ItemErrorPage,
    ListQuery,
    Overview,
    QueueReport,
    QueueRequest,
    RetryRequest,
    Session,
    SignIn,
    Submission,
)
from import_gateway.api.openapi import get_openapi
from import_gateway.api.operation import Answer, Call, Operation
from import_gateway.api.problems import (
    CONFLICT,
    FOREIGN_ORIGIN,
    INTAKE_REFUSED,
    INVALID,
    KEY_REUSED,
    LINK_INVALID,
    MALFORMED,
    NOT_FOUND,
    TOO_LARGE,
    TOO_SLOW,
    UNSUPPORTED_MEDIA_TYPE,
)
from import_gateway.api.search_models import SearchPage, SearchRequest
from import_gateway.services import Services

LINKS = "/v1/sessions/links"
ONE = "/v1/imports/{namespace}/{name}"

_BODY = (MALFORMED, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, INVALID)
_REPLAYED = {"Idempotent-Replayed": "`true` where an earlier request with this key had done it already."}
_EVENTS = "text/event-stream"
DESCRIPTION = "application/openapi+json"


async def _describe(_call: Call) -> Response:
    """Answer the OpenAPI document."""
    return JSONResponse(_document(), media_type=DESCRIPTION)


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/imports",
        id="listImports",
        handler=imports.list_imports,
        action=Action.LIST,
        summary="List imports, newest first",
        query=ListQuery,
        answers={200: Answer("A page of imports.", ImportPage)},
        problems=(INVALID,),
    ),
    Operation(
        method="POST",
        path="/v1/imports",
        id="submitImport",
        handler=imports.submit_import,
        action=Action.SUBMIT,
        summary="Start an import",
        description="Creates an ImportJob in the namespace that this gateway serves. With an Idempotency-Key it may "
        "be repeated until an answer comes: the caller's key stands for one import as long as its ImportJob is "
        "there, by default until a day after its end.",
        request_headers=("Idempotency-Key",),
        body=Submission,
        answers={
            201: Answer("It was created.", Import, headers={"Location": "Path of the import."}),
            200: Answer(
                "An earlier request with this key had created it.",
                Import,
                headers={"Location": "Path of the import.", **_REPLAYED},
            ),
        },
        problems=(*_BODY, CONFLICT, KEY_REUSED, INTAKE_REFUSED),
    ),
    Operation(
        method="GET",
        path=ONE,
        id="getImport",
        handler=imports.get_import,
        action=Action.READ,
        summary="One import, with its place in the queue and the time it will take",
        answers={200: Answer("The import.", Import)},
        problems=(NOT_FOUND,),
    ),
    Operation(
        method="GET",
        path=f"{ONE}/events",
        id="followImport",
        handler=events.follow_import,
        action=Action.READ,
        summary="Follow an import by server-sent events",
        description="Events are called `import`, their data is an Import: the newest state at once, then each newer "
        "one, until it has finished. The id follows from the state: who comes back with Last-Event-ID, to any "
        "replica, gets the newest state unless he has it.",
        request_headers=("Last-Event-ID",),
        answers={
            200: Answer("The events.", Import, media_type=_EVENTS),
            204: Answer("It has finished, and the caller knows how: there is nothing more to come."),
        },
        problems=(NOT_FOUND, INVALID),
        stream=True,
    ),
    Operation(
        method="GET",
        path=f"{ONE}/errors",
        id="listErrors",
        handler=imports.list_errors,
        action=Action.READ,
        summary="Products and images of an import that failed, and why",
        query=ErrorsQuery,
        answers={200: Answer("A page of failed items.", ItemErrorPage)},
        problems=(NOT_FOUND, INVALID),
    ),
    Operation(
        method="POST",
        path=f"{ONE}/retry",
        id="retryImport",
        handler=actions.retry_import,
        action=Action.RETRY,
        summary="Run a finished import again",
        request_headers=("Idempotency-Key",),
        body=RetryRequest,
        body_optional=True,
        answers={202: Answer("It will run again; this is how it stood.", Import, headers=_REPLAYED)},
        problems=(*_BODY, NOT_FOUND, CONFLICT),
    ),
    Operation(
        method="POST",
        path=f"{ONE}/cancel",
        id="cancelImport",
        handler=actions.cancel_import,
        action=Action.CANCEL,
        summary="Cancel an import",
        description="Deletes its ImportJob. Products that were imported stay. Cancelling twice is no error.",
        answers={202: Answer("It will stop; this is how it stood.", Import)},
        problems=(NOT_FOUND, CONFLICT),
    ),
    Operation(
        method="GET",
        path="/v1/events",
        id="followAll",
        handler=events.follow_all,
        action=Action.LIST,
        summary="Follow everything by server-sent events",
        description="First an event `overview` with all that the live page shows, then events `change` "
        "(OverviewChange) with what differs, at most one a second. Ids are as those of one import's events.",
        request_headers=("Last-Event-ID",),
        answers={200: Answer("The events.", Overview, media_type=_EVENTS)},
        problems=(INVALID,),
        stream=True,
    ),
    Operation(
        method="GET",
        path="/v1/search",
        id="searchProducts",
        handler=search.search_products,
        action=Action.SEARCH,
        action_names="companyId",
        summary="Search in a company's products",
        description="Merges products whose words match with those that mean the like, where a model is configured. "
        "The company must have been imported for in the namespace that this gateway serves. "
        "`products` exist for RBAC only; their names are companies' ids, so that a role may be for some of them.",
        query=SearchRequest,
        answers={200: Answer("The products, best first.", SearchPage)},
        problems=(NOT_FOUND, INVALID),
    ),
    Operation(
        method="GET",
        path="/v1/figures",
        id="getFigures",
        handler=figures.get_figures,
        action=Action.LIST,
        summary="Jobs by day, how long they took, and why they failed",
        query=FiguresQuery,
        answers={200: Answer("The figures; the same answer for a minute.", Figures)},
        problems=(INVALID,),
    ),
    *DEAD_LETTERS,
    Operation(
        method="GET",
        path="/health/queue",
        id="getQueueHealth",
        handler=queues.get_queue_health,
        action=Action.LIST,
        summary="How the queues are",
        answers={200: Answer("The queues; the same answer for ten seconds.", QueueReport)},
        problems=(INVALID,),
    ),
    Operation(
        method="POST",
        path="/v1/queue/pause",
        id="pauseQueue",
        handler=queues.pause_queue,
        action=Action.PAUSE,
        summary="Hand out no more jobs of a queue, or take no new ones; those under way go on",
        body=QueueRequest,
        body_optional=True,
        answers={200: Answer("The queues as they are now.", QueueReport)},
        problems=(*_BODY, NOT_FOUND, CONFLICT),
    ),
    Operation(
        method="POST",
        path="/v1/queue/resume",
        id="resumeQueue",
        handler=queues.resume_queue,
        action=Action.PAUSE,
        summary="Hand out a queue's jobs again, also after an emergency pause; or take new ones",
        body=QueueRequest,
        body_optional=True,
        answers={200: Answer("The queues as they are now.", QueueReport)},
        problems=(*_BODY, NOT_FOUND, CONFLICT),
    ),
    Operation(
        method="GET",
        path="/v1/me",
        id="getMe",
        handler=sessions.get_me,
        summary="Who the caller is, and what he may do",
        answers={200: Answer("The caller.", Session)},
    ),
    Operation(
        method="POST",
        path="/session",
        id="signIn",
        handler=sessions.sign_in,
        public=True,
        summary="Have the browser keep a token in a cookie",
        body=SignIn,
        answers={201: Answer("The token is good.", Session, headers={"Set-Cookie": "The cookie."})},
        problems=(*_BODY, FOREIGN_ORIGIN, TOO_SLOW),
    ),
    Operation(
        method="DELETE",
        path="/session",
        id="signOut",
        handler=sessions.sign_out,
        public=True,
        summary="Have the browser forget the token",
        answers={204: Answer("The cookie is gone.", headers={"Set-Cookie": "An empty cookie."})},
        problems=(FOREIGN_ORIGIN,),
    ),
    Operation(
        method="POST",
        path=LINKS,
        id="createLink",
        handler=sellers.create_link,
        action=Action.LINK,
        summary="Make a link to one company's progress page",
        description="Who has the link sees the company's imports until it expires or is revoked, and nothing else.",
        body=LinkRequest,
        answers={201: Answer("The link, told this once.", SellerLinkWithUrl)},
        problems=_BODY,
    ),
    Operation(
        method="GET",
        path=LINKS,
        id="listLinks",
        handler=sellers.list_links,
        action=Action.LINK,
        summary="The links whose time is not up",
        answers={200: Answer("The links.", SellerLinkPage)},
        problems=(INVALID,),
    ),
    Operation(
        method="DELETE",
        path=f"{LINKS}/{{id}}",
        id="revokeLink",
        handler=sellers.revoke_link,
        action=Action.LINK,
        summary="Have a link open nothing any more",
        answers={204: Answer("It opens nothing; pages that are open close within seconds.")},
        problems=(NOT_FOUND,),
    ),
    Operation(
        method="POST",
        path="/seller/session",
        id="openLink",
        handler=sellers.open_link,
        public=True,
        summary="Exchange a link's token for a cookie",
        body=OpenLink,
        answers={201: Answer("The link is good.", SellerSession, headers={"Set-Cookie": "The cookie."})},
        problems=(*_BODY, LINK_INVALID, FOREIGN_ORIGIN, TOO_SLOW),
    ),
    Operation(
        method="GET",
        path="/seller/session",
        id="getSeller",
        handler=sellers.get_seller,
        public=True,
        summary="Whose page the link's cookie opens",
        answers={200: Answer("The company.", SellerSession)},
        problems=(LINK_INVALID, INVALID),
    ),
    Operation(
        method="DELETE",
        path="/seller/session",
        id="leaveSeller",
        handler=sellers.leave_seller,
        public=True,
        summary="Have the browser forget the link",
        answers={204: Answer("The cookie is gone.", headers={"Set-Cookie": "An empty cookie."})},
        problems=(FOREIGN_ORIGIN,),
    ),
    Operation(
        method="GET",
        path="/seller/events",
        id="followSeller",
        handler=sellers.follow_seller,
        public=True,
        summary="Follow the imports of the link's company by server-sent events",
        description="With the cookie of a link. First an event `overview` with the company's 50 newest imports, then "
        "events `change` (OverviewChange) with what differs. It ends when the link does.",
        request_headers=("Last-Event-ID",),
        answers={200: Answer("The events.", Overview, media_type=_EVENTS)},
        problems=(LINK_INVALID, INVALID),
        stream=True,
    ),
    Operation(
        method="GET",
        path="/healthz",
        id="getLiveness",
        handler=health.healthz,
        public=True,
        weightless=True,
        summary="Whether the process answers",
        answers={200: Answer("It does.", media_type="text/plain")},
    ),
    Operation(
        method="GET",
        path="/readyz",
        id="getReadiness",
        handler=health.readyz,
        public=True,
        weightless=True,
        summary="Whether requests may be sent to this replica",
        answers={200: Answer("They may.", Health), 503: Answer("It is stopping.", Health)},
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        id="getDescription",
        handler=_describe,
        public=True,
        weightless=True,
        summary="This description",
        answers={200: Answer("The OpenAPI document.", media_type=DESCRIPTION)},
    ),
)


@cache
def _document() -> dict[str, Any]:
    return get_openapi(OPERATIONS)


def get_api_routes(services: Services) -> list[BaseRoute]:
    """The routes of the API, one for each path."""
    under_way = UnderWay()
    paths = dict.fromkeys(operation.path for operation in OPERATIONS)
    return [
        Route(path, PathEndpoint(services, [o for o in OPERATIONS if o.path == path], under_way))
        for path in paths
    ]
