"""ImportSchedule: ImportJobs that are made again and again, at the times of a cron expression."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from import_core.domain.cron import EXPRESSION_PATTERN, Cron, time_zone
from import_core.domain.resources.common import (
    Conditions,
    Count,
    Generation,
    ObjectMeta,
    PrinterColumn,
    ResourceDefinition,
    ResourceModel,
    Rule,
    Timestamp,
    parse,
)
from import_core.domain.resources.import_job import ImportJobSpec

MAX_NAME_LENGTH = 52
"""Its jobs are called after it and the minute of their time, and carry its name as a label."""


class ConcurrencyPolicy(StrEnum):
    """What happens when a run is due and one before it is not done."""

    ALLOW = "Allow"
    FORBID = "Forbid"
    REPLACE = "Replace"


class ImportJobTemplate(ResourceModel):
    """The ImportJob that each run makes."""

    spec: ImportJobSpec
    """What to import. companyId and providerRef can't be changed."""


def _check_expression(expression: str) -> str:
    Cron.parse(expression)
    return expression


def _check_zone(name: str) -> str:
    time_zone(name)
    return name


HistoryLimit = Annotated[int, Field(ge=0, le=100)]


class ImportScheduleSpec(ResourceModel):
    """What to import, and when."""

    schedule: Annotated[
        str,
        Field(min_length=1, max_length=128, pattern=EXPRESSION_PATTERN),
        AfterValidator(_check_expression),
    ]
    """When, in cron's form: minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly,
    @yearly. Where both days are restricted, either of them is enough."""
    time_zone: Annotated[
        str,
        Field(min_length=1, max_length=64, pattern="^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$"),
        AfterValidator(_check_zone),
    ] = "Etc/UTC"
    """The time zone of schedule, by its IANA name. A time that the clock leaps over comes at the end of the leap,
    one that it shows twice comes once, unless minute or hour is a star."""
    jitter_seconds: Annotated[int, Field(ge=0, le=3600)] = 300
    """Runs start up to so many seconds after their time, and never later than half-way to the next one: always the
    same part of it for one schedule, another for each, so that many schedules of one time don't start together.
    0 starts them on time."""
    concurrency_policy: Annotated[ConcurrencyPolicy, Field(strict=False)] = ConcurrencyPolicy.FORBID
    """When a run is due and an earlier one is not done: Allow starts it beside that one, Forbid waits (or misses
    it), Replace starts it and deletes the earlier one."""
    starting_deadline_seconds: Annotated[int, Field(ge=10, le=604_800)] | None = None
    """A run that could not start on time, for whatever reason, starts up to so many seconds late (at most 7 days)
    and is missed after that; no limit if absent. Of several that wait, only the last one starts."""
    successful_jobs_history_limit: HistoryLimit = 3
    """So many succeeded jobs are kept, for as long as their own ttlSecondsAfterFinished."""
    failed_jobs_history_limit: HistoryLimit = 3
    """So many failed or cancelled jobs are kept, for as long as their own ttlSecondsAfterFinished."""
    suspend: bool = False
    """Whether no runs are started. Runs that come meanwhile are missed, but for the last one: it starts afterwards,
    if startingDeadlineSeconds lets it."""
    job_template: ImportJobTemplate
    """The ImportJob that each run makes."""


class ImportScheduleStatus(ResourceModel):
    """What became of the runs; written by the operator."""

    active: Count | None = None
    """Jobs of this schedule that are not done."""
    last_schedule_time: Timestamp | None = None
    """The time, by schedule, of the last run that was started."""
    last_successful_time: Timestamp | None = None
    """When a job of this schedule last succeeded."""
    last_missed_time: Timestamp | None = None
    """The time, by schedule, of the last run that was missed."""
    next_schedule_time: Timestamp | None = None
    """When the next run starts, jitter included; absent while suspended."""
    observed_generation: Generation | None = None
    """Generation of the object that this status is about."""
    conditions: Conditions = ()
    """Ready (runs are started), Held (a run is due and waits: the message says what for)."""


class ImportSchedule(ResourceModel):
    """Makes ImportJobs at the times of a cron expression, as a CronJob makes Jobs. They are found by the label
    imports.avnz.io/schedule, and go with the schedule when it is deleted."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="metadata.name",
            cel=f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
            message=f"metadata.name: must be at most {MAX_NAME_LENGTH} characters",
            check=lambda schedule: len(schedule.metadata.name) <= MAX_NAME_LENGTH,
        ),
    )

    metadata: ObjectMeta
    spec: ImportScheduleSpec
    """What to import, and when."""
    status: ImportScheduleStatus = ImportScheduleStatus()
    """What became of the runs; written by the operator."""


DEFINITION = ResourceDefinition(
    kind="ImportSchedule",
    plural="importschedules",
    singular="importschedule",
    short_name="isc",
    model=ImportSchedule,
    columns=(
        PrinterColumn("Schedule", ".spec.schedule", description="When, in cron's form"),
        PrinterColumn("TimeZone", ".spec.timeZone", description="The time zone of that"),
        PrinterColumn("Suspend", ".spec.suspend", "boolean", "Whether no runs are started"),
        PrinterColumn("Active", ".status.active", "integer", "Jobs that are not done"),
        PrinterColumn("Last", ".status.lastScheduleTime", "date", "Time since the last run's time"),
        # As a date, kubectl would show a time to come as <invalid>.
        PrinterColumn("Next", ".status.nextScheduleTime", description="When the next run starts"),
        PrinterColumn(
            "Held",
            '.status.conditions[?(@.type=="Held")].status',
            description="Whether a run is due and waits",
        ),
        PrinterColumn("Age", ".metadata.creationTimestamp", "date", "Time since the object was created"),
        PrinterColumn(
            "Company", ".spec.jobTemplate.spec.companyId", description="Whom the imports are for", priority=1
        ),
        PrinterColumn(
            "Provider",
            ".spec.jobTemplate.spec.providerRef.name",
            description="Where the products come from",
            priority=1,
        ),
        PrinterColumn("Succeeded", ".status.lastSuccessfulTime", "date", "Time since the last success", 1),
        PrinterColumn("Missed", ".status.lastMissedTime", "date", "Time since the last missed run", 1),
    ),
    selectable_fields=(".spec.jobTemplate.spec.companyId", ".spec.jobTemplate.spec.providerRef.name"),
)


def parse_import_schedule(body: Mapping[str, Any]) -> ImportSchedule:
    """Read an ImportSchedule from an object's JSON; raises InvalidResourceError naming the field."""
    return parse(ImportSchedule, body)
