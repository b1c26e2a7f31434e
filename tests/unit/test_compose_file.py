"""The Compose files: every name in them is real, no secret is in them, and no container may more than it must."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_file import (
    EVERYTHING,
    FOLDER,
    IMPORTS,
    PROJECT,
    SEARCH,
    SECRETS,
    entrypoints,
    example_environment,
    image_target,
    resolve,
    variables,
)
from pydantic_settings import BaseSettings

from import_core.adapters.folder.declarations import Declarations
from import_core.adapters.settings import DatabaseSettings
from import_core.domain.resources.import_schedule import parse_import_schedule
from import_core.domain.resources.worker_pool import parse_worker_pool
from import_core.domain.schedules import plan_of
from import_core.domain.steps import StepKind
from import_gateway.settings import GatewaySettings
from import_operator.command import app
from import_operator.settings import OperatorSettings
from import_worker.settings import WorkerSettings

Service = dict[str, Any]

STEPS = [kind.value for kind in StepKind]
OURS: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "operator": OperatorSettings,
    "worker": WorkerSettings,
    "migrate": DatabaseSettings,
    **dict.fromkeys(STEPS, WorkerSettings),
}
EXAMPLE = example_environment(everything=True)
# Each way to start it, by the files that are named.
COMPOSED = {files: resolve(EXAMPLE, files) for files in (IMPORTS, SEARCH, EVERYTHING)}
SERVICES: dict[str, Service] = COMPOSED[EVERYTHING]["services"]
ALL = [
    pytest.param(name, service, id=f"{files[-1].removesuffix('.yaml')}-{name}")
    for files, composed in COMPOSED.items()
    for name, service in composed["services"].items()
]
ALL_OURS = [each for each in ALL if each.values[0] in OURS]
COMPONENT = PROJECT / "deploy/components/catalogue-sync"
MODEL = "/etc/imports/model"


def names_of(settings: type[BaseSettings]) -> set[str]:
    return {str(field.validation_alias) for field in settings.model_fields.values()}


def settings_of(
    name: str, service: Service, monkeypatch: pytest.MonkeyPatch, folder: Path, **secrets: str
) -> BaseSettings:
    """The settings that the process makes of its container's environment and secrets."""
    for variable in names_of(OURS[name]):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in service["environment"].items():
        is_folder = value.startswith((SECRETS, "/etc/imports"))
        monkeypatch.setenv(variable, str(folder) if is_folder else value)
    for secret in service["secrets"]:
        (folder / secret).write_text(f"{secrets.get(secret, f'value-of-{secret}')}\n")
    return OURS[name]()


def test_it_has_the_processes_and_their_stores_and_three_workers() -> None:
    imports = {*OURS, "postgres", "redis"} - set(STEPS)
    assert set(COMPOSED[IMPORTS]["services"]) == imports
    assert set(COMPOSED[SEARCH]["services"]) == {*imports, "quality-control", "index-product"}
    assert set(SERVICES) == {*imports, *STEPS}
    assert SERVICES["worker"]["deploy"]["replicas"] == 3


@pytest.mark.parametrize(("name", "service"), ALL_OURS)
def test_every_variable_and_every_secret_file_is_a_setting_of_that_process(
    name: str, service: Service
) -> None:
    known = names_of(OURS[name])
    assert set(service["environment"]) <= known
    files = {secret for secret in service["secrets"] if secret != "callers.yaml"}
    assert files <= known
    assert service["environment"]["SECRETS_PATH"] == SECRETS


@pytest.mark.parametrize(("name", "service"), ALL_OURS)
def test_the_settings_are_complete_and_allowed(
    name: str, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(name, service, monkeypatch, tmp_path)
    assert settings.model_dump()["database_url"].get_secret_value() == "value-of-DATABASE_URL"
    if isinstance(settings, WorkerSettings):
        assert settings.store_keys == ("value-of-AWS_ACCESS_KEY_ID", "value-of-AWS_SECRET_ACCESS_KEY")
        assert settings.redis_url.get_secret_value() == "redis://:value-of-REDIS_PASSWORD@redis:6379/0"
        assert (settings.s3_endpoint_url, settings.job_timeout, settings.concurrency) == (None, None, 5)
        assert settings.pod_uid == settings.pod_name != "local"
        assert settings.queue == ("product-imports" if name == "worker" else name)
    if isinstance(settings, GatewaySettings):
        assert settings.is_standalone
        # Sellers' links and answers of searches are kept there.
        assert settings.redis_url.get_secret_value() == "redis://:value-of-REDIS_PASSWORD@redis:6379/0"


def test_quality_control_leaves_to_a_person_what_no_model_judges_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "quality-control"
    settings = settings_of(name, SERVICES[name], monkeypatch, tmp_path, GEMINI_API_KEY="")
    assert isinstance(settings, WorkerSettings)
    # Its file is there for who has no key, too.
    assert settings.gemini_api_key is not None
    assert settings.gemini_api_key.get_secret_value() == ""
    assert settings.quality_rules().approves_alone is False
    told = resolve({**EXAMPLE, "QUALITY_APPROVE_ALONE": "true"}, SEARCH)["services"][name]
    settings = settings_of(name, told, monkeypatch, tmp_path)
    assert isinstance(settings, WorkerSettings)
    assert settings.quality_rules().approves_alone is True
    assert settings.gemini_api_key is not None
    assert settings.gemini_api_key.get_secret_value() == "value-of-GEMINI_API_KEY"


@pytest.mark.parametrize(("name", "service"), ALL_OURS)
def test_the_command_is_one_that_the_image_knows(name: str, service: Service) -> None:
    target = image_target(service)
    assert target is not None
    process = "operator" if name == "migrate" else "worker" if name in STEPS else name
    assert target in {process, f"{process}-enrich"}
    assert entrypoints()[target] == ["python", "-m", f"import_{process}"]
    commands = {str(info.name or info.callback.__name__) for info in app.registered_commands if info.callback}
    assert set(service.get("command", [])) <= commands


def test_steps_and_searches_by_meaning_have_the_images_with_their_packages() -> None:
    assert {image_target(SERVICES[name]) for name in STEPS} == {"worker-enrich"}
    assert image_target(SERVICES["gateway"]) == "gateway-enrich"
    assert image_target(COMPOSED[SEARCH]["services"]["gateway"]) == "gateway"


@pytest.mark.parametrize("queue", STEPS)
def test_a_steps_worker_is_as_large_as_in_a_cluster(queue: str) -> None:
    pool = parse_worker_pool(yaml.safe_load((COMPONENT / f"{queue}.yaml").read_text())).spec
    asked = yaml.safe_load((COMPONENT / f"{queue}.yaml").read_text())["spec"]["template"]["spec"]
    resources = asked["containers"][0]["resources"]
    limits = SERVICES[queue]["deploy"]["resources"]["limits"]
    assert limits["cpus"] == resources["requests"]["cpu"]
    # Docker's K, M and G are powers of 1,024.
    assert limits["memory"] == resources["limits"]["memory"].removesuffix("i")
    assert SERVICES[queue]["environment"]["JOB_CONCURRENCY"] == str(pool.concurrency)
    grace = int(SERVICES[queue]["stop_grace_period"].removesuffix("s"))
    assert grace == asked["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("queue", STEPS)
def test_a_steps_worker_is_the_imports_worker_but_for_what_is_its_own(queue: str) -> None:
    """Three files can share no part, so this keeps the same parts the same."""
    own = {"image", "environment", "secrets", "volumes", "deploy", "healthcheck"}
    worker, step = SERVICES["worker"], SERVICES[queue]
    assert {key: step[key] for key in step.keys() - own} == {key: worker[key] for key in worker.keys() - own}
    settings = {"IMPORT_QUEUE", "QUALITY_APPROVE_ALONE"}
    given = worker["environment"]
    assert {key: value for key, value in step["environment"].items() if key not in settings} == {
        key: value for key, value in given.items() if key not in settings
    }
    assert set(step["secrets"]) - {"GEMINI_API_KEY"} == set(worker["secrets"])
    assert ("GEMINI_API_KEY" in step["secrets"]) == (queue == "quality-control")
    assert [volume for volume in step["volumes"] if isinstance(volume, str)] == worker["volumes"]
    start = {"start_period"}
    assert {key: value for key, value in step["healthcheck"].items() if key not in start} == {
        key: value for key, value in worker["healthcheck"].items() if key not in start
    }


def test_who_is_asked_for_embeddings_knows_of_a_model_and_who_uses_it_has_the_folder() -> None:
    knowing = {name for name in OURS if SERVICES[name]["environment"].get("EMBEDDING_MODEL_PATH") == MODEL}
    assert knowing == {*OURS} - {"migrate"}
    mounts = {
        name: [volume for volume in service.get("volumes", ()) if isinstance(volume, dict)]
        for name, service in SERVICES.items()
    }
    assert {name for name, found in mounts.items() if found} == {"gateway", "generate-embedding"}
    model = {
        "type": "bind",
        "source": EXAMPLE["EMBEDDING_MODEL"],
        "target": MODEL,
        "read_only": True,
        "bind": {"create_host_path": False},
    }
    assert mounts["gateway"] == mounts["generate-embedding"] == [model]
    limits = SERVICES["gateway"]["deploy"]["resources"]["limits"]
    assert limits == {"cpus": "2", "memory": "3G", "pids": 256}
    for files in (IMPORTS, SEARCH):
        assert "EMBEDDING" not in str(COMPOSED[files])


def test_images_have_digests_and_nobody_must_set_what_he_does_not_use() -> None:
    images = {f"{name}_IMAGE" for name in ("OPERATOR", "WORKER", "GATEWAY", "POSTGRES", "REDIS")}
    embedding = {"GATEWAY_ENRICH_IMAGE", "EMBEDDING_MODEL"}
    for files, more in (
        (IMPORTS, set[str]()),
        (SEARCH, {"WORKER_ENRICH_IMAGE"}),
        (EVERYTHING, {"WORKER_ENRICH_IMAGE", *embedding}),
    ):
        required = {variable.name for variable in variables(files) if variable.kind == "?"}
        assert required == images | {"S3_BUCKET"} | more
        for name in required:
            with pytest.raises(KeyError, match=name):
                resolve({**EXAMPLE, name: ""}, files)
    assert resolve(example_environment()) == COMPOSED[IMPORTS]
    for service in SERVICES.values():
        assert re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", service["image"])


def test_the_example_knows_no_variable_that_the_files_have_not_and_names_the_files() -> None:
    assert set(example_environment()) <= {variable.name for variable in variables(IMPORTS)}
    known = {variable.name for variable in variables(EVERYTHING)}
    assert set(EXAMPLE) - known == {"COMPOSE_FILE"}
    assert EXAMPLE["COMPOSE_FILE"] == ":".join(EVERYTHING)
    assert EXAMPLE["QUALITY_APPROVE_ALONE"] == "false"


def test_secrets_are_files_and_each_is_declared_and_used() -> None:
    for composed in COMPOSED.values():
        services = composed["services"].values()
        used = {name for service in services for name in service.get("secrets", ())}
        assert used == set(composed["secrets"])
        for name, secret in composed["secrets"].items():
            assert secret == {"file": f"./secrets/{name}"}
        for service in services:
            for name, value in service["environment"].items():
                if re.search("PASSWORD|SECRET|TOKEN|KEY|DATABASE_URL", name):
                    assert value == SECRETS or value.removeprefix(f"{SECRETS}/") in service["secrets"], name
    assert {"/secrets/", ".env"} <= set((FOLDER / ".gitignore").read_text().split())


@pytest.mark.parametrize(("name", "service"), ALL)
def test_no_container_may_more_than_it_must(name: str, service: Service) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith(("0", "root"))
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    # Compose takes it at one place only.
    assert "pids_limit" not in service
    assert "healthcheck" in service or name == "migrate"
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"} & set(service)
    for volume in service.get("volumes", ()):
        if isinstance(volume, dict):
            assert volume["read_only"] is True
        else:
            assert volume.endswith(":ro") or volume == "postgres:/var/lib/postgresql"


def test_nothing_is_published_beyond_this_machine_and_stores_reach_nobody() -> None:
    for composed in COMPOSED.values():
        services = composed["services"]
        ports = [port for service in services.values() for port in service.get("ports", ())]
        assert ports == ["127.0.0.1:8000:8000"]
        assert composed["networks"]["inside"]["internal"] is True
        for name in ("postgres", "redis", "operator", "migrate"):
            assert services[name]["networks"] == ["inside"]
        assert services["gateway"]["networks"] == ["inside", "front"]


def test_redis_keeps_everything_and_shows_its_password_nowhere() -> None:
    script = SERVICES["redis"]["command"][-1]
    assert "--maxmemory-policy noeviction" in script
    assert "requirepass %s" in script
    assert "--requirepass" not in script


def test_the_worker_is_given_the_time_that_it_needs_to_stop() -> None:
    for name in ("worker", *STEPS):
        seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert seconds >= WorkerSettings.model_fields["stop_seconds"].default + 30


def test_the_example_connection_is_valid(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "example-connection.yaml", tmp_path)
    declared = Declarations(str(tmp_path), namespace="imports").load()
    assert set(declared.providers) == {"acme-shopify"}
    assert plan_of(parse_import_schedule(declared.schedules["acme-nightly"])).deadline is not None
