"""The OpenAPI document says all that may be answered."""

import json
import re
from typing import Any

import pytest

from import_core.domain.dead_letters import item_id, letter_id
from import_core.domain.resources.import_job import ImportJobSpec
from import_core.domain.steps import StepKind
from import_core.domain.values import MAX_TEXT_LENGTH
from import_gateway.api.openapi import get_openapi
from import_gateway.api.routes import OPERATIONS

DOCUMENT = get_openapi(OPERATIONS)
DESCRIBED = [
    (path, method, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
]


def test_every_operation_is_there_once() -> None:
    assert len(DESCRIBED) == len(OPERATIONS)
    names = [described["operationId"] for _, _, described in DESCRIBED]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("path", "method", "described"), DESCRIBED)
def test_operation_describes_its_errors(path: str, method: str, described: dict[str, Any]) -> None:
    answers = described["responses"]
    problems = {
        status
        for status, answer in answers.items()
        if "application/problem+json" in answer.get("content", {})
    }
    assert {"500", "503"} <= problems
    assert "Retry-After" in answers["503"]["headers"]
    if described["security"]:
        assert {"401", "403", "429"} <= problems
        assert answers["429"]["headers"]["Retry-After"]
    if "requestBody" in described:
        assert {"400", "413", "415", "422"} <= problems
    if "{name}" in path:
        assert "404" in problems
        assert [p["name"] for p in described["parameters"] if p["in"] == "path"] == ["namespace", "name"]


def test_steps_after_the_import_may_be_asked_for() -> None:
    for name, described in DOCUMENT["components"]["schemas"]["Enrich"]["properties"].items():
        kinds = {choice.get("type") for choice in described["anyOf"]}
        assert (kinds, "const" in json.dumps(described)) == ({"boolean", "null"}, False), name


def test_every_dead_letter_s_id_is_described() -> None:
    described = DOCUMENT["paths"]["/v1/dead-letters/{letter}"]["get"]["parameters"]
    (schema,) = [each["schema"] for each in described if each["name"] == "letter"]
    longest = item_id("j" * 253, "\N{TEAPOT}" * MAX_TEXT_LENGTH)
    for one in (longest, item_id("job", "1"), *(letter_id("row", kind) for kind in StepKind)):
        assert re.search(schema["pattern"], one)
        assert len(one) <= schema["maxLength"]


def test_references_lead_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    wanted = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert wanted <= set(DOCUMENT["components"]["schemas"])
    assert "#/$defs" not in text


def test_submission_takes_all_fields_of_an_import_job_and_no_others() -> None:
    spec = DOCUMENT["components"]["schemas"]["ImportJobSpec"]
    assert set(spec["properties"]) == {field.alias for field in ImportJobSpec.model_fields.values()}
    assert spec["additionalProperties"] is False
    assert spec["required"] == ["companyId", "providerRef"]
