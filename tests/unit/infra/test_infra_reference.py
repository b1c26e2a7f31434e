"""The reference page says of each component what the program really makes."""

import pytest
from infra.reference import components, configuration_tables, export_list
from mocks import run_program

DESCRIBED = {each.name: each for each in components()}


def _python_name(type_token):
    """`aws:ec2/vpc:Vpc` → `aws.ec2.Vpc`, `kubernetes:core/v1:Secret` → `kubernetes.core.v1.Secret`."""
    package, module, name = type_token.split(":")
    return package, module.split("/")[0].removesuffix(".k8s.io"), name


@pytest.mark.parametrize("stack", ["dev", "production"])
@pytest.mark.parametrize("nodes", ["automatic", "groups"])
def test_every_resource_of_aws_is_named_at_its_component(stack, nodes):
    program = run_program(stack, changes={"cluster": {"nodes": nodes}})
    components_by_urn = {
        each.urn: each.type.rsplit(":", 1)[-1] for each in program.resources if not each.custom
    }
    missing = set()
    for each in program.resources:
        package, service, name = _python_name(each.type)
        if package not in {"aws", "random"} or each.parent not in components_by_urn:
            continue
        described = DESCRIBED[components_by_urn[each.parent]].resources
        expected = f"random.{name}" if package == "random" else f"aws.{service}.{name}"
        if expected not in described:
            missing.add((components_by_urn[each.parent], expected))
    assert not missing


def test_every_component_says_what_it_is_and_takes():
    assert {"Network", "Redis", "Postgres", "Storage", "Cluster", "Alarms", "Application"} <= set(DESCRIBED)
    assert not [name for name, each in DESCRIBED.items() if not (each.summary and each.inputs)]


def test_every_export_is_named():
    named = export_list()
    assert not [name for name in run_program("production").exports if f"`{name}`" not in named]


def test_every_section_has_its_table():
    tables = configuration_tables()
    assert "| `import-operator:environment` | required, one of `dev`, `staging`, `production` |" in tables
    assert "| `node_type` | `cache.r7g.large`" in tables
    assert "| `images.worker` |" in tables
