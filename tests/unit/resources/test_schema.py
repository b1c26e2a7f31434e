"""The generated definitions are bounded, documented and not out of date."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from import_core import generate
from import_core.domain.mapping import TARGET_FIELDS
from import_core.domain.resources.common import ResourceDefinition
from import_core.domain.resources.crd import DEFINITIONS, custom_resource_definition, open_api_schema


def by_kind(kind: str) -> ResourceDefinition:
    return next(definition for definition in DEFINITIONS if definition.kind == kind)


def nodes(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


OWN = [
    pytest.param(path, node, id=f"{definition.kind}{path}")
    for definition in DEFINITIONS
    for part in ("spec", "status")
    for path, node in nodes(open_api_schema(definition)["properties"][part], f".{part}")
]


@pytest.mark.parametrize(("path", "node"), OWN)
def test_everything_is_typed_and_bounded(path: str, node: Mapping[str, Any]) -> None:
    if node.get("x-kubernetes-int-or-string"):
        assert {"maxLength", "minimum", "maximum", "pattern"} <= set(node)
        return
    required_bounds = {
        "string": {"enum"} if "enum" in node else {"maxLength"},
        "integer": {"minimum", "maximum", "format"},
        "array": {"maxItems", "x-kubernetes-list-type"},
        "object": {"maxProperties"} if "additionalProperties" in node else {"properties"},
        "boolean": set[str](),
    }
    assert required_bounds[node["type"]] <= set(node), path
    assert not {"$ref", "anyOf", "allOf", "title", "const"} & set(node)


@pytest.mark.parametrize(("path", "node"), [p for p in OWN if not str(p.values[0]).endswith("[]")])
def test_every_field_says_what_it_means(path: str, node: Mapping[str, Any]) -> None:
    assert node.get("description", "").endswith((".", "}"))


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.kind)
def test_the_status_gets_no_defaults(definition: ResourceDefinition) -> None:
    schema = open_api_schema(definition)["properties"]["status"]
    assert not [path for path, node in nodes(schema) if "default" in node]


@pytest.mark.parametrize(
    ("kind", "short_name", "columns"),
    [
        ("ImportJob", "ij", ["Phase", "Percent", "Provider", "Company", "Attempts", "Waiting", "Age"]),
        ("ImportProvider", "ipr", ["Type", "Company", "Reachable", "Credentials", "Breaker", "Age"]),
        (
            "ImportSchedule",
            "isc",
            ["Schedule", "TimeZone", "Suspend", "Active", "Last", "Next", "Held", "Age"],
        ),
        ("WorkerPool", "wp", ["Depth", "Health", "Desired", "Ready", "Busy", "Min", "Max", "Reason", "Age"]),
    ],
)
def test_face_of_each_kind(kind: str, short_name: str, columns: list[str]) -> None:
    spec = custom_resource_definition(by_kind(kind))["spec"]
    assert spec["group"] == "imports.avnz.io"
    assert spec["names"]["categories"] == ["imports"]
    assert spec["names"]["shortNames"] == [short_name]
    (version,) = spec["versions"]
    assert version["name"] == "v1alpha1"
    assert [c["name"] for c in version["additionalPrinterColumns"] if not c.get("priority")] == columns
    assert ("scale" in version["subresources"]) == (kind == "WorkerPool")


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.kind)
def test_columns_and_selectable_fields_lead_into_the_schema(definition: ResourceDefinition) -> None:
    known = {path for path, _ in nodes(open_api_schema(definition))}
    paths = [*(column.path for column in definition.columns), *definition.selectable_fields]
    unknown = [path for path in paths if path.split("[?")[0] not in known]
    assert set(unknown) <= {".metadata.creationTimestamp"}


def test_the_kinds_of_this_version() -> None:
    kinds = [definition.kind for definition in DEFINITIONS]
    assert kinds == ["ImportJob", "ImportProvider", "WorkerPool", "ImportSchedule"]


def test_committed_files_are_up_to_date() -> None:
    assert generate.main(["--check"]) == 0


def test_generating_twice_changes_nothing(tmp_path: Path) -> None:
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert generate.main(["--root", str(tmp_path), "--check"]) == 0
    assert sorted(path.name for path in (tmp_path / "crds").iterdir()) == [
        "importjobs.yaml",
        "importproviders.yaml",
        "importschedules.yaml",
        "workerpools.yaml",
    ]


def test_check_shows_drift_and_leaves_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate.main(["--root", str(tmp_path)])
    drifted = tmp_path / "crds" / "importjobs.yaml"
    drifted.write_text(drifted.read_text().replace("maximum: 20\n", "maximum: 99\n"))
    assert generate.main(["--root", str(tmp_path), "--check"]) == 1
    output = capsys.readouterr()
    assert "-                    maximum: 99" in output.out
    assert "make generate" in output.err
    assert "maximum: 99" in drifted.read_text()
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert "maximum: 99" not in drifted.read_text()


def test_check_fails_where_a_file_is_missing(tmp_path: Path) -> None:
    assert generate.main(["--root", str(tmp_path), "--check"]) == 1
    assert list(tmp_path.iterdir()) == []


def test_reference_names_every_field_and_rule() -> None:
    page = generate.reference_page()
    for definition in DEFINITIONS:
        for part in ("spec", "status"):
            for path, _ in nodes(open_api_schema(definition)["properties"][part]):
                if path and not path.endswith("[]"):
                    assert f"`{path.removeprefix('.')}`" in page
    for field in TARGET_FIELDS:
        assert f"| `{field}` |" in page
    assert "- companyId is immutable" in page


def test_definitions_survive_yaml() -> None:
    for path, text in generate.generated_files().items():
        if path.suffix == ".yaml":
            body = yaml.safe_load(text)
            assert body in [custom_resource_definition(definition) for definition in DEFINITIONS]
