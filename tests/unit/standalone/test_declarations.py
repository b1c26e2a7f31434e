"""A folder of connections and schedules: what is valid, what is said of what is not, and what happens on a change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from import_core.adapters.folder import declarations as folder_module
from import_core.adapters.folder.declarations import Declarations
from import_core.domain.declarations import DeclarationsError, Document, declare
from import_core.domain.resources.import_provider import parse_import_provider
from import_operator.command import app

PROVIDER: dict[str, Any] = {
    "apiVersion": "imports.avnz.io/v1alpha1",
    "kind": "ImportProvider",
    "metadata": {"name": "acme-shop"},
    "spec": {
        "companyId": "acme",
        "type": "shopify",
        "baseUrl": "https://acme.myshopify.com",
        "credentialsSecretRef": {"name": "acme-shop"},
    },
}
SCHEDULE: dict[str, Any] = {
    "apiVersion": "imports.avnz.io/v1alpha1",
    "kind": "ImportSchedule",
    "metadata": {"name": "acme-nightly"},
    "spec": {
        "schedule": "0 2 * * *",
        "jobTemplate": {"spec": {"companyId": "acme", "providerRef": {"name": "acme-shop"}}},
    },
}


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    name, _, rest = path.partition(".")
    inner = changed(body.get(name, {}), rest, value) if rest else value
    return {**body, name: inner}


def problems_of(*documents: Any) -> tuple[str, ...]:
    with pytest.raises(DeclarationsError) as caught:
        declare([Document("shops.yaml", body) for body in documents], namespace="imports")
    return caught.value.problems


def test_objects_are_given_as_the_api_server_would() -> None:
    declared = declare([Document("a.yaml", PROVIDER), Document("b.yaml", SCHEDULE)], namespace="imports")
    found = parse_import_provider(declared.providers["acme-shop"])
    assert (found.metadata.namespace, found.metadata.uid) == ("imports", "importprovider-acme-shop")
    assert found.spec.effective_rate_limit.requests == 120
    assert set(declared.schedules) == {"acme-nightly"}
    other = declare([Document("a.yaml", changed(PROVIDER, "spec.timeoutSeconds", 31))], namespace="imports")
    assert other.providers["acme-shop"]["metadata"]["generation"] != found.metadata.generation


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "shops.yaml: object: is not a mapping of fields"),
        (
            changed(PROVIDER, "kind", "Secret"),
            "shops.yaml: kind: must be ImportProvider or ImportSchedule: cred",
        ),
        (
            changed(PROVIDER, "kind", "WorkerPool"),
            "shops.yaml: kind: must be ImportProvider or ImportSchedule: the",
        ),
        (changed(PROVIDER, "kind", 7), "shops.yaml: kind: must be"),
        (changed(PROVIDER, "apiVersion", "v1"), "shops.yaml: apiVersion: must be"),
        (changed(PROVIDER, "metadata", None), "shops.yaml: metadata.name: must be a name"),
        (changed(PROVIDER, "metadata.name", "Not A Name"), "shops.yaml: metadata.name: "),
        (changed(PROVIDER, "metadata.namespace", "other"), "shops.yaml: metadata.namespace: must be imports"),
        (changed(PROVIDER, "spec", None), "shops.yaml: spec: must be"),
        (changed(PROVIDER, "spec.rateLimits", {}), "shops.yaml: spec.rateLimits: there is no such field"),
        (
            changed(PROVIDER, "spec.accessToken", "shpat_x"),
            "shops.yaml: spec.accessToken: there is no such field",
        ),
        (
            changed(PROVIDER, "spec.credentialsSecretRef.key", "x"),
            "shops.yaml: spec.credentialsSecretRef.key: there is no such field",
        ),
        (changed(PROVIDER, "spec.type", "bandcamp"), "shops.yaml: spec.type: "),
        (changed(PROVIDER, "spec.timeoutSeconds", "30"), "shops.yaml: spec.timeoutSeconds: "),
        (changed(PROVIDER, "spec.baseUrl", "https://me:hush@shop"), "shops.yaml: spec.baseUrl: "),
    ],
)
def test_a_problem_names_file_and_field_and_never_repeats_a_value(body: Any, problem: str) -> None:
    (found,) = problems_of(body)
    assert found.startswith(problem)
    assert "hush" not in found
    assert "shpat_x" not in found


def test_all_problems_are_told_at_once() -> None:
    found = problems_of(changed(PROVIDER, "spec.type", "x"), [], changed(PROVIDER, "kind", "Pod"))
    assert len(found) == 3


def test_a_name_is_there_once() -> None:
    (found,) = problems_of(PROVIDER, changed(PROVIDER, "spec.companyId", "bolt"))
    assert found == "shops.yaml: metadata.name: shops.yaml has the ImportProvider acme-shop already"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ({"companyId": "acme", "providerRef": {"name": "gone"}}, "spec.jobTemplate.spec.providerRef.name: "),
        ({"companyId": "bolt", "providerRef": {"name": "acme-shop"}}, "spec.jobTemplate.spec.companyId: "),
    ],
)
def test_a_schedules_job_must_be_one_that_can_run(template: dict[str, Any], problem: str) -> None:
    (found,) = problems_of(PROVIDER, changed(SCHEDULE, "spec.jobTemplate.spec", template))
    assert found.startswith(f"shops.yaml: {problem}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(body=JSON, spec=JSON, kind=st.sampled_from(["ImportProvider", "ImportSchedule"]))
def test_whatever_is_in_a_file_is_valid_or_a_problem(body: Any, spec: Any, kind: str) -> None:
    documents = [Document("a.yaml", body), Document("b.yaml", {**PROVIDER, "kind": kind, "spec": spec})]
    with pytest.raises(DeclarationsError) as caught:
        declare(documents, namespace="imports")
    assert all(problem.startswith(("a.yaml: ", "b.yaml: ")) for problem in caught.value.problems)


def write(folder: Path, name: str, *bodies: Any) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump_all(bodies))
    return path


async def test_a_changed_folder_is_read_again_and_a_wrong_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "LOOK_SECONDS", 0.0)
    declarations = Declarations(str(tmp_path), namespace="imports")
    assert declarations.load().providers == {}
    path = write(tmp_path, "acme.yaml", PROVIDER)
    (tmp_path / "notes.txt").write_text("not: [read")
    (tmp_path / ".hidden.yaml").write_text("not: [read")
    assert set((await declarations.refresh()).providers) == {"acme-shop"}
    assert await declarations.get_provider("imports", "acme-shop") is not None
    assert await declarations.get_provider("other", "acme-shop") is None
    assert await declarations.get_secret("imports", "acme-shop") is None
    path.write_text("kind: [")
    os.utime(path, ns=(1, 1))
    assert set((await declarations.refresh()).providers) == {"acme-shop"}
    path.unlink()
    assert (await declarations.refresh()).providers == {}


def test_what_is_no_yaml_is_told_by_its_line_alone(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text("kind: ImportProvider\nspec: {token: hush, [\n")
    with pytest.raises(DeclarationsError, match=r"^acme.yaml: line \d: is not YAML$"):
        Declarations(str(tmp_path), namespace="imports").load()


async def test_credentials_must_be_there_at_the_start_and_are_read_when_asked_for(tmp_path: Path) -> None:
    connections, secrets = tmp_path / "connections", tmp_path / "secrets"
    connections.mkdir()
    secrets.mkdir()
    write(connections, "acme.yaml", PROVIDER)
    declarations = Declarations(str(connections), str(secrets), namespace="imports")
    with pytest.raises(
        DeclarationsError, match=r"acme.yaml: spec.credentialsSecretRef.name: there is no file"
    ):
        declarations.load()
    (secrets / "acme-shop.accessToken").write_text("one\n")
    declarations.load()
    assert await declarations.get_secret("imports", "acme-shop") == {"accessToken": "one"}
    (secrets / "acme-shop.accessToken").write_text("two")
    assert await declarations.get_secret("imports", "acme-shop") == {"accessToken": "two"}


def test_a_time_in_a_file_stays_text(tmp_path: Path) -> None:
    template = {**SCHEDULE["spec"]["jobTemplate"]["spec"], "filter": {"updatedAfter": "AT"}}
    body = changed(SCHEDULE, "spec.jobTemplate.spec", template)
    text = yaml.safe_dump_all([PROVIDER, body]).replace("AT", "2026-01-01T00:00:00Z")
    (tmp_path / "acme.yaml").write_text(text)
    declared = Declarations(str(tmp_path), namespace="imports").load()
    found = declared.schedules["acme-nightly"]["spec"]["jobTemplate"]["spec"]["filter"]["updatedAfter"]
    assert found == "2026-01-01T00:00:00Z"


def test_the_check_counts_what_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDERS_PATH", str(tmp_path))
    write(tmp_path, "acme.yaml", PROVIDER, SCHEDULE)
    answer = CliRunner().invoke(app, ["standalone", "--check"])
    assert (answer.exit_code, answer.output) == (0, "1 connections and 1 schedules are valid\n")
    write(tmp_path, "bolt.yaml", PROVIDER)
    answer = CliRunner().invoke(app, ["standalone", "--check"])
    assert isinstance(answer.exception, DeclarationsError)
