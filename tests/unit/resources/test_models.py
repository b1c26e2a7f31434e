"""The models accept and refuse what the API server does, fill defaults, and name what is wrong."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from custom_resource_cases import ACCEPTED, REFUSED, Case

from import_core.domain.errors import InvalidResourceError
from import_core.domain.resources.common import ResourceModel
from import_core.domain.resources.import_job import ImportJob, parse_import_job, parse_import_job_spec
from import_core.domain.resources.import_provider import parse_import_provider
from import_core.domain.resources.import_schedule import parse_import_schedule
from import_core.domain.resources.worker_pool import parse_worker_pool

PARSERS = {
    "ImportJob": parse_import_job,
    "ImportProvider": parse_import_provider,
    "ImportSchedule": parse_import_schedule,
    "WorkerPool": parse_worker_pool,
}
ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT.parent / "shared" / "examples"


def parse(body: dict[str, Any]) -> ResourceModel:
    return PARSERS[body["kind"]](body)


def job(**changes: Any) -> ImportJob:
    return parse_import_job(Case("ImportJob", changes).body())


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_accepts(case: Case) -> None:
    parse(case.body())


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refuses_naming_the_field(case: Case) -> None:
    with pytest.raises(InvalidResourceError) as caught:
        parse(case.body())
    assert case.blames in str(caught.value)


def test_error_has_the_path_from_the_object_on() -> None:
    with pytest.raises(InvalidResourceError) as caught:
        job(**{"images.thumbnails": [256, 4097]})
    assert caught.value.field == "spec.images.thumbnails[1]"


def test_error_of_a_rule_names_the_field_that_it_blames() -> None:
    with pytest.raises(InvalidResourceError) as caught:
        parse(Case("WorkerPool", {"scaling.maxReplicas": 1}).body())
    assert caught.value.field == "spec.scaling.maxReplicas"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schedule": "0 0 30 2 *"}, "spec.schedule"),
        ({"schedule": "9-3 * * * *"}, "spec.schedule"),
        ({"timeZone": "Mars/Olympus"}, "spec.timeZone"),
    ],
)
def test_what_only_we_know_to_be_wrong_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidResourceError) as caught:
        parse(Case("ImportSchedule", changes).body())
    assert caught.value.field == field


def test_error_names_every_wrong_field_and_no_value() -> None:
    with pytest.raises(InvalidResourceError) as caught:
        job(companyId="se/cret", suspend="se/cret")
    assert caught.value.field == "spec.companyId"
    assert "spec.suspend" in str(caught.value)
    assert "se/cret" not in str(caught.value)


def test_error_does_not_repeat_a_password() -> None:
    with pytest.raises(InvalidResourceError) as caught:
        parse(Case("ImportProvider", {"baseUrl": "https://user:hunter2@acme.example"}).body())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidResourceError):
        parse_import_job(value)


def test_defaults_of_a_job() -> None:
    spec = job().spec
    assert spec.to_json() == {
        "companyId": "acme",
        "providerRef": {"name": "acme-shopify"},
        "images": {"enabled": True, "maxPerProduct": 20, "thumbnails": [256, 1024]},
        "enrich": {"embedding": False, "qualityControl": False, "index": False},
        "removed": {"action": "Keep", "maxPercent": 20},
        "reimport": {"mode": "Full", "fullEvery": 24, "overlapSeconds": 600},
        "suspend": False,
        "ttlSecondsAfterFinished": 86400,
    }


def test_defaults_of_a_provider() -> None:
    spec = parse_import_provider(Case("ImportProvider").body()).spec
    assert spec.timeout_seconds == 30
    assert spec.circuit_breaker.to_json() == {"failureThreshold": 5, "openSeconds": 60}


@pytest.mark.parametrize(("provider_type", "requests"), [("shopify", 120), ("roastify", 100)])
def test_default_rate_limit_is_the_provider_types(provider_type: str, requests: int) -> None:
    spec = parse_import_provider(Case("ImportProvider", {"type": provider_type}).body()).spec
    assert spec.rate_limit is None
    assert spec.effective_rate_limit.to_json() == {"requests": requests, "perSeconds": 60}


def test_own_rate_limit_wins() -> None:
    spec = parse_import_provider(Case("ImportProvider", {"rateLimit.requests": 7}).body()).spec
    assert spec.effective_rate_limit.to_json() == {"requests": 7, "perSeconds": 60}


def test_defaults_of_a_pool() -> None:
    spec = parse_worker_pool(Case("WorkerPool").body()).spec.to_json()
    assert spec.pop("template")["spec"]["terminationGracePeriodSeconds"] == 60
    assert spec == {
        "queue": "product-imports",
        "paused": False,
        "concurrency": 5,
        "health": {
            "degradedAbove": 1000,
            "criticalAbove": 5000,
            "overloadAbove": 10000,
            "resumeAfterSeconds": 300,
            "basicDelaySeconds": 300,
            "minSuccessPercent": 50,
            "emergencyPauseSeconds": 300,
        },
        "scaling": {
            "policy": "QueueDepth",
            "minReplicas": 2,
            "maxReplicas": 50,
            "targetJobsPerWorker": 10,
            "drainTimeSeconds": 60,
            "cpuTargetPercent": 70,
            "scaleOutCooldownSeconds": 60,
            "scaleInCooldownSeconds": 300,
            "scaleInBusy": "Wait",
        },
        "rollout": {
            "initialReplicas": 2,
            "steps": [{"percent": 25, "pauseSeconds": 600}, {"percent": 100, "pauseSeconds": 0}],
            "initialPauseSeconds": 600,
            "minSuccessPercent": 90,
            "minJobs": 20,
        },
    }


def test_pod_template_keeps_fields_that_we_do_not_name() -> None:
    template = {
        "metadata": {"labels": {"team": "imports"}, "finalizers": ["x/y"]},
        "spec": {
            "terminationGracePeriodSeconds": 45,
            "nodeSelector": {"disk": "ssd"},
            "containers": [
                {
                    "name": "worker",
                    "image": "w:1",
                    "envFrom": [{"secretRef": {"name": "connections"}}],
                    "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "resources": {"requests": {"cpu": 2}, "claims": [{"name": "c"}]},
                    "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
                }
            ],
        },
    }
    pool = parse_worker_pool(Case("WorkerPool", {"template": template}).body())
    assert pool.spec.template.to_json() == template


def test_a_name_that_is_no_label_is_refused_for_a_pool_only() -> None:
    with pytest.raises(InvalidResourceError, match=r"metadata\.name"):
        parse_worker_pool(Case("WorkerPool").body("x" * 64))
    parse_worker_pool(Case("WorkerPool").body("x" * 63))
    parse_import_job(Case("ImportJob").body("x" * 64))


def test_unknown_metadata_and_status_fields_are_ignored() -> None:
    body = Case("ImportJob").body()
    body["metadata"] |= {
        "namespace": "imports",
        "uid": "u-1",
        "generation": 3,
        "managedFields": [{"manager": "kubectl"}],
        "ownerReferences": [{"kind": "ImportSchedule"}],
        "creationTimestamp": "2026-01-31T12:00:00Z",
        "labels": None,
    }
    body["status"] = {"phase": "Running", "somethingNew": 1, "progress": {"percent": 40, "more": []}}
    parsed = parse_import_job(body)
    assert (parsed.metadata.uid, parsed.metadata.generation) == ("u-1", 3)
    assert parsed.metadata.creation_timestamp == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parsed.status.phase == "Running"
    assert parsed.status.progress is not None
    assert parsed.status.progress.percent == 40


def test_a_parsed_spec_reads_its_own_json_again() -> None:
    spec = job(**{"filter.updatedAfter": "2026-01-01T00:00:00.5Z", "fieldMapping": {"sku": "id"}}).spec
    assert parse_import_job_spec(spec.to_json()) == spec
    assert spec.to_json()["filter"] == {"updatedAfter": "2026-01-01T00:00:00.500000Z"}


@pytest.mark.parametrize("folder", [EXAMPLES, ROOT / "deploy" / "samples"], ids=["shared", "samples"])
def test_examples_are_valid(folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    bodies = [
        body
        for file in sorted(folder.glob("*.yaml"))
        for body in yaml.safe_load_all(file.read_text())
        if body["kind"] in PARSERS
    ]
    assert {body["kind"] for body in bodies} == set(PARSERS)
    for body in bodies:
        parse(body)
