"""One operation of the API: how it is called, what it answers, and what its caller must be allowed to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from import_core.domain.callers import Action, Caller
from import_core.domain.errors import ObjectNotFoundError
from import_gateway.api.models import ApiModel
from import_gateway.api.problems import Kind
from import_gateway.services import Services


@dataclass(frozen=True, slots=True)
class Call:
    """A request that has passed the gate."""

    services: Services
    request: Request
    signed_in: Caller | None
    check: Callable[[], Awaitable[None]]
    """Raises where the caller has lost his token or his right meanwhile; for streams."""

    @property
    def caller(self) -> Caller:
        """Who calls; for operations that are not public."""
        if self.signed_in is None:
            raise RuntimeError("a public operation has no caller")
        return self.signed_in

    @property
    def namespace(self) -> str:
        """The namespace that is served. Raises ObjectNotFoundError where the path names another."""
        served = self.services.settings.namespace
        if self.request.path_params.get("namespace", served) != served:
            raise ObjectNotFoundError(f"This gateway serves namespace {served} only")
        return served

    @property
    def name(self) -> str:
        """The job's name in the path."""
        return str(self.request.path_params["name"])


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of an operation; `body` None: it has none, or `media_type` text."""

    description: str
    body: type[ApiModel] | None = None
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An entry of the API's table of contents."""

    method: str
    path: str
    handler: Handler
    id: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    action: Action | None = None
    """What the caller must be allowed to do; None: nothing but to be somebody."""
    action_names: str = ""
    """The query's parameter that names the object of the action, where the path does not."""
    public: bool = False
    """Whether it needs no sign-in."""
    weightless: bool = False
    """Whether it is public and answered at once from memory, so that it never has to wait for room."""
    query: type[ApiModel] | None = None
    body: type[ApiModel] | None = None
    body_optional: bool = False
    request_headers: tuple[str, ...] = ()
    problems: tuple[Kind, ...] = ()
    """Beside those that every operation may have."""
    stream: bool = False


def get_json_response(
    body: ApiModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A model as an answer."""
    return JSONResponse(
        body.model_dump(mode="json", by_alias=True),
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
