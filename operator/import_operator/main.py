"""The operator's table of contents: what is watched, and which handler takes it."""

from __future__ import annotations

from typing import Any

import kopf

from import_core.adapters.kube.resources import GROUP, VERSION
from import_operator.deployments import POOL_LABEL
from import_operator.handlers.handle_cancel_import_job import handle_cancel_import_job
from import_operator.handlers.handle_check_import_provider import (
    handle_check_import_provider,
    handle_forget_import_provider,
)
from import_operator.handlers.handle_observe_worker_pod import (
    handle_forget_worker_pod,
    handle_observe_worker_pod,
)
from import_operator.handlers.handle_record_import_job import handle_record_import_job
from import_operator.handlers.handle_run_import_schedule import (
    handle_forget_import_schedule,
    handle_run_import_schedule,
)
from import_operator.handlers.handle_scale_worker_pool import (
    handle_forget_deployment,
    handle_forget_worker_pool,
    handle_observe_deployment,
    handle_scale_worker_pool,
)
from import_operator.watching import configure_kopf, sign_in


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Set the time limits and switch off what would write to objects behind our back."""
    configure_kopf(settings)


@kopf.on.login()
async def log_in(**_: Any) -> kopf.ConnectionInfo:
    """Sign in as every other call does."""
    return sign_in()


@kopf.on.event(GROUP, VERSION, "importjobs")
async def import_job_event(event: Any, memo: Any, **_: Any) -> None:
    """Record it; cancel it when it is deleted."""
    memo.inbox.post(event, changed=handle_record_import_job, deleted=handle_cancel_import_job)


@kopf.on.event(GROUP, VERSION, "importproviders")
async def import_provider_event(event: Any, memo: Any, **_: Any) -> None:
    """Have the connection checked."""
    memo.inbox.post(event, changed=handle_check_import_provider, deleted=handle_forget_import_provider)


@kopf.on.event(GROUP, VERSION, "workerpools")
async def worker_pool_event(event: Any, memo: Any, **_: Any) -> None:
    """Scale it."""
    memo.inbox.post(event, changed=handle_scale_worker_pool, deleted=handle_forget_worker_pool)


@kopf.on.event(GROUP, VERSION, "importschedules")
async def import_schedule_event(event: Any, memo: Any, **_: Any) -> None:
    """Start its runs at their time."""
    memo.inbox.post(event, changed=handle_run_import_schedule, deleted=handle_forget_import_schedule)


@kopf.on.event("apps", "v1", "deployments", labels={POOL_LABEL: kopf.PRESENT})
async def deployment_event(event: Any, memo: Any, **_: Any) -> None:
    """Know how many workers are ready."""
    memo.inbox.post(event, changed=handle_observe_deployment, deleted=handle_forget_deployment)


@kopf.on.event("", "v1", "pods", labels={POOL_LABEL: kopf.PRESENT})
async def pod_event(event: Any, memo: Any, **_: Any) -> None:
    """Know the workers, time their start, and see their processes end."""
    memo.inbox.post(event, changed=handle_observe_worker_pod, deleted=handle_forget_worker_pod)


def main() -> None:
    """Run the operator's command line."""
    from import_operator.command import main as run

    run()
