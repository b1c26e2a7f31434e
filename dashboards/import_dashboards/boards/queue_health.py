"""Queue Health: is there too much to do, and is anything being done?"""

from import_dashboards.model import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Board,
    Panel,
    Row,
    ask,
    led,
    rare,
    rate,
)

_LEVELS = {0: ("healthy", GREEN), 1: ("degraded", YELLOW), 2: ("critical", ORANGE), 3: ("overload", RED)}
_INTAKE = {0: ("open", GREEN), 1: ("stopped", RED)}
_DISPATCH = {0: ("on", GREEN), 1: ("paused", RED)}
_DEPTHS = ((1_000, YELLOW), (5_000, ORANGE), (10_000, RED))

_NOW = Row(
    title="Now",
    panels=(
        Panel(
            title="Depth",
            meaning="Due and running jobs. Above 1,000 degraded, 5,000 critical, 10,000 overload.",
            kind="number",
            width=4,
            height=4,
            thresholds=_DEPTHS,
            queries=(ask(f"max by (queue) {led('imports_queue_depth')}", "{{queue}}"),),
        ),
        Panel(
            title="Health",
            meaning="The level that the operator judges, left at 90 % of the depth that led to it.",
            kind="number",
            width=4,
            height=4,
            words=_LEVELS,
            queries=(ask(f"max by (queue) {led('imports_queue_health_level')}", "{{queue}}"),),
        ),
        Panel(
            title="Intake",
            meaning="Stopped: nobody's new jobs are taken, by overload or by hand.",
            kind="number",
            width=4,
            height=4,
            words=_INTAKE,
            queries=(ask(f"max by (queue) {led('imports_intake_stopped')}", "{{queue}}"),),
        ),
        Panel(
            title="Dispatch",
            meaning="Paused: no job starts, by hand or as an emergency. Jobs under way go on.",
            kind="number",
            width=4,
            height=4,
            words=_DISPATCH,
            queries=(ask(f"max by (queue) {led('imports_dispatch_paused')}", "{{queue}}"),),
        ),
        Panel(
            title="Oldest waiting job",
            meaning="How long the oldest due job waits that nobody has paused.",
            kind="number",
            unit="s",
            width=4,
            height=4,
            thresholds=((600, YELLOW), (3_600, RED)),
            queries=(ask(f"max by (queue) {led('imports_queue_oldest_waiting_age_seconds')}", "{{queue}}"),),
        ),
        Panel(
            title="Held objects",
            meaning="ImportJobs that are not recorded yet because there is no room.",
            kind="number",
            width=4,
            height=4,
            thresholds=((1, YELLOW),),
            queries=(ask(f"sum {led('imports_jobs_held')}"),),
        ),
    ),
)

_COURSE = Row(
    title="Backlog",
    panels=(
        Panel(
            title="Jobs by state",
            meaning="Counted in PostgreSQL, up to 100,001 of each; completed and failed within the last hour.",
            kind="stack",
            width=12,
            queries=(ask(f"sum by (state) {led('imports_queue_jobs')}", "{{state}}"),),
        ),
        Panel(
            title="Depth",
            meaning="Due and running jobs, with the levels of queue health.",
            width=12,
            thresholds=_DEPTHS,
            queries=(ask(f"max by (queue) {led('imports_queue_depth')}", "{{queue}}"),),
        ),
        Panel(
            title="Age of the oldest waiting job",
            meaning="Rises steadily: nothing of its tier or company starts.",
            unit="s",
            queries=(ask(f"max by (queue) {led('imports_queue_oldest_waiting_age_seconds')}", "{{queue}}"),),
        ),
        Panel(
            title="Messages in Redis",
            meaning="The window of handed-over jobs, by BullMQ's state. Empty while jobs wait: look at dispatch.",
            kind="stack",
            queries=(ask(f"sum by (state) {led('imports_queue_messages')}", "{{state}}"),),
        ),
        Panel(
            title="Starts in the last minute",
            meaning="Jobs that workers claimed.",
            queries=(ask(f"max by (queue) {led('imports_job_starts_per_minute')}", "{{queue}}"),),
        ),
    ),
)

_WAYS = Row(
    title="In and out",
    panels=(
        Panel(
            title="Recorded and handed over",
            meaning="Jobs a second: objects written to PostgreSQL, rows handed to Redis, hand-overs repeated.",
            unit="ops",
            queries=(
                ask(rate("imports_jobs_recorded_total"), "recorded"),
                ask(rare(rate("imports_jobs_dispatched_total")), "handed over"),
                ask(rare(rate("imports_jobs_dispatched_again_total")), "handed over again"),
            ),
        ),
        Panel(
            title="Admission",
            meaning="Answers of the admission webhook. Refused: there is no room for the company's tier.",
            unit="ops",
            queries=(ask(rate("imports_admission_reviews_total", "result"), "{{result}}"),),
        ),
        Panel(
            title="Refused by the operator",
            meaning="ImportJobs that can't become jobs, by reason.",
            unit="ops",
            queries=(ask(rare(rate("imports_jobs_refused_total", "reason")), "{{reason}}"),),
        ),
    ),
)

QUEUE_HEALTH = Board(
    name="queue-health",
    title="Imports: queue health",
    answers="Is there too much to do, and is anything being done?",
    rows=(_NOW, _COURSE, _WAYS),
)
