"""What the operator and the gateway do where there is no Kubernetes, as far as no server is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from import_core.adapters.folder.declarations import Declarations
from import_core.domain.declarations import DeclarationsError
from import_core.domain.errors import InvalidInputError
from import_gateway.standalone.submitting import RowSubmitter
from import_operator.settings import OperatorSettings
from import_operator.standalone.process import StandaloneProcess

PROVIDER = {
    "companyId": "acme",
    "type": "shopify",
    "baseUrl": "https://acme.myshopify.com",
    "credentialsSecretRef": {"name": "acme-shop"},
}
JOB = {"companyId": "acme", "providerRef": {"name": "acme-shop"}, "enrich": {"embedding": True}}
SCHEDULE = {"schedule": "*/10 * * * *", "jobTemplate": {"spec": JOB}}


def write(folder: Path, kind: str, name: str, spec: dict[str, Any]) -> None:
    body = {"apiVersion": "imports.avnz.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(body))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OperatorSettings:
    write(tmp_path, "ImportProvider", "acme-shop", PROVIDER)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere/imports")
    monkeypatch.setenv("REDIS_URL", "redis://nowhere:6379/0")
    monkeypatch.setenv("HEALTH_PORT", "0")
    monkeypatch.setenv("PROVIDERS_PATH", str(tmp_path))
    monkeypatch.delenv("EMBEDDING_MODEL_PATH", raising=False)
    return OperatorSettings()


async def test_it_runs_every_loop_that_needs_no_api_server(settings: OperatorSettings) -> None:
    process = StandaloneProcess(settings)
    names = {loop.name for loop in process._loops()}
    assert {"dispatch", "steps", "notify", "reap", "listen", "breakers", "schedule", "history"} <= names


async def test_a_schedule_for_a_step_that_can_not_be_done_is_refused_at_the_start(
    settings: OperatorSettings, tmp_path: Path
) -> None:
    write(tmp_path, "ImportSchedule", "often", SCHEDULE)
    with pytest.raises(
        DeclarationsError, match=r"often.yaml: spec\.jobTemplate\.spec\.enrich\.embedding: .*model"
    ):
        StandaloneProcess(settings)
    StandaloneProcess(settings.model_copy(update={"embedding_model_path": "/models/siglip"}))


async def test_a_submission_for_a_step_that_can_not_be_done_is_refused(
    settings: OperatorSettings, tmp_path: Path
) -> None:
    declarations = Declarations(str(tmp_path), namespace="imports")

    class Nothing:
        async def read(self, _ids: list[str]) -> dict[str, Any]:
            return {}

    submitter = RowSubmitter(
        declarations,
        cast(Any, Nothing()),
        cast(Any, None),
        namespace="imports",
        unavailable=settings.unavailable_steps,
    )
    with pytest.raises(InvalidInputError, match="embedding model") as caught:
        await submitter.submit("one", JOB, correlation_id="")
    assert caught.value.field == "spec.enrich.embedding"
