"""The webhook on imports that ask for a step which this installation can't do."""

from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
from pydantic import SecretStr

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.backpressure import IntakeRefusal
from import_gateway.admission.part import AdmissionPart
from import_gateway.admission.webhook import PATH
from import_gateway.metrics import GatewayMetrics
from import_gateway.services import Services
from import_gateway.settings import GatewaySettings


class Roomy:
    """There is always room."""

    added = 0

    async def refusal(self, _company: str) -> IntakeRefusal | None:
        return None

    def add(self) -> None:
        self.added += 1


def review(operation: str = "CREATE", **enrich: bool) -> dict[str, Any]:
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "operation": operation,
            "namespace": "imports",
            "resource": {"group": IMPORT_JOB.group, "version": "v1alpha1", "resource": IMPORT_JOB.plural},
            "object": {"spec": {"companyId": "acme", "enrich": enrich}},
        },
    }


async def answer(body: dict[str, Any], *, model: str = "") -> tuple[dict[str, Any], float]:
    """The response, and how many reviews count as refused; of a gateway with this setting."""
    metrics = GatewayMetrics()
    settings = GatewaySettings(
        database_url=SecretStr("postgresql://nobody@localhost/none"), embedding_model_path=model
    )
    services = SimpleNamespace(settings=settings, kube=None, metrics=metrics, room=Roomy())
    webhook = AdmissionPart(cast("Services", services), cast("Any", None))._webhook
    transport = httpx2.ASGITransport(app=webhook.app())
    async with httpx2.AsyncClient(transport=transport, base_url="https://webhook") as client:
        response = await client.post(PATH, json=body)
    assert response.status_code == 200
    refused = metrics.registry.get_sample_value("imports_admission_reviews_total", {"result": "refused"})
    return response.json()["response"], refused or 0.0


async def test_embedding_without_a_model_is_refused_with_field_and_fix() -> None:
    response, refused = await answer(review(embedding=True))
    assert (response["uid"], response["allowed"], refused) == ("u-1", False, 1)
    status = response["status"]
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert status["message"].startswith("spec.enrich.embedding: this installation has no embedding model")
    assert "EMBEDDING_MODEL_PATH" in status["message"]
    assert status["details"]["causes"][0]["field"] == "spec.enrich.embedding"


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (review(embedding=True), "/models/siglip"),
        (review(embedding=False, index=True), ""),
        (review(), ""),
        (review("UPDATE", embedding=True), ""),
    ],
)
async def test_everything_else_passes(body: dict[str, Any], model: str) -> None:
    response, refused = await answer(body, model=model)
    assert (response["allowed"], refused) == (True, 0)
