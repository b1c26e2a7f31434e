"""Reads an AdmissionReview and writes the answer to it: admission.k8s.io/v1, and only what is needed of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from import_core.adapters.kube.client import RETRY_AFTER_CAUSE
from import_core.domain.backpressure import IntakeRefusal
from import_core.domain.errors import InvalidInputError
from import_core.domain.resources.common import CompanyId
from import_core.domain.step_availability import StepRefusal, asked_steps
from import_core.domain.steps import StepKind

API_VERSION = "admission.k8s.io/v1"
UNAVAILABLE = 503
INVALID = 422

_COMPANY_ID: TypeAdapter[str] = TypeAdapter(CompanyId)


class InvalidReviewError(InvalidInputError):
    """The body is no AdmissionReview of version v1."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Resource(_Part):
    group: str = ""
    resource: str = ""


class _Request(_Part):
    uid: str = Field(min_length=1, max_length=128)
    operation: str = ""
    namespace: str = ""
    resource: _Resource = _Resource()
    sub_resource: str = Field(default="", validation_alias="subResource")
    object: dict[str, Any] | None = None
    dry_run: bool = Field(default=False, validation_alias="dryRun")


class _Review(_Part):
    api_version: str = Field(validation_alias="apiVersion", pattern=f"^{API_VERSION}$")
    kind: str = Field(pattern="^AdmissionReview$")
    request: _Request


@dataclass(frozen=True, slots=True)
class Review:
    """One question of the API server."""

    uid: str
    operation: str
    namespace: str
    resource: str
    """Plural and group, such as importjobs.imports.avnz.io; a subresource is no resource of its own."""
    company_id: str | None
    """Of the new object; None where it names none that its schema allows."""
    dry_run: bool = False
    """It is answered like any other, but nothing will be created."""
    steps: frozenset[StepKind] = frozenset()
    """The steps after the import that the new object asks for."""


def parse_review(body: bytes) -> Review:
    """Read a request's body. Raises InvalidReviewError, which names the field."""
    try:
        request = _Review.model_validate_json(body).request
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "body"
        raise InvalidReviewError(field, problem["msg"]) from None
    spec = (request.object or {}).get("spec")
    resource = f"{request.resource.resource}.{request.resource.group}"
    if request.sub_resource:
        resource = f"{request.resource.resource}/{request.sub_resource}.{request.resource.group}"
    return Review(
        uid=request.uid,
        operation=request.operation,
        namespace=request.namespace,
        resource=resource,
        company_id=_company_id(spec.get("companyId")) if isinstance(spec, dict) else None,
        dry_run=request.dry_run,
        steps=asked_steps(spec.get("enrich")) if isinstance(spec, dict) else frozenset(),
    )


def _company_id(value: object) -> str | None:
    """A company that can be asked about. Whoever reaches the port may send any text, and it would be remembered."""
    try:
        return _COMPANY_ID.validate_python(value, strict=True)
    except ValidationError:
        return None


def answer(uid: str, refusal: IntakeRefusal | None) -> dict[str, Any]:
    """The AdmissionReview that answers the one with this uid; None lets the object through.

    It has no retryAfterSeconds: the API server would make a Retry-After header of it, on which kubectl waits
    and tries again, up to ten times, without a word to the person before it. The time is among the causes, for
    programs that look there.
    """
    response: dict[str, Any] = {"uid": uid, "allowed": refusal is None}
    if refusal is not None:
        cause = {"reason": RETRY_AFTER_CAUSE, "message": str(refusal.retry_after_seconds)}
        response["status"] = {
            "code": UNAVAILABLE,
            "reason": "ServiceUnavailable",
            "message": refusal.message,
            "details": {"causes": [cause]},
        }
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def refusing_answer(uid: str, refusal: StepRefusal) -> dict[str, Any]:
    """The AdmissionReview that refuses an object for a field of it, as the API server refuses one for its schema."""
    cause = {"reason": "FieldValueInvalid", "field": refusal.field, "message": refusal.reason}
    status = {
        "code": INVALID,
        "reason": "Invalid",
        "message": refusal.message,
        "details": {"causes": [cause]},
    }
    response = {"uid": uid, "allowed": False, "status": status}
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
