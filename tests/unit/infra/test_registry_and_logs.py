"""Repositories whose tags never change what they mean; log groups that forget in time; questions that fit our lines."""

import json
import re
from pathlib import Path

from cluster_world import CONTEXT, KEY, program, settings
from infra.logs import SAVED_QUERIES, Logs, LogsArgs
from infra.registry import Registry, RegistryArgs

ROOT = Path(__file__).parents[3]


def _registry(**values):
    return Registry(CONTEXT, RegistryArgs(settings=settings("registry", **values), key_arn=KEY))


def test_repositories_are_immutable_scanned_and_encrypted():
    made = program(_registry).of("aws:ecr/repository:Repository")
    assert {each.inputs["name"] for each in made} == {
        f"imports-test/import-{name}" for name in ("operator", "worker", "gateway")
    }
    for each in made:
        assert each.inputs["imageTagMutability"] == "IMMUTABLE"
        assert each.inputs["imageScanningConfiguration"] == {"scanOnPush": True}
        assert each.inputs["encryptionConfigurations"] == [{"encryptionType": "KMS", "kmsKey": KEY}]
        assert each.inputs["forceDelete"] is False


def test_the_newest_images_are_kept():
    first, second = json.loads(
        program(lambda: _registry(kept_images=40))
        .of("aws:ecr/lifecyclePolicy:LifecyclePolicy")[0]
        .inputs["policy"]
    )["rules"]
    assert first["selection"]["tagStatus"] == "untagged"
    assert second["selection"] == {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 40}


def test_images_may_come_from_elsewhere():
    assert not program(lambda: _registry(create=False)).of("aws:ecr/repository:Repository")


def _logs(**values):
    return Logs(CONTEXT, LogsArgs(settings=settings("logs", **values), key_arn=KEY))


def test_groups_forget_and_are_encrypted():
    groups = {
        each.inputs["name"]: each.inputs for each in program(_logs).of("aws:cloudwatch/logGroup:LogGroup")
    }
    assert {name: each["retentionInDays"] for name, each in groups.items()} == {
        "/imports-test/application": 30,
        "/imports-test/errors": 90,
        "/imports-test/platform": 30,
    }
    assert all(each["kmsKeyId"] == KEY for each in groups.values())


def test_the_questions_are_saved_and_ask_for_events_that_are_logged():
    saved = program(_logs).of("aws:cloudwatch/queryDefinition:QueryDefinition")
    assert {each.inputs["queryString"] for each in saved} == set(SAVED_QUERIES.values())
    sources = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("core", "operator", "worker", "gateway")
        for path in (ROOT / folder).rglob("*.py")
    )
    for query in SAVED_QUERIES.values():
        for event in re.findall(r'"([a-z_]+\.[a-z_]+)"', query):
            # Ends of jobs are logged by one line of code, for each outcome.
            if not event.startswith("job."):
                assert f'"{event}"' in sources, event
    for outcome in ("completed", "failed"):
        assert f'"{outcome}"' in sources
