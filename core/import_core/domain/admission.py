"""Whether an ImportJob may become a row: a pure decision from the object and its provider."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from import_core.domain.correlation import asked_correlation
from import_core.domain.errors import InvalidResourceError
from import_core.domain.jobs import JobRequest, ObjectReference
from import_core.domain.mapping import check_mapping
from import_core.domain.reopening import requests_of
from import_core.domain.resources.import_job import ImportJob, parse_import_job
from import_core.domain.resources.import_provider import parse_import_provider
from import_core.domain.step_availability import asked_steps, refuse_steps
from import_core.domain.steps import StepKind

INVALID_SPEC = "InvalidSpec"
INVALID_PROVIDER = "InvalidProvider"
PROVIDER_NOT_FOUND = "ProviderNotFound"
COMPANY_MISMATCH = "CompanyMismatch"
INVALID_MAPPING = "InvalidMapping"
DATABASE_UNAVAILABLE = "DatabaseUnavailable"
STEP_UNAVAILABLE = "StepUnavailable"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job is not recorded, at least not yet; `field` is the path in the object, where one is to blame."""

    reason: str
    message: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on one generation of an object, in the form that is kept for its status."""

    generation: int
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class Admission:
    """A decision: `request` is None where the job is refused."""

    verdict: Verdict
    request: JobRequest | None


def admit(
    body: Mapping[str, Any],
    provider: Mapping[str, Any] | None,
    *,
    unavailable: Collection[StepKind] = (),
) -> Admission:
    """Decide on an ImportJob's JSON; `provider` is the ImportProvider that it names, None if there is none.

    `unavailable` are the steps after the import that this installation can't do.
    A refused job is looked at again when it or its provider changes.
    """
    generation = int(body["metadata"].get("generation") or 0)
    try:
        job = parse_import_job(body)
    except InvalidResourceError as error:
        return _refused(generation, Refusal(INVALID_SPEC, str(error), error.field))
    if _holds_nul(body["spec"]):
        reason = "holds a NUL character, which PostgreSQL can't store"
        return _refused(generation, Refusal(INVALID_SPEC, f"spec: {reason}", "spec"))
    step = refuse_steps(asked_steps(body["spec"].get("enrich")), unavailable)
    if step is not None:
        return _refused(generation, Refusal(STEP_UNAVAILABLE, step.message, step.field))
    refusal = _refusal(job, provider)
    if refusal is not None:
        return _refused(generation, refusal)
    return Admission(Verdict(generation, None), _request(job, body))


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Mapping):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))


def _refused(generation: int, refusal: Refusal) -> Admission:
    return Admission(Verdict(generation, refusal), None)


def _refusal(job: ImportJob, provider_body: Mapping[str, Any] | None) -> Refusal | None:
    name = job.spec.provider_ref.name
    if provider_body is None:
        where = f"namespace {job.metadata.namespace}"
        return Refusal(
            PROVIDER_NOT_FOUND,
            f"spec.providerRef.name: there is no ImportProvider {name} in {where}; the job waits for it",
            "spec.providerRef.name",
        )
    try:
        provider = parse_import_provider(provider_body)
    except InvalidResourceError as error:
        return Refusal(INVALID_PROVIDER, f"ImportProvider {name}: {error}", "spec.providerRef.name")
    if provider.spec.company_id != job.spec.company_id:
        # The provider's company is not named: the submitter may not be allowed to know it.
        return Refusal(
            COMPANY_MISMATCH,
            f"spec.companyId: the ImportProvider {name} belongs to another company than {job.spec.company_id}",
            "spec.companyId",
        )
    problems = check_mapping(provider.spec.type, job.spec.field_mapping)
    if problems:
        message = "; ".join(f"spec.{problem}" for problem in problems)
        return Refusal(INVALID_MAPPING, message, f"spec.{problems[0].field}")
    return None


def _request(job: ImportJob, body: Mapping[str, Any]) -> JobRequest:
    metadata = job.metadata
    asked = requests_of(body)
    return JobRequest(
        id=metadata.uid,
        company_id=job.spec.company_id,
        provider=job.spec.provider_ref.name,
        namespace=metadata.namespace,
        spec=dict(body["spec"]),
        origin=ObjectReference(metadata.namespace, metadata.name, metadata.uid),
        generation=metadata.generation,
        suspended=job.spec.suspend,
        retry_token=asked.retry,
        items_retry_token=asked.retry_items,
        correlation_id=asked_correlation(body),
    )
