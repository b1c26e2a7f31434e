"""Which ImportJobs become rows, and what the others are told."""

from typing import Any

import pytest

from import_core.domain.admission import admit
from import_core.domain.step_availability import asked_steps, refuse_steps
from import_core.domain.steps import StepKind


def job(**spec: Any) -> dict[str, Any]:
    wanted = {"companyId": "acme", "providerRef": {"name": "acme-shopify"}, **spec}
    return {
        "metadata": {"name": "autumn", "namespace": "imports", "uid": "uid-1", "generation": 3},
        "spec": wanted,
    }


def provider(**spec: Any) -> dict[str, Any]:
    wanted = {
        "companyId": "acme",
        "type": "shopify",
        "baseUrl": "https://acme.myshopify.com",
        "credentialsSecretRef": {"name": "acme-shopify"},
        **spec,
    }
    return {"metadata": {"name": "acme-shopify", "namespace": "imports", "uid": "uid-2"}, "spec": wanted}


def test_valid_job_becomes_a_request() -> None:
    admission = admit(job(), provider())
    request = admission.request
    assert request is not None
    assert (request.id, request.company_id, request.provider) == ("uid-1", "acme", "acme-shopify")
    assert (request.generation, request.suspended) == (3, False)
    assert request.origin is not None
    assert (request.origin.namespace, request.origin.name, request.origin.uid) == (
        "imports",
        "autumn",
        "uid-1",
    )
    assert admission.verdict.refusal is None


def test_suspended_job_is_recorded_as_such() -> None:
    request = admit(job(suspend=True), provider()).request
    assert request is not None
    assert request.suspended


def test_job_that_comes_with_a_request_has_it_honoured_by_its_first_run() -> None:
    body = job()
    body["metadata"]["annotations"] = {"imports.avnz.io/retry": "1", "imports.avnz.io/retry-items": "x" * 129}
    request = admit(body, provider()).request
    assert request is not None
    assert (request.retry_token, request.items_retry_token) == ("1", None)


@pytest.mark.parametrize(
    ("body", "connection", "reason", "field", "words"),
    [
        (job(), None, "ProviderNotFound", "spec.providerRef.name", "acme-shopify"),
        (job(companyId="other"), provider(), "CompanyMismatch", "spec.companyId", "another company"),
        (job(companyId="a/b"), provider(), "InvalidSpec", "spec.companyId", "spec.companyId"),
        (job(images={"maxPerProduct": 21}), provider(), "InvalidSpec", "spec.images.maxPerProduct", "20"),
        (job(enrich={"index": 1}), provider(), "InvalidSpec", "spec.enrich.index", "boolean"),
        (
            job(fieldMapping={"title": "title["}),
            provider(),
            "InvalidMapping",
            "spec.fieldMapping.title",
            "spec.fieldMapping.title",
        ),
        (
            job(fieldMapping={"colour": "title"}),
            provider(),
            "InvalidSpec",
            "spec.fieldMapping",
            "product fields",
        ),
        (job(fieldMapping={"title": "'a\0b'"}), provider(), "InvalidSpec", "spec", "NUL"),
        (job(), provider(baseUrl="ftp://acme"), "InvalidProvider", "spec.providerRef.name", "baseUrl"),
    ],
)
def test_refused_job_names_the_field(
    body: dict[str, Any], connection: dict[str, Any] | None, reason: str, field: str, words: str
) -> None:
    admission = admit(body, connection)
    assert admission.request is None
    refusal = admission.verdict.refusal
    assert refusal is not None
    assert (refusal.reason, refusal.field) == (reason, field)
    assert words in refusal.message
    assert admission.verdict.generation == 3


def test_foreign_company_is_not_told() -> None:
    refusal = admit(job(companyId="curious"), provider(companyId="secret-customer")).verdict.refusal
    assert refusal is not None
    assert "secret-customer" not in refusal.message


def test_every_problem_of_a_mapping_is_named() -> None:
    refusal = admit(job(fieldMapping={"title": "a[", "sku": "b("}), provider()).verdict.refusal
    assert refusal is not None
    assert "spec.fieldMapping.title" in refusal.message
    assert "spec.fieldMapping.sku" in refusal.message


def test_step_that_the_installation_cannot_do_is_refused_and_named() -> None:
    verdict = admit(job(enrich={"embedding": True}), provider(), unavailable={StepKind.EMBEDDING}).verdict
    assert verdict.refusal is not None
    assert (verdict.refusal.field or "").startswith("spec.enrich")
    assert admit(job(enrich={"embedding": False}), provider(), unavailable={StepKind.EMBEDDING}).request


def test_refusal_of_a_step_names_field_and_fix() -> None:
    asked = asked_steps({"embedding": True, "index": True, "qualityControl": False})
    assert asked == {StepKind.EMBEDDING, StepKind.INDEX}
    refusal = refuse_steps(asked, {StepKind.EMBEDDING, StepKind.QUALITY_CONTROL})
    assert refusal is not None
    assert refusal.field == "spec.enrich.embedding"
    assert refusal.message.startswith("spec.enrich.embedding: this installation has no embedding model")
    assert "EMBEDDING_MODEL_PATH" in refusal.message
    assert refuse_steps(asked, {StepKind.QUALITY_CONTROL}) is None
    assert refuse_steps(asked, {StepKind.INDEX}) is not None


@pytest.mark.parametrize("enrich", [None, [], "embedding", {"embedding": "true"}, {"embedding": 1}])
def test_what_asks_for_no_step_in_the_schemas_sense_asks_for_none(enrich: Any) -> None:
    assert asked_steps(enrich) == frozenset()
