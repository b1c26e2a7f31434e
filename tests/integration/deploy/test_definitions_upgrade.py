"""Objects of every earlier release stay valid and as they are under today's definitions."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from eventually import eventually
from narrowing import narrowings
from rendering import PROJECT, Json

from import_core.adapters.kube.resources import GROUP
from import_local.installation import Installation
from import_local.kubectl import KubectlError, apply_definitions, run_kubectl

RELEASES = sorted(path for path in Path(__file__).with_name("releases").iterdir() if path.is_dir())
CURRENT = PROJECT / "crds"
NAMESPACE = "upgrade"
SCOPED = ("--namespace", NAMESPACE)


def definitions(folder: Path) -> dict[str, Json]:
    found = (yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml")))
    return {body["metadata"]["name"]: body for body in found}


def objects_of(release: Path) -> list[Json]:
    return list(yaml.safe_load_all((release / "objects.yaml").read_text()))


@pytest.fixture(scope="module", params=RELEASES, ids=lambda path: path.name)
def release(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(installation: Installation, release: Path) -> AsyncIterator[Path]:
    """The cluster as that release left it: its definitions, and objects with their status."""
    kubeconfig = installation.kubeconfig
    await apply_definitions(kubeconfig, release / "crds")
    await run_kubectl(kubeconfig, "create", "namespace", NAMESPACE)
    try:
        objects = objects_of(release)
        await create(kubeconfig, objects)
        for body in (one for one in objects if "status" in one):
            patch = (
                "--subresource=status",
                "--type=merge",
                "--patch",
                json.dumps({"status": body["status"]}),
            )
            await run_kubectl(kubeconfig, *SCOPED, "patch", resource(body), *patch)
        yield kubeconfig
    finally:
        await run_kubectl(kubeconfig, "delete", "namespace", NAMESPACE, "--wait=false")
        await apply_definitions(kubeconfig, CURRENT)


def resource(body: Json) -> str:
    return f"{body['kind'].lower()}s.{GROUP}/{body['metadata']['name']}"


def renamed(body: Json) -> Json:
    again = copy.deepcopy(body)
    again["metadata"]["name"] += "-again"
    return again


async def create(kubeconfig: Path, objects: list[Json], *options: str) -> None:
    bare = [{key: value for key, value in body.items() if key != "status"} for body in objects]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": bare}).encode()
    await run_kubectl(kubeconfig, *SCOPED, "create", "--validate=strict", *options, "-f", "-", stdin=document)


async def read(kubeconfig: Path, objects: list[Json]) -> list[Json]:
    answer = json.loads(await run_kubectl(kubeconfig, *SCOPED, "get", *map(resource, objects), "-o", "json"))
    found = {resource(body): body for body in answer.get("items", [answer])}
    return [found[resource(body)] for body in objects]


async def touch(kubeconfig: Path, objects: list[Json], value: str) -> None:
    """Another write of the same objects, as anybody's annotation is."""
    names = map(resource, objects)
    await run_kubectl(kubeconfig, *SCOPED, "annotate", *names, f"example.com/touched={value}", "--overwrite")


def lost(before: Any, after: Any, path: str = "") -> list[str]:
    """What `before` has and `after` has not, or has otherwise; new fields are no loss."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            problem
            for key, value in before.items()
            for problem in (lost(value, after[key], f"{path}.{key}") if key in after else [f"{path}.{key}"])
        ]
    return [] if before == after else [path]


def assert_kept(before: list[Json], after: list[Json], keys: tuple[str, ...] = ("spec", "status")) -> None:
    for old, new in zip(before, after, strict=True):
        assert lost({key: old[key] for key in keys if key in old}, new) == [], resource(old)


async def test_objects_outlive_the_upgrade_unchanged(cluster: Path, release: Path) -> None:
    objects = objects_of(release)
    before = await read(cluster, objects)
    assert_kept(objects, before)
    await apply_definitions(cluster, CURRENT)
    after = await read(cluster, objects)
    assert_kept(before, after, ("spec", "status", "apiVersion", "kind"))
    for old, new in zip(before, after, strict=True):
        for key in ("uid", "generation", "resourceVersion"):
            assert new["metadata"][key] == old["metadata"][key]
    await touch(cluster, objects, "after the upgrade")
    assert_kept(before, await read(cluster, objects))
    # Anew, too: the API server lets unchanged fields of an old object pass that it would refuse in a new one.
    await create(cluster, [renamed(body) for body in objects], "--dry-run=server")


async def test_narrower_definition_is_noticed(cluster: Path, release: Path, tmp_path: Path) -> None:
    """The same steps with definitions that refuse an old value, and drop an old field."""
    planted = definitions(release / "crds")
    known = set(_schema(planted, "importjobs")["properties"]["spec"]["properties"])
    _schema(planted, "workerpools")["properties"]["spec"]["properties"]["concurrency"]["maximum"] = 50
    del _schema(planted, "importjobs")["properties"]["spec"]["properties"]["activeDeadlineSeconds"]
    for name, body in planted.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(body))
    full = [body for body in objects_of(release) if body["metadata"]["name"] == "full"]
    jobs = [body for body in full if body["kind"] == "ImportJob"]
    pools = [body for body in full if body["kind"] == "WorkerPool"]
    before = await read(cluster, jobs)
    await apply_definitions(cluster, tmp_path)

    async def refused() -> bool:
        try:
            await create(cluster, [renamed(body) for body in pools], "--dry-run=server")
        except KubectlError as error:
            return "concurrency" in str(error)
        return False

    # The API server goes by a changed definition a moment after it was written; pools' are written last.
    await eventually(refused, what="the narrower definition in force")
    await touch(cluster, pools, "with a narrower definition")
    after = await read(cluster, jobs)
    # The release itself drops what today's definitions have added by their defaults.
    gone = [path for path in lost(before[0]["spec"], after[0]["spec"]) if path.split(".")[1] in known]
    assert gone == [".activeDeadlineSeconds"]


def test_definitions_narrow_nothing(release: Path) -> None:
    current = definitions(CURRENT)
    found = {
        name: told
        for name, old in definitions(release / "crds").items()
        if (told := list(narrowings(old, current[name])) if name in current else ["is gone"])
    }
    assert found == {}


def test_objects_use_every_field(release: Path) -> None:
    """A field that no object has could be lost unseen. Those that only defaults are allowed for are left out."""
    used: dict[str, set[str]] = {}
    for body in objects_of(release):
        used.setdefault(body["kind"], set()).update(_paths({k: body.get(k, {}) for k in ("spec", "status")}))
    unused = {
        f"{body['spec']['names']['kind']}{path}"
        for body in definitions(release / "crds").values()
        for part in ("spec", "status")
        for path in _schema_paths(_first_schema(body)["properties"][part], f".{part}")
        if path not in used[body["spec"]["names"]["kind"]]
    }
    not_implemented = (".spec.enrich", ".spec.rollout")
    assert {path for path in unused if not any(words in path for words in not_implemented)} == set()


def _first_schema(body: Json) -> Json:
    schema: Json = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _schema(found: dict[str, Json], plural: str) -> Json:
    return _first_schema(found[f"{plural}.{GROUP}"])


def _paths(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {path} | {one for key, part in value.items() for one in _paths(part, f"{path}.{key}")}
    if isinstance(value, list):
        return {path} | {one for part in value for one in _paths(part, f"{path}[]")}
    return {path}


def _schema_paths(schema: Json, path: str) -> set[str]:
    found = {path}
    for name, field in (schema.get("properties") or {}).items():
        found |= _schema_paths(field, f"{path}.{name}")
    if (schema.get("items") or {}).get("properties"):
        for name, field in schema["items"]["properties"].items():
            found |= _schema_paths(field, f"{path}[].{name}")
    return found


Narrower = Callable[[Json], Any]
NARROWER: list[tuple[str, Narrower]] = [
    ("no longer served", lambda crd: crd["spec"]["versions"][0].update(served=False)),
    ("maximum is lower", lambda crd: _pool(crd)["concurrency"].update(maximum=50)),
    ("minimum is higher", lambda crd: _pool(crd)["concurrency"].update(minimum=2)),
    ("maxLength is lower", lambda crd: _pool(crd)["queue"].update(maxLength=10)),
    ("has another pattern", lambda crd: _pool(crd)["queue"].update(pattern="^a$")),
    ("has another default", lambda crd: _pool(crd)["concurrency"].update(default=6)),
    ("has another default", lambda crd: _pool(crd)["concurrency"].pop("default")),
    (
        "no longer allowed",
        lambda crd: _pool(crd)["scaling"]["properties"]["policy"].update(enum=["DrainTime"]),
    ),
    ("has an enum now", lambda crd: _pool(crd)["queue"].update(enum=["product-imports"])),
    ("type has changed", lambda crd: _pool(crd)["concurrency"].update(type="string")),
    ("is required now", lambda crd: _spec(crd)["required"].append("queue")),
    (".paused: is gone", lambda crd: _pool(crd).pop("paused")),
    (
        "has the new rule",
        lambda crd: _spec(crd).update({"x-kubernetes-validations": [{"rule": "self.paused"}]}),
    ),
    ("maxItems is lower", lambda crd: _pool(crd)["rollout"]["properties"]["steps"].update(maxItems=1)),
    ("scope has changed", lambda crd: crd["spec"].update(scope="Cluster")),
]


def _spec(crd: Json) -> Json:
    spec: Json = _first_schema(crd)["properties"]["spec"]
    return spec


def _pool(crd: Json) -> Json:
    fields: Json = _spec(crd)["properties"]
    return fields


@pytest.mark.parametrize(("found", "narrow"), NARROWER, ids=[f"{i}-{w}" for i, (w, _) in enumerate(NARROWER)])
def test_each_way_to_narrow_is_found(found: str, narrow: Narrower) -> None:
    old = definitions(CURRENT)[f"workerpools.{GROUP}"]
    new = copy.deepcopy(old)
    assert list(narrowings(old, new)) == []
    narrow(new)
    assert any(found in told for told in narrowings(old, new)), list(narrowings(old, new))


def test_what_only_adds_is_no_narrowing() -> None:
    old = definitions(CURRENT)[f"workerpools.{GROUP}"]
    new = copy.deepcopy(old)
    _pool(new)["added"] = {"type": "string", "enum": ["a"]}
    _pool(new)["concurrency"]["maximum"] = 1000
    _pool(new)["health"]["default"]["added"] = 1
    _pool(new)["scaling"]["properties"]["policy"]["enum"].append("More")
    new["spec"]["versions"].append({**copy.deepcopy(new["spec"]["versions"][0]), "name": "v1beta1"})
    assert list(narrowings(old, new)) == []
