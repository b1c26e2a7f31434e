"""Groups of CloudWatch Logs with their retention, and the questions that people on call ask of them."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.component import Component, Context
from infra.configuration import LogsSection

SAVED_QUERIES = {
    "one-job": """fields @timestamp, kubernetes.pod_name, event, level, @message
| filter jobId = "PUT THE JOB'S ID HERE"
| sort @timestamp asc
| limit 1000""",
    "errors-by-event": """filter level in ["error", "critical"]
| stats count(*) as lines, max(@timestamp) as last by kubernetes.container_name, event
| sort lines desc""",
    "failed-jobs-by-reason": """filter event = "job.failed"
| stats count(*) as jobs by error, provider
| sort jobs desc""",
    "slowest-jobs": """filter event = "job.completed"
| fields jobId, companyId, duration / 1000 as seconds
| sort seconds desc
| limit 50""",
    "repairs": """filter event = "job.repaired"
| stats count(*) as repairs by kind, reason, bin(5m)""",
    "worker-starts-and-ends": """filter event in ["worker.ready", "worker.stopping", "worker.stopped", "workers.ended"]
| fields @timestamp, event, kubernetes.pod_name
| sort @timestamp desc
| limit 200""",
}
"""Logs Insights queries by name; `one-job` wants the id filled in."""


@dataclass(frozen=True, kw_only=True)
class LogsArgs:
    """What the groups depend on."""

    settings: LogsSection
    key_arn: pulumi.Input[str]


class Logs(Component):
    """Three groups: our processes, our processes' errors (kept longer), and everything else in the cluster."""

    application_name: pulumi.Output[str]
    """Group of operator, workers and gateway."""
    errors_name: pulumi.Output[str]
    """Group of their errors."""
    platform_name: pulumi.Output[str]
    """Group of the cluster's other pods."""
    group_arns: list[pulumi.Output[str]]
    """ARNs of the three."""

    def __init__(self, context: Context, args: LogsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(context, "logs", opts)
        days = args.settings
        application = self._make_group(args, "application", days.application_days)
        errors = self._make_group(args, "errors", days.audit_days)
        platform = self._make_group(args, "platform", days.application_days)
        self.application_name, self.errors_name, self.platform_name = (
            application.name,
            errors.name,
            platform.name,
        )
        self.group_arns = [application.arn, errors.arn, platform.arn]
        for name, query in SAVED_QUERIES.items():
            aws.cloudwatch.QueryDefinition(
                self.child_name(name),
                name=f"{self.context.prefix}/{name}",
                log_group_names=[application.name],
                query_string=query,
                opts=self.child(),
            )
        self.register_outputs(
            {"application": application.name, "errors": errors.name, "platform": platform.name}
        )

    def _make_group(self, args: LogsArgs, part: str, days: int) -> aws.cloudwatch.LogGroup:
        return aws.cloudwatch.LogGroup(
            self.child_name(part),
            name=f"/{self.context.prefix}/{part}",
            retention_in_days=days,
            kms_key_id=args.key_arn,
            tags=self.tags(part),
            opts=self.child(),
        )
