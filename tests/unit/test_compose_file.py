"""The Compose file: every name in it is real, nothing in it is a secret, and no container may more than it must."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from compose_file import FOLDER, SECRETS, entrypoints, example_environment, resolve, variables
from pydantic_settings import BaseSettings

from import_core.adapters.folder.declarations import Declarations
from import_core.adapters.settings import DatabaseSettings
from import_core.domain.resources.import_schedule import parse_import_schedule
from import_core.domain.schedules import plan_of
from import_gateway.settings import GatewaySettings
from import_operator.command import app
from import_operator.settings import OperatorSettings
from import_worker.settings import WorkerSettings

OURS: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "operator": OperatorSettings,
    "worker": WorkerSettings,
    "migrate": DatabaseSettings,
}
COMPOSE = resolve(example_environment())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def names_of(settings: type[BaseSettings]) -> set[str]:
    return {str(field.validation_alias) for field in settings.model_fields.values()}


def test_it_has_the_processes_and_their_stores_and_three_workers() -> None:
    assert set(SERVICES) == {*OURS, "postgres", "redis"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 3


@pytest.mark.parametrize("service", OURS)
def test_every_variable_and_every_secret_file_is_a_setting_of_that_process(service: str) -> None:
    known = names_of(OURS[service])
    assert set(SERVICES[service]["environment"]) <= known
    files = {name for name in SERVICES[service]["secrets"] if name != "callers.yaml"}
    assert files <= known
    assert SERVICES[service]["environment"]["SECRETS_PATH"] == SECRETS


@pytest.mark.parametrize("service", OURS)
def test_the_settings_are_complete_and_allowed(
    service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in names_of(OURS[service]):
        monkeypatch.delenv(name, raising=False)
    for name, value in SERVICES[service]["environment"].items():
        is_folder = value.startswith((SECRETS, "/etc/imports"))
        monkeypatch.setenv(name, str(tmp_path) if is_folder else value)
    for name in SERVICES[service]["secrets"]:
        (tmp_path / name).write_text(f"value-of-{name}\n")
    settings = OURS[service]()
    assert settings.model_dump()["database_url"].get_secret_value() == "value-of-DATABASE_URL"
    if isinstance(settings, WorkerSettings):
        assert settings.store_keys == ("value-of-AWS_ACCESS_KEY_ID", "value-of-AWS_SECRET_ACCESS_KEY")
        assert settings.redis_url.get_secret_value() == "redis://:value-of-REDIS_PASSWORD@redis:6379/0"
        assert (settings.s3_endpoint_url, settings.job_timeout, settings.concurrency) == (None, None, 5)
        assert settings.pod_uid == settings.pod_name != "local"
    if isinstance(settings, GatewaySettings):
        assert settings.is_standalone
        # Sellers' links and answers of searches are kept there.
        assert settings.redis_url.get_secret_value() == "redis://:value-of-REDIS_PASSWORD@redis:6379/0"


@pytest.mark.parametrize("service", OURS)
def test_the_command_is_one_that_the_image_knows(service: str) -> None:
    image = "operator" if service == "migrate" else service
    assert entrypoints()[image] == ["python", "-m", f"import_{image}"]
    commands = {str(info.name or info.callback.__name__) for info in app.registered_commands if info.callback}
    assert set(SERVICES[service].get("command", [])) <= commands


def test_images_have_digests_and_no_defaults() -> None:
    required = {variable.name for variable in variables() if variable.kind == "?"}
    images = {f"{name}_IMAGE" for name in ("OPERATOR", "WORKER", "GATEWAY", "POSTGRES", "REDIS")}
    assert required == images | {"S3_BUCKET"}
    for service in SERVICES.values():
        assert re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", service["image"])
    with pytest.raises(KeyError, match="POSTGRES_IMAGE"):
        resolve({**example_environment(), "POSTGRES_IMAGE": ""})


def test_the_example_knows_no_variable_that_the_file_has_not() -> None:
    assert set(example_environment()) <= {variable.name for variable in variables()}


def test_secrets_are_files_and_each_is_declared_and_used() -> None:
    used = {name for service in SERVICES.values() for name in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    assert {"/secrets/", "/credentials/", ".env"} <= set((FOLDER / ".gitignore").read_text().split())
    for service in SERVICES.values():
        for name, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY|DATABASE_URL", name):
                assert value == SECRETS or value.removeprefix(f"{SECRETS}/") in service["secrets"], name


def test_no_container_may_more_than_it_must() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service["user"].startswith(("0", "root")), name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        assert service["pids_limit"] > 0, name
        assert "healthcheck" in service or name == "migrate", name
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & set(service), name
        for volume in service.get("volumes", ()):
            assert volume.endswith(":ro") or volume == "postgres:/var/lib/postgresql", name


def test_nothing_is_published_beyond_this_machine_and_stores_reach_nobody() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:8000:8000"]
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name in ("postgres", "redis", "operator", "migrate"):
        assert SERVICES[name]["networks"] == ["inside"]


def test_redis_keeps_everything_and_shows_its_password_nowhere() -> None:
    script = SERVICES["redis"]["command"][-1]
    assert "--maxmemory-policy noeviction" in script
    assert "requirepass %s" in script
    assert "--requirepass" not in script


def test_the_worker_is_given_the_time_that_it_needs_to_stop() -> None:
    seconds = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert seconds >= WorkerSettings.model_fields["stop_seconds"].default + 30


def test_the_example_connections_are_valid() -> None:
    declared = Declarations(str(FOLDER / "connections"), namespace="imports").load()
    assert set(declared.providers) == {"acme-shopify"}
    assert plan_of(parse_import_schedule(declared.schedules["acme-nightly"])).deadline is not None
    assert "Secret" not in {
        document["kind"]
        for path in (FOLDER / "connections").iterdir()
        for document in yaml.safe_load_all(path.read_text())
    }
