"""Operator: do the loops go round, and are the gateway and the webhook well?"""

from import_dashboards.model import (
    GREEN,
    ORANGE,
    RATE,
    RED,
    YELLOW,
    Board,
    Panel,
    Row,
    ask,
    led,
    quantile,
    quantiles,
    rare,
    rate,
)

_SINCE = f"time() - max by (loop) {led('imports_loop_last_success_timestamp_seconds')}"
_EXPIRY = "imports_admission_certificate_expiry_timestamp_seconds"

_NOW = Row(
    title="Now",
    panels=(
        Panel(
            title="Leader",
            meaning="Replicas that lead; one is right, none means that imports stand still.",
            kind="number",
            width=4,
            height=4,
            words={0: ("none", RED), 1: ("one", GREEN), 2: ("two", RED)},
            queries=(ask("sum (imports_leading)"),),
        ),
        Panel(
            title="Longest without success",
            meaning="Of all loops: the time since the last round that succeeded.",
            kind="number",
            unit="s",
            width=4,
            height=4,
            queries=(ask(f"max ({_SINCE})"),),
        ),
        Panel(
            title="Neighbours",
            meaning="The least of what all processes say: 0 where one of them does not reach PostgreSQL or Redis.",
            kind="number",
            width=4,
            height=4,
            words={0: ("away", RED), 1: ("there", GREEN)},
            queries=(ask("min by (neighbour) (imports_neighbour_up)", "{{neighbour}}"),),
        ),
        Panel(
            title="Withheld cancellations",
            meaning="Jobs without object that wait for a person's word.",
            kind="number",
            width=4,
            height=4,
            thresholds=((1, ORANGE),),
            queries=(ask(f"sum {led('imports_cancellations_withheld')}"),),
        ),
        Panel(
            title="Webhook's certificate",
            meaning="Time until it ends; the gateway exchanges it by itself before.",
            kind="number",
            unit="s",
            width=4,
            height=4,
            thresholds=((0, RED), (86_400, YELLOW), (604_800, GREEN)),
            queries=(ask(f"min ({_EXPIRY} > 0) - time()"),),
        ),
        Panel(
            title="Versions",
            meaning="Pods of each process and version; two versions of one while it is rolled out.",
            kind="number",
            width=4,
            height=4,
            queries=(ask("count by (process, version) (imports_build_info)", "{{process}} {{version}}"),),
        ),
    ),
)

_LOOPS = Row(
    title="Loops",
    panels=(
        Panel(
            title="p95 of a round",
            meaning="Time that a round of each loop takes.",
            unit="s",
            queries=(ask(quantile(0.95, "imports_loop_duration_seconds", "loop"), "{{loop}}"),),
        ),
        Panel(
            title="p95 of lag",
            meaning="How much later than planned rounds begin.",
            unit="s",
            queries=(ask(quantile(0.95, "imports_loop_lag_seconds", "loop"), "{{loop}}"),),
        ),
        Panel(
            title="Since the last success",
            meaning="Rises for one loop: its error is beside, and in the log as loop.failed.",
            unit="s",
            queries=(ask(_SINCE, "{{loop}}"),),
        ),
        Panel(
            title="Errors",
            meaning="Rounds that failed, by loop and error.",
            unit="ops",
            queries=(ask(rare(rate("imports_loop_errors_total", "loop, error")), "{{loop}} {{error}}"),),
        ),
        Panel(
            title="Repairs",
            meaning="What rows, claims and Redis disagreed on and was put right. Some after a death are ordinary.",
            unit="ops",
            queries=(
                ask(rate("imports_repairs_total", "kind"), "{{kind}}"),
                ask(rare(rate("imports_claims_ended_total", "cause")), "claim ended {{cause}}"),
            ),
        ),
        Panel(
            title="Schedules",
            meaning="Runs started, missed, and schedules whose due run waits.",
            queries=(
                ask(rate("imports_schedule_runs_total"), "runs/s"),
                ask(rare(rate("imports_schedule_missed_total")), "missed/s"),
                ask(rare(f"sum by (reason) {led('imports_schedules_held')}"), "held {{reason}}"),
            ),
        ),
    ),
)

_CLUSTER = Row(
    title="The cluster",
    panels=(
        Panel(
            title="Custom resources",
            meaning="Live objects in the namespace, by kind.",
            queries=(ask(f"max by (kind) {led('imports_objects')}", "{{kind}}"),),
        ),
        Panel(
            title="Status patches",
            meaning="A second, at most 50 of all objects together, and how many objects wait for theirs.",
            queries=(
                ask(rate("imports_status_patches_total", "kind"), "{{kind}}/s"),
                ask(f"sum {led('imports_status_patches_waiting')}", "waiting"),
            ),
        ),
        Panel(
            title="Watches and Events",
            meaning="Watches started anew: the API server went away. Events by what became of them.",
            unit="ops",
            queries=(
                ask(rate("imports_watch_restarts_total"), "watch restarts"),
                ask(rare(rate("imports_events_total", "result")), "events {{result}}"),
            ),
        ),
        Panel(
            title="CPU",
            meaning="Cores in use, of operator and gateway.",
            queries=(
                ask(
                    f'sum by (pod) (rate(process_cpu_seconds_total{{job=~".*import-(operator|gateway)"}}[{RATE}]))',
                    "{{pod}}",
                ),
            ),
        ),
        Panel(
            title="Memory",
            meaning="Resident, of operator and gateway.",
            unit="bytes",
            queries=(
                ask(
                    'max by (pod) (process_resident_memory_bytes{job=~".*import-(operator|gateway)"})',
                    "{{pod}}",
                ),
            ),
        ),
        Panel(
            title="Finished objects",
            meaning="Deleted after their time, and rows of history deleted.",
            unit="ops",
            queries=(
                ask(rare(rate("imports_objects_swept_total", "result")), "objects {{result}}"),
                ask(rate("imports_history_swept_total"), "rows"),
            ),
        ),
    ),
)

_GATEWAY = Row(
    title="Gateway",
    panels=(
        Panel(
            title="Requests by status",
            meaning="A second; 503 is a queue without room, or a neighbour that does not answer.",
            unit="reqps",
            kind="stack",
            queries=(ask(rate("imports_http_requests_total", "status"), "{{status}}"),),
        ),
        Panel(
            title="Time of an admission review",
            meaning="The API server waits for it with every ImportJob that is made.",
            unit="s",
            queries=quantiles("imports_admission_review_duration_seconds"),
        ),
        Panel(
            title="Unanswered questions and listeners",
            meaning="Questions that a store did not answer let an import through; listeners are open event streams.",
            queries=(
                ask(rare(rate("imports_admission_questions_failed_total", "about")), "unanswered {{about}}"),
                ask("sum (imports_live_listeners)", "listeners"),
            ),
        ),
    ),
)

OPERATOR = Board(
    name="operator",
    title="Imports: operator",
    answers="Do the loops go round, and are the gateway and the webhook well?",
    rows=(_NOW, _LOOPS, _CLUSTER, _GATEWAY),
)
