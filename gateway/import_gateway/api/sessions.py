"""Sign-in of people: the browser keeps the token in a cookie that no script can read."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from import_core.domain.callers import Action, Caller
from import_gateway.access.credentials import comes_from_own_page, end_session, set_session
from import_gateway.api.models import Permissions, Session, SignIn
from import_gateway.api.operation import Call, get_json_response
from import_gateway.api.problems import FOREIGN_ORIGIN, TOO_SLOW, ProblemError
from import_gateway.api.reading import read_body

BODY_SECONDS = 3.0
"""Time for the body of a sign-in: who has no token yet may not keep others from theirs by sending slowly."""


async def sign_in(call: Call) -> Response:
    """Check a token and have the browser keep it."""
    _check_origin(call)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            wanted = await read_body(call.request, SignIn)
    except TimeoutError as error:
        raise ProblemError(TOO_SLOW, f"The body did not come within {BODY_SECONDS:g} s") from error
    caller = await call.services.access.authenticate(wanted.token)
    call.services.access.count_call(caller)
    response = get_json_response(await _session(call, caller), 201)
    set_session(response, wanted.token, call.services.settings)
    return response


async def get_me(call: Call) -> Response:
    """Answer who the caller is and what he may do."""
    return get_json_response(await _session(call, call.caller))


async def sign_out(call: Call) -> Response:
    """Have the browser forget the token."""
    _check_origin(call)
    response = Response(status_code=204)
    end_session(response, call.services.settings)
    return response


async def _session(call: Call, caller: Caller) -> Session:
    namespace = call.services.settings.namespace
    wanted = (Action.LIST, Action.SUBMIT, Action.RETRY, Action.CANCEL, Action.PAUSE)
    access = call.services.access
    may = await asyncio.gather(*(access.may(caller, action, namespace=namespace) for action in wanted))
    return Session(
        username=caller.username,
        namespace=namespace,
        may=Permissions(list=may[0], submit=may[1], retry=may[2], cancel=may[3], pause=may[4]),
    )


def _check_origin(call: Call) -> None:
    """A page of others may neither sign somebody in as somebody else, nor sign him out."""
    if "origin" in call.request.headers and not comes_from_own_page(call.request, call.services.settings):
        raise ProblemError(FOREIGN_ORIGIN, "Sign-in and sign-out must come from the gateway's own page")
