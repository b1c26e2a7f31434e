"""Job Performance: do imports succeed, and are they quick enough?"""

from import_dashboards.model import (
    GREEN,
    RATE,
    RED,
    YELLOW,
    Board,
    Panel,
    Row,
    ask,
    quantile,
    quantiles,
    rate,
)

_COMPLETED = 'imports_jobs_total{outcome="completed"}'
_ENDED = 'imports_jobs_total{outcome=~"completed|failed"}'
_RETRIED = 'imports_jobs_total{outcome="retried"}'
_SUCCESS = ((0, RED), (0.9, YELLOW), (0.99, GREEN))


def _share_within(seconds: str, size: str, window: str) -> str:
    quick = f'imports_job_turnaround_seconds_bucket{{size="{size}", le="{seconds}"}}'
    every = f'imports_job_turnaround_seconds_count{{size="{size}"}}'
    return f"sum (rate({quick}[{window}])) / sum (rate({every}[{window}]))"


_NOW = Row(
    title="Targets",
    panels=(
        Panel(
            title="Success",
            meaning="Completed of all jobs that ended, over an hour. Target 99 %, alert below 90 %.",
            kind="number",
            unit="percentunit",
            decimals=1,
            width=6,
            height=4,
            thresholds=_SUCCESS,
            queries=(ask(f"sum (increase({_COMPLETED}[1h])) / sum (increase({_ENDED}[1h]))"),),
        ),
        Panel(
            title="Small jobs done in 5 min",
            meaning="Jobs under 100 products, from the first start to completion, over an hour. Target 95 %.",
            kind="number",
            unit="percentunit",
            decimals=1,
            width=6,
            height=4,
            thresholds=((0, RED), (0.9, YELLOW), (0.95, GREEN)),
            queries=(ask(_share_within("300.0", "small", "1h")),),
        ),
        Panel(
            title="p95 of a try",
            meaning="95 % of the tries take less. Alert above 15 min.",
            kind="number",
            unit="s",
            decimals=1,
            width=6,
            height=4,
            thresholds=((600, YELLOW), (900, RED)),
            queries=(ask(quantile(0.95, "imports_job_duration_seconds")),),
        ),
        Panel(
            title="Stalled and failed",
            meaning="Jobs failed in the last day because they made no progress for too long.",
            kind="number",
            width=6,
            height=4,
            thresholds=((1, RED),),
            queries=(ask("sum (increase(imports_jobs_stalled_failed_total[1d]))"),),
        ),
    ),
)

_ENDS = Row(
    title="How tries end",
    panels=(
        Panel(
            title="Tries by outcome",
            meaning="Handed back: without a try used up (provider limit, breaker, stop). Lost: the lease was gone.",
            unit="ops",
            kind="stack",
            queries=(ask(rate("imports_jobs_total", "outcome"), "{{outcome}}"),),
        ),
        Panel(
            title="Success by provider",
            meaning="One provider alone: look at Provider API. All of them: look at PostgreSQL, S3, the last rollout.",
            unit="percentunit",
            maximum=1,
            queries=(
                ask(f"{rate(_COMPLETED, 'provider')} / ({rate(_ENDED, 'provider')} > 0)", "{{provider}}"),
            ),
        ),
        Panel(
            title="Retries",
            meaning="Tries that end in another try, of all tries.",
            unit="percentunit",
            queries=(
                ask(f"{rate(_RETRIED, 'tier')} / ({rate('imports_jobs_total', 'tier')} > 0)", "{{tier}}"),
            ),
        ),
    ),
)

_TIMES = Row(
    title="How long they take",
    panels=(
        Panel(
            title="Duration of a try",
            meaning="From its claim to its end.",
            unit="s",
            queries=quantiles("imports_job_duration_seconds"),
        ),
        Panel(
            title="p95 from first start to completion",
            meaning="Retries and waits between included; small: under 100 products, medium: under 1,000.",
            unit="s",
            queries=(ask(quantile(0.95, "imports_job_turnaround_seconds", "size"), "{{size}}"),),
        ),
        Panel(
            title="p95 of waiting for the first start",
            meaning="By the company's tier.",
            unit="s",
            queries=(ask(quantile(0.95, "imports_job_wait_seconds", "tier"), "{{tier}}"),),
        ),
        Panel(
            title="p95 of a page's phases",
            meaning="Which phase is slow: the provider (fetch), images, PostgreSQL (commit).",
            unit="s",
            queries=(ask(quantile(0.95, "imports_page_phase_duration_seconds", "phase"), "{{phase}}"),),
        ),
        Panel(
            title="Commit of a page",
            meaning="Outages that were waited for included.",
            unit="s",
            queries=quantiles("imports_page_commit_duration_seconds"),
        ),
        Panel(
            title="Lease renewals",
            meaning="Failed or lost: PostgreSQL does not answer in time, or a worker is blocked.",
            unit="ops",
            queries=(ask(rate("imports_lease_renewals_total", "outcome"), "{{outcome}}"),),
        ),
    ),
)

_WORK = Row(
    title="What they carry",
    panels=(
        Panel(
            title="Products",
            meaning="A second, by outcome.",
            unit="ops",
            kind="stack",
            queries=(ask(rate("imports_products_total", "outcome"), "{{outcome}}"),),
        ),
        Panel(
            title="Images",
            meaning="A second, by outcome. Many failed ones of one provider: its image server.",
            unit="ops",
            kind="stack",
            queries=(ask(rate("imports_images_total", "outcome"), "{{outcome}}"),),
        ),
        Panel(
            title="Products and images of a job",
            meaning="Means over completed jobs.",
            queries=tuple(
                ask(
                    f"sum (rate(imports_job_{what}_sum[{RATE}])) / sum (rate(imports_job_{what}_count[{RATE}]))",
                    what,
                )
                for what in ("products", "images")
            ),
        ),
    ),
)

JOB_PERFORMANCE = Board(
    name="job-performance",
    title="Imports: job performance",
    answers="Do imports succeed, and are they quick enough?",
    rows=(_NOW, _ENDS, _TIMES, _WORK),
)
