"""Writes all generated files: import_core's, alert rules, and the reference pages of what other packages define.

`python -m import_local.generate` writes; with `--check` it changes nothing, prints a diff and exits with 1
where a file differs from its source. It is here because only this package may import every process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from infra import reference as infrastructure
from prometheus_client.metrics import MetricWrapperBase
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from import_core import generate
from import_core.adapters.settings import shown_default
from import_core.domain.resources.worker_pool import WorkerPool
from import_core.observability.metrics import WorkerMetrics
from import_dashboards import files as dashboards
from import_gateway.metrics import GatewayMetrics
from import_gateway.settings import GatewaySettings
from import_local.alert_rules import alerts_page, rules_manifest
from import_local.http_api_page import http_api_page
from import_local.rights import rights_file
from import_operator import metrics as operator_metrics
from import_operator.deployments import get_worker_deployment
from import_operator.settings import OperatorSettings
from import_worker.settings import WorkerSettings

_SETTINGS_TEXT = Path(__file__).parent / "generated_pages" / "settings.md"
_INFRASTRUCTURE_TEXT = Path(__file__).parent / "generated_pages" / "infrastructure.md"
_METRICS_TEXT = Path(__file__).parent / "generated_pages" / "metrics.md"
_SUFFIXES = {"counter": "_total", "gauge": "", "histogram": ""}
_BOUNDS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
_INJECTED_MEANINGS = {
    "IMPORT_QUEUE": "`spec.queue`",
    "IMPORT_CONCURRENCY": "`spec.concurrency`",
    "IMPORT_WORKER_POOL": "the pool's name; for people and log collectors, the worker does not read it",
    "IMPORT_TEMPLATE_HASH": "the version of `spec.template`, which rollouts are judged by",
    "HEALTH_PORT": "the port that the probes ask",
}


def generated_files() -> dict[Path, str]:
    """Every generated file's text, by its path below the project's root."""
    reference = Path("docs/reference")
    return {
        **generate.generated_files(),
        **dashboards.generated_files(),
        reference / "settings.md": settings_page(),
        reference / "metrics.md": metrics_page(),
        reference / "http-api.md": http_api_page(),
        reference / "alerts.md": alerts_page(),
        Path("deploy/components/monitoring/rules.yaml"): rules_manifest(),
        reference / "infrastructure.md": infrastructure_page(),
        Path("cli/import_cli/rights.json"): rights_file(),
    }


def settings_page() -> str:
    """The reference of all environment variables as Markdown."""
    text = _SETTINGS_TEXT.read_text(encoding="utf-8")
    return (
        text.replace("@operator@", _settings_table(OperatorSettings))
        .replace("@worker@", _settings_table(WorkerSettings))
        .replace("@gateway@", _settings_table(GatewaySettings))
        .replace("@injected@", _injected_table())
    )


def metrics_page() -> str:
    """The reference of all metrics as Markdown."""
    text = _METRICS_TEXT.read_text(encoding="utf-8")
    worker = WorkerMetrics()
    return (
        text.replace("@process@", _metrics_table(_metrics_of(worker.process)))
        .replace("@operator@", _metrics_table(_metrics_of(operator_metrics)))
        .replace("@worker@", _metrics_table(_metrics_of(worker)))
        .replace("@gateway@", _metrics_table(_metrics_of(GatewayMetrics())))
    )


def infrastructure_page() -> str:
    """The reference of the infrastructure program as Markdown."""
    return (
        _INFRASTRUCTURE_TEXT.read_text(encoding="utf-8")
        .replace("@configuration@", infrastructure.configuration_tables())
        .replace("@exports@", infrastructure.export_list())
        .replace("@components@", infrastructure.component_sections())
    )


def _settings_table(model: type[BaseSettings]) -> str:
    rows = []
    for field in model.model_fields.values():
        if field.default is PydanticUndefined:
            default = "required"
        else:
            shown = shown_default(field.default)
            default = f"`{shown}`" if shown not in {"", None} else "empty"
        bounds = ", ".join([default, *_bounds(field.metadata)])
        rows.append(f"| `{field.validation_alias}` | {bounds} | {_cell(field.description or '')} |")
    return _table("| variable | default, bounds | meaning |", sorted(rows))


def _bounds(metadata: Iterable[object]) -> Iterator[str]:
    for item in metadata:
        for attribute, words in _BOUNDS.items():
            if (value := getattr(item, attribute, None)) is not None:
                yield words.format(value)
        if (pattern := getattr(item, "pattern", None)) is not None:
            yield f"matches `{_cell(pattern)}`"


def _injected_table() -> str:
    """What a pool's container gets beside the user's own variables, read off a Deployment that was made."""
    body = {
        "metadata": {"name": "POOL", "namespace": "NAMESPACE", "uid": "UID"},
        "spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "IMAGE"}]}}},
    }
    settings = OperatorSettings(DATABASE_URL="postgresql://", REDIS_URL="redis://")
    deployment = get_worker_deployment(body, WorkerPool.model_validate(body), settings)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    rows = []
    for item in container["env"]:
        if "value" in item:
            meaning = _INJECTED_MEANINGS[item["name"]]
        else:
            meaning = f"the pod's `{item['valueFrom']['fieldRef']['fieldPath']}`"
        rows.append(f"| `{item['name']}` | {meaning} |")
    return _table("| variable | value |", rows)


def _metrics_of(owner: object) -> Iterator[MetricWrapperBase]:
    return (value for value in vars(owner).values() if isinstance(value, MetricWrapperBase))


def _metrics_table(metrics: Iterable[MetricWrapperBase]) -> str:
    rows = []
    for metric in metrics:
        described = next(iter(metric.describe()))
        name = described.name + _SUFFIXES[described.type]
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # it has no public name
        rows.append(f"| `{name}` | {described.type} | {labels} | {_cell(described.documentation)} |")
    return _table("| metric | type | labels | meaning |", sorted(rows))


def _table(header: str, rows: Iterable[str]) -> str:
    columns = header.count("|") - 1
    return "\n".join([header, "|" + " --- |" * columns, *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(generate.run(generated_files(), program="import_local.generate"))
