"""AdmissionReviews: what is read of them, what is refused, and the answer."""

import json
from typing import Any

import pytest

from import_core.domain.backpressure import IntakeRefusal
from import_gateway.admission.review import InvalidReviewError, Review, answer, parse_review


def body(**request: Any) -> bytes:
    wanted = {
        "uid": "u-1",
        "operation": "CREATE",
        "namespace": "imports",
        "resource": {"group": "imports.avnz.io", "version": "v1alpha1", "resource": "importjobs"},
        "object": {"metadata": {"name": "job"}, "spec": {"companyId": "acme"}},
        "userInfo": {"username": "somebody"},
    }
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**wanted, **request}}
    ).encode()


def test_reads_what_is_needed() -> None:
    assert parse_review(body(dryRun=True)) == Review(
        uid="u-1",
        operation="CREATE",
        namespace="imports",
        resource="importjobs.imports.avnz.io",
        company_id="acme",
        dry_run=True,
    )


def test_a_subresource_is_another_resource() -> None:
    assert parse_review(body(subResource="status")).resource == "importjobs/status.imports.avnz.io"


@pytest.mark.parametrize(
    "object_",
    [None, {}, {"spec": None}, {"spec": []}, {"spec": {"companyId": 7}}, {"spec": {"companyId": ""}}],
)
def test_an_object_without_a_company_names_none(object_: Any) -> None:
    assert parse_review(body(object=object_)).company_id is None


@pytest.mark.parametrize(
    "company", ["a" * 129, "a" * 2**19, "-acme", "acme corp", "acme\n", "ac\0me", "äcme"]
)
def test_what_can_be_no_company_id_is_not_asked_about(company: str) -> None:
    assert parse_review(body(object={"spec": {"companyId": company}})).company_id is None


def test_the_longest_company_id_is_asked_about() -> None:
    assert parse_review(body(object={"spec": {"companyId": "a" * 128}})).company_id == "a" * 128


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{}", "apiVersion"),
        (body(uid=""), "request.uid"),
        (body(uid="x" * 129), "request.uid"),
        (body(uid=None), "request.uid"),
        (body(object=[]), "request.object"),
        (body().replace(b"k8s.io/v1", b"k8s.io/v2"), "apiVersion"),
        (body().replace(b"AdmissionReview", b"Other"), "kind"),
        (b"\xff" * 10, "body"),
        (b'{"a":' * 5000, "body"),
    ],
)
def test_names_the_field_that_is_wrong(content: bytes, field: str) -> None:
    with pytest.raises(InvalidReviewError) as caught:
        parse_review(content)
    assert caught.value.field == field


def test_answers() -> None:
    assert answer("u-1", None) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True},
    }
    response = answer("u-1", IntakeRefusal("No room.", 90))["response"]
    assert response == {
        "uid": "u-1",
        "allowed": False,
        "status": {
            "code": 503,
            "reason": "ServiceUnavailable",
            "message": "No room.",
            "details": {"causes": [{"reason": "RetryAfterSeconds", "message": "90"}]},
        },
    }
    assert "retryAfterSeconds" not in json.dumps(response)
