"""Errors as RFC 9457 problem documents: one place that says which error gets which status and headers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from starlette.responses import Response

from import_core.domain.errors import (
    DatabaseUnavailableError,
    ImportOperatorError,
    IntakeRefusedError,
    InvalidInputError,
    KubernetesUnavailableError,
    ObjectConflictError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ObjectRefusedError,
    QueueUnavailableError,
    SchemaMismatchError,
    SearchUnavailableError,
)
from import_gateway.access.gatekeeper import NotAllowedError, NotAuthenticatedError, TooManyCallsError
from import_gateway.access.sellers import LinkInvalidError
from import_gateway.api.models import FieldProblem, Problem
from import_gateway.live.places import TooManyListenersError, TooManyOwnListenersError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "tag:imports.avnz.io,2026:problem/"
AWAY_SECONDS = 5
"""When to ask again where a neighbour is away: failovers take seconds."""
INTAKE_SECONDS = 60
"""When to come back where the webhook did not say."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of error."""

    slug: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """Its identifier."""
        return TYPE_PREFIX + self.slug


MALFORMED = Kind("malformed-request", 400, "The request can't be read")
UNAUTHENTICATED = Kind("not-authenticated", 401, "A valid bearer token is needed")
LINK_INVALID = Kind("link-invalid", 401, "The link is not valid any more")
FORBIDDEN = Kind("not-allowed", 403, "The caller may not do this")
FOREIGN_ORIGIN = Kind("foreign-origin", 403, "The request does not come from the gateway's own page")
NOT_FOUND = Kind("not-found", 404, "There is no such thing")
METHOD_NOT_ALLOWED = Kind("method-not-allowed", 405, "This can't be done here")
CONFLICT = Kind("conflict", 409, "The present state does not allow this")
TOO_SLOW = Kind("too-slow", 408, "The body did not come in time")
TOO_LARGE = Kind("too-large", 413, "The body is too large")
UNSUPPORTED_MEDIA_TYPE = Kind("unsupported-media-type", 415, "The body must be JSON")
INVALID = Kind("invalid", 422, "The request has a value that is not allowed")
KEY_REUSED = Kind("idempotency-key-reused", 409, "The Idempotency-Key was used for another request")
TOO_MANY_CALLS = Kind("too-many-requests", 429, "Too many requests")
INTERNAL = Kind("internal", 500, "The gateway failed")
UNAVAILABLE = Kind("unavailable", 503, "Something that is needed does not answer")
INTAKE_REFUSED = Kind("intake-refused", 503, "There is no room for new imports")
BUSY = Kind("busy", 503, "The gateway is busy")


class ProblemError(ImportOperatorError):
    """A request that can't be answered; it becomes a problem document."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.kind = kind
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: Kind
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


_RULES: dict[type[ImportOperatorError], _Rule] = {
    NotAuthenticatedError: _Rule(UNAUTHENTICATED, headers={"WWW-Authenticate": "Bearer"}),
    LinkInvalidError: _Rule(LINK_INVALID),
    NotAllowedError: _Rule(FORBIDDEN),
    TooManyCallsError: _Rule(TOO_MANY_CALLS),
    TooManyListenersError: _Rule(BUSY, AWAY_SECONDS),
    TooManyOwnListenersError: _Rule(TOO_MANY_CALLS, AWAY_SECONDS),
    IntakeRefusedError: _Rule(INTAKE_REFUSED, INTAKE_SECONDS),
    ObjectNotFoundError: _Rule(NOT_FOUND),
    ObjectConflictError: _Rule(CONFLICT),
    ObjectRefusedError: _Rule(INVALID),
    InvalidInputError: _Rule(INVALID),
    DatabaseUnavailableError: _Rule(UNAVAILABLE, AWAY_SECONDS),
    KubernetesUnavailableError: _Rule(UNAVAILABLE, AWAY_SECONDS),
    QueueUnavailableError: _Rule(UNAVAILABLE, AWAY_SECONDS),
    SearchUnavailableError: _Rule(UNAVAILABLE, AWAY_SECONDS),
    # The gateway's own rights or its database are not as it needs them: a person has to mend that.
    ObjectForbiddenError: _Rule(UNAVAILABLE, 60),
    SchemaMismatchError: _Rule(UNAVAILABLE, 60),
}


def problem_of(error: ImportOperatorError) -> ProblemError:
    """The problem that an error is for the caller."""
    if isinstance(error, ProblemError):
        return error
    for known in type(error).__mro__:
        rule = _RULES.get(known)
        if rule is not None:
            asked: float | None = getattr(error, "retry_after", None)
            return ProblemError(
                rule.kind,
                error.message,
                headers=rule.headers,
                retry_after=rule.retry_after if asked is None else asked,
            )
    return ProblemError(INTERNAL, "The gateway failed; its log says why, under the X-Request-Id")


def get_problem_response(problem: ProblemError, *, instance: str | None) -> Response:
    """The answer."""
    document = Problem(
        type=problem.kind.type,
        title=problem.kind.title,
        status=problem.kind.status,
        detail=problem.message,
        instance=instance,
        errors=list(problem.errors) or None,
    )
    return Response(
        document.model_dump_json(by_alias=True, exclude_none=True),
        status_code=problem.kind.status,
        headers={**problem.headers, "Cache-Control": "no-store"},
        media_type=MEDIA_TYPE,
    )
