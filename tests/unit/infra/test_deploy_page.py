"""docs/how-to/deploy-aws.md and move-from-ecs.md: what they name exists, what they ask for parses."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from infra.configuration import Configuration, parse_configuration
from infra.cost.__main__ import main
from pydantic import BaseModel

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "docs" / "how-to" / name for name in ("deploy-aws.md", "move-from-ecs.md")]
TEXT = PAGES[0].read_text(encoding="utf-8")
PROGRAMS = {
    "aws",
    "docker",
    "git",
    "jq",
    "kubectl",
    "kubectl-imports",
    "make",
    "psql",
    "pulumi",
    "python",
    "redis-cli",
}
SHELL = {"export", "read", "for", "do", "done", "cd"}


def blocks(page: Path, language: str) -> list[str]:
    pattern = rf"^( *)```{language}( [\w ]+)?\n(.*?)^ *```$"
    text = page.read_text(encoding="utf-8")
    return [found[2] for found in re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)]


SHELL_BLOCKS = [(page, block) for page in PAGES for block in blocks(page, "sh")]


def known_key(key: str) -> bool:
    """Whether the configuration has such a key, as `section.field`, with or without `[0]`."""
    model: type[BaseModel] = Configuration
    for part in re.sub(r"\[\d+\]", "", key).split("."):
        field = model.model_fields.get(part)
        if field is None:
            return False
        inner = [
            each
            for each in (field.annotation, *getattr(field.annotation, "__args__", ()))
            if isinstance(each, type) and issubclass(each, BaseModel)
        ]
        model = inner[0] if inner else BaseModel
    return True


@pytest.mark.parametrize(("page", "block"), SHELL_BLOCKS)
def test_shell_blocks_are_shell_and_call_known_programs(page: Path, block: str) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    checked = subprocess.run([bash, "-n"], input=block, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    without_documents = re.sub(r"<<YAML\n.*?\nYAML\n", "\n", block, flags=re.DOTALL)
    for line in without_documents.replace("\\\n", " ").splitlines():
        word = re.sub(r"^\w+=.*", "", line.strip()).split(" ")[0]
        assert not word or word in PROGRAMS | SHELL, line


def test_every_configuration_key_exists() -> None:
    sections = "|".join(name for name in Configuration.model_fields)
    named = set(re.findall(rf"\b((?:{sections})\.[a-z_]+(?:\.[a-z]+)?(?:\[\d\])?)", TEXT))
    assert {"application.images", "postgres.existing_secret_arn", "cluster.version"} <= named
    assert [key for key in sorted(named) if not known_key(key)] == []


def test_values_that_are_set_are_accepted() -> None:
    """Every `pulumi config set --path KEY VALUE` of the page, together, is a configuration."""
    values: dict[str, object] = {"environment": "production"}
    for key, text in re.findall(
        r"pulumi config set --path '?([\w.\[\]]+)'? (\S+)$", TEXT, flags=re.MULTILINE
    ):
        section, field = re.sub(r"\[0\]", "", key).split(".")
        value: object = text == "true" if text in {"true", "false"} else text
        values.setdefault(section, {})[field] = [value] if "[0]" in key else value  # type: ignore[index]
    configuration = parse_configuration(values)
    assert configuration.budget.emails == ("ops@example.com",)
    assert configuration.cluster.public_access_cidr_blocks == ("203.0.113.0/24",)


def test_the_example_of_bringing_your_own_is_a_configuration() -> None:
    (example,) = blocks(PAGES[0], "yaml")
    values = {
        key.removeprefix("import-operator:"): value
        for key, value in yaml.safe_load(example)["config"].items()
        if key.startswith("import-operator:")
    }
    own = parse_configuration(values)
    assert own.cluster.existing_name == "platform"
    assert own.network.vpc_id


def test_every_output_exists() -> None:
    exported = set(re.findall(r'pulumi\.export\("(\w+)"', (ROOT / "__main__.py").read_text(encoding="utf-8")))
    named = set(re.findall(r"pulumi stack output (\w+)", TEXT))
    assert named == {"kubeconfig", "repository_urls", "critical_topic_arn", "cluster_name"}
    assert named - exported == set()


def test_every_path_exists() -> None:
    named = set(re.findall(r"\b(?:deploy|crds|infra|tests)/[\w./-]*\w", TEXT)) | set(
        re.findall(r"Pulumi\.\w+\.yaml", TEXT)
    )
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_three_processes_are_the_images_that_are_configured() -> None:
    loop = re.search(r"for process in (.*); do", TEXT)
    assert loop is not None
    images = Configuration.model_fields["application"].annotation
    assert images is not None
    assert all(known_key(f"application.images.{process}") for process in loop[1].split())


@pytest.mark.parametrize("line", sorted(set(re.findall(r"make cost(?: [A-Z]+=(?:'[^']*'|\w+))*", TEXT))))
def test_the_cost_commands_run(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    stack = re.search(r"STACK=(\w+)", line)
    options = re.search(r"COST='(.*)'", line)
    assert (
        main(["--stack", stack[1] if stack else "production", *(options[1].split() if options else [])]) == 0
    )
    assert "together" in capsys.readouterr().out
