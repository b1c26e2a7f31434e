"""What each alert is to say and when, in promtool's series: a value a minute, `3x10` is 3 and ten more 3s."""

from __future__ import annotations

from dataclasses import dataclass, field

OPERATOR = 'job="imports/import-operator",namespace="imports",pod="operator-0"'
GATEWAY = 'job="imports/import-gateway",namespace="imports",pod="gateway-0"'
WORKER = 'job="imports/import-worker",namespace="imports",pod="worker-0"'
REDIS = 'job="redis",namespace="imports",instance="redis-0:9121"'
LEADS = {f"imports_leading{{{OPERATOR}}}": "1x60"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Series, and what is told of one alert after so many minutes: each `says` is labels and summary; none: quiet."""

    alert: str
    why: str
    series: dict[str, str]
    at: str = "30m"
    says: tuple[tuple[dict[str, str], str], ...] = ()


@dataclass
class Cases:
    """All cases of all alerts."""

    all: list[Case] = field(default_factory=list)

    def fires(
        self,
        alert: str,
        series: dict[str, str],
        summary: str,
        *,
        at: str = "30m",
        why: str = "it is so",
        **labels: str,
    ) -> None:
        self.all.append(Case(alert=alert, why=why, series=series, at=at, says=((labels, summary),)))

    def quiet(self, alert: str, why: str, series: dict[str, str], *, at: str = "30m") -> None:
        self.all.append(Case(alert=alert, why=why, series=series, at=at))


CASES = Cases()
fires, quiet = CASES.fires, CASES.quiet


def gauge(name: str, values: str, /, *, of: str = OPERATOR, **labels: str) -> dict[str, str]:
    """One series of a process."""
    more = "".join(f',{label}="{value}"' for label, value in labels.items())
    return {f"{name}{{{of}{more}}}": values}


# Queues. What stands on a recording rule is one round behind it: rules of different files are judged apart.


def level(values: str) -> dict[str, str]:
    return gauge("imports_queue_health_level", values, queue="q")


ON_QUEUE = {"namespace": "imports", "queue": "q"}
fires(
    "ImportQueueOverload",
    level("3x10"),
    "Queue q is overloaded, and its intake is open",
    at="6m",
    severity="critical",
    **ON_QUEUE,
)
quiet("ImportQueueOverload", "critical is not overload", level("2x10"), at="8m")
quiet("ImportQueueOverload", "it was overloaded for less than 5 minutes", level("3x4 2x10"), at="5m")
quiet("ImportQueueOverload", "an unknown depth is no overload", level("_x10"), at="8m")
fires(
    "ImportQueueCritical",
    level("2x20"),
    "Queue q is in health level critical",
    at="11m",
    severity="high",
    **ON_QUEUE,
)
quiet("ImportQueueCritical", "an overload has an alert of its own", level("3x20"), at="15m")
fires(
    "ImportQueueDegraded",
    level("1x20"),
    "Queue q is in health level degraded",
    at="11m",
    severity="medium",
    **ON_QUEUE,
)
quiet("ImportQueueDegraded", "a short wave", level("1x5 0x20"), at="12m")
quiet("ImportQueueDegraded", "what is worse has an alert of its own", level("2x20"), at="15m")


def backlog(depth: str, level_of_pool: str = "0x60") -> dict[str, str]:
    return gauge("imports_queue_depth", depth, queue="q") | level(level_of_pool)


fires(
    "ImportQueueBacklog",
    backlog("1001x60"),
    "Queue q has 1001 jobs that are due or run, and does not get through them",
    at="31m",
    severity="medium",
    why="its pool calls it healthy up to 20,000",
    **ON_QUEUE,
)
fires(
    "ImportQueueBacklog",
    gauge("imports_queue_depth", "1001x60", queue="q"),
    "Queue q has 1001 jobs that are due or run, and does not get through them",
    at="31m",
    severity="medium",
    why="its level is unknown",
    **ON_QUEUE,
)
quiet("ImportQueueBacklog", "one sync of 10,000 products makes 1,000 batches", backlog("1000x60"), at="50m")
quiet(
    "ImportQueueBacklog", "three syncs at once, 100 batches a minute", backlog("3000-100x29 0x20"), at="40m"
)
quiet("ImportQueueBacklog", "30 minutes are not over", backlog("1001x60"), at="29m")
quiet("ImportQueueBacklog", "its pool is degraded, which has an alert", backlog("1001x60", "1x60"), at="50m")
quiet("ImportQueueBacklog", "an unknown depth is no backlog", backlog("_x60"), at="50m")
fires(
    "ImportIntakeStopped",
    gauge("imports_intake_stopped", "0 1x10", queue="q"),
    "Queue q takes no new imports",
    at="2m",
    severity="critical",
    **ON_QUEUE,
)
quiet(
    "ImportIntakeStopped", "it is open again", gauge("imports_intake_stopped", "1x5 0x5", queue="q"), at="6m"
)
fires(
    "ImportDispatchPaused",
    gauge("imports_dispatch_paused", "1x10", queue="q"),
    "Queue q starts no imports",
    at="1m",
    severity="critical",
    **ON_QUEUE,
)
quiet("ImportDispatchPaused", "it starts some", gauge("imports_dispatch_paused", "0x10", queue="q"), at="5m")
AGE = "imports_queue_oldest_waiting_age_seconds"
fires(
    "ImportJobsWaitLong",
    gauge(AGE, "3540+60x20", queue="q"),
    "The oldest job of queue q waits for 1h 8m 0s",
    at="9m",
    severity="medium",
    **ON_QUEUE,
)
quiet("ImportJobsWaitLong", "an hour is not over", gauge(AGE, "3600x20", queue="q"), at="15m")
WITHHELD = "imports_cancellations_withheld"
fires(
    "ImportCancellationsWithheld",
    gauge(WITHHELD, "12x5"),
    "The guard keeps 12 jobs from being cancelled until somebody decides",
    at="1m",
    severity="high",
    namespace="imports",
)
quiet("ImportCancellationsWithheld", "somebody has decided", gauge(WITHHELD, "12x1 0x5"), at="4m")
MISSED = "imports_schedule_missed_total"
fires(
    "ImportScheduleMissed",
    gauge(MISSED, "0x5 1x30", reason="deadline"),
    "Runs of schedules were missed (deadline)",
    at="7m",
    severity="medium",
    namespace="imports",
    reason="deadline",
)
quiet(
    "ImportScheduleMissed",
    "it was over 15 minutes ago",
    gauge(MISSED, "0x5 1x60", reason="deadline"),
    at="25m",
)

TAKEN_BACK = "imports_rollouts_total"
fires(
    "ImportRolloutTakenBack",
    gauge(TAKEN_BACK, "0x5 1x30", pool="product-imports", result="JobsFail"),
    "A new version of the workers of product-imports was taken back (JobsFail)",
    at="7m",
    severity="medium",
    namespace="imports",
    pool="product-imports",
    result="JobsFail",
)
quiet(
    "ImportRolloutTakenBack",
    "a person ended it",
    gauge(TAKEN_BACK, "0x5 1x30", pool="product-imports", result="Aborted"),
    at="7m",
)

# Jobs


def tries(completed: str, failed: str) -> dict[str, str]:
    done = {"provider": "shopify", "tier": "PRO"}
    return {
        **gauge("imports_jobs_total", completed, of=WORKER, outcome="completed", **done),
        **gauge("imports_jobs_total", failed, of=WORKER, outcome="failed", **done),
        **gauge("imports_jobs_total", "0+50x60", of=WORKER, outcome="retried", **done),
    }


fires(
    "ImportHighFailureRate",
    tries("0+80x60", "0+20x60"),
    "Only 80% of imports succeed",
    severity="high",
    namespace="imports",
    why="a fifth fails; retries don't count",
)
quiet("ImportHighFailureRate", "91 % succeed", tries("0+91x60", "0+9x60"))
quiet("ImportHighFailureRate", "too few jobs say nothing", tries("0x60", "0 1x60"))
quiet("ImportHighFailureRate", "10 minutes are not over", tries("0+80x60", "0+20x60"), at="9m")
STEP_WORKER = 'job="imports/import-worker",namespace="imports",pod="worker-1"'


def tries_of_types(failed: str, *, step_failed: str) -> dict[str, str]:
    """One worker of queue q, another of queue step, which alone serves it."""
    found = {
        **gauge("imports_worker_queue_info", "1x60", of=WORKER, queue="q"),
        **gauge("imports_worker_queue_info", "1x60", of=STEP_WORKER, queue="step"),
    }
    for worker, failures in ((WORKER, failed), (STEP_WORKER, step_failed)):
        found |= gauge("imports_jobs_total", "0+90x60", of=worker, outcome="completed", tier="PRO")
        found |= gauge("imports_jobs_total", failures, of=worker, outcome="failed", tier="PRO")
    return found


fires(
    "ImportJobTypeFailing",
    tries_of_types("0+1x60", step_failed="0+10x60"),
    "10% of the jobs of queue step fail",
    severity="medium",
    namespace="imports",
    queue="step",
    why="one type fails, the other does not",
)
quiet("ImportJobTypeFailing", "4 % fail", tries_of_types("0+1x60", step_failed="0+3x60"))
quiet(
    "ImportJobTypeFailing",
    "too few jobs say nothing",
    {
        **gauge("imports_worker_queue_info", "1x60", of=WORKER, queue="q"),
        **gauge("imports_jobs_total", "0x60", of=WORKER, outcome="completed", tier="PRO"),
        **gauge("imports_jobs_total", "0x20 5x40", of=WORKER, outcome="failed", tier="PRO"),
    },
)


def products(done: str, dead: str, *, held: str = "0x60") -> dict[str, str]:
    """Of two steps: one as given, and index-product, all of which are done."""
    found = gauge(
        "imports_step_products_total", "0+50x60", of=STEP_WORKER, step="index-product", outcome="done"
    )
    ways = {"done": done, "dead": dead, "held": held, "retried": "0+50x60", "postponed": "0+50x60"}
    for outcome, values in ways.items():
        found |= gauge(
            "imports_step_products_total", values, of=WORKER, step="quality-control", outcome=outcome
        )
    return found


fires(
    "ImportStepProductsFailing",
    products("0+9x60", "0+1x60"),
    "10% of the products fail in the step quality-control",
    severity="medium",
    namespace="imports",
    step="quality-control",
    why="one product of each batch of 10 fails, and no batch does",
)
fires(
    "ImportStepProductsFailing",
    products("0x60", "0+10x60"),
    "100% of the products fail in the step quality-control",
    severity="medium",
    namespace="imports",
    step="quality-control",
    why="none gets through",
)
quiet("ImportStepProductsFailing", "5 % are not more than 5 %", products("0+19x60", "0+1x60"))
quiet("ImportStepProductsFailing", "too few products say nothing", products("0x60", "0+1x60"))
quiet("ImportStepProductsFailing", "5 minutes are not over", products("0x20 0+9x40", "0x20 0+1x40"), at="25m")
quiet(
    "ImportStepProductsFailing",
    "none has ended, as the setup is wrong",
    products("0x60", "0x60", held="0+50x60"),
)
fires(
    "ImportStepNotUsable",
    gauge("imports_step_products_total", "0+10x60", of=WORKER, step="quality-control", outcome="held"),
    "The step quality-control can't be done as it is set up",
    severity="high",
    namespace="imports",
    step="quality-control",
)
quiet(
    "ImportStepNotUsable",
    "it was put right",
    gauge("imports_step_products_total", "0+10x10 100x50", of=WORKER, step="quality-control", outcome="held"),
)
quiet(
    "ImportStepNotUsable",
    "products fail by themselves",
    gauge("imports_step_products_total", "0+10x60", of=WORKER, step="quality-control", outcome="dead"),
)


def nobody_works(workers: str, depth: str) -> dict[str, str]:
    return {
        **gauge("imports_queue_workers", workers, queue="q"),
        **gauge("imports_queue_depth", depth, queue="q"),
    }


fires(
    "ImportNoWorkers",
    nobody_works("2x5 0x20", "7x30"),
    "Queue q has jobs and no worker that takes them",
    at="10m",
    severity="critical",
    **ON_QUEUE,
)
quiet("ImportNoWorkers", "there is no work", nobody_works("0x30", "0x30"), at="10m")
quiet("ImportNoWorkers", "one is there", nobody_works("1x30", "7x30"), at="10m")
quiet("ImportNoWorkers", "their number is unknown", nobody_works("_x30", "7x30"), at="10m")
STALLED = "imports_jobs_stalled_failed_total"
fires(
    "ImportStalledJobsFailed",
    gauge(STALLED, "0x5 1x30"),
    "Jobs failed because they made no progress",
    at="7m",
    severity="high",
    namespace="imports",
)
quiet("ImportStalledJobsFailed", "none failed of late", gauge(STALLED, "7x60"))


def durations(below_900: int, all_jobs: int) -> dict[str, str]:
    name, labels = (
        "imports_job_duration_seconds_bucket",
        {"outcome": "completed", "provider": "shopify", "tier": "PRO"},
    )
    counts = {"600.0": below_900, "900.0": below_900, "1800.0": all_jobs, "+Inf": all_jobs}
    return {
        key: value
        for bound, count in counts.items()
        for key, value in gauge(name, f"0+{count}x60", of=WORKER, le=bound, **labels).items()
    }


fires(
    "ImportJobsSlow",
    durations(80, 100),
    "One of twenty jobs takes longer than 26m 14s",
    severity="medium",
    namespace="imports",
    why="a fifth of the jobs takes between 15 and 30 minutes",
)
quiet("ImportJobsSlow", "96 of 100 end within 15 minutes", durations(96, 100))


def workers(ready: str, minimum: str = "2x60") -> dict[str, str]:
    return {
        **gauge("imports_workers_ready", ready, pool="p"),
        **gauge("imports_workers_minimum", minimum, pool="p"),
    }


fires(
    "ImportWorkersBelowMinimum",
    workers("1x60"),
    "Pool p has 1 workers that are ready, fewer than its minimum",
    at="3m",
    severity="high",
    namespace="imports",
    pool="p",
)
quiet("ImportWorkersBelowMinimum", "the minimum is enough", workers("2x60"))
quiet("ImportWorkersBelowMinimum", "one was replaced within 3 minutes", workers("1x2 2x60"), at="3m")
quiet("ImportWorkersBelowMinimum", "none are wanted", workers("0x60", "0x60"))
RESTARTS = "imports_worker_restarts_total"
fires(
    "ImportWorkersRestarting",
    gauge(RESTARTS, "0x15 1+1x15", pool="p", cause="OutOfMemory"),
    "Workers of pool p were restarted 15 times in 15 minutes",
    severity="high",
    namespace="imports",
    pool="p",
)
quiet(
    "ImportWorkersRestarting",
    "they ended as they were asked to",
    gauge(RESTARTS, "0+1x60", pool="p", cause="Exit"),
)

# Providers


def calls(ok: str, timeout: str, refused: str = "0x60") -> dict[str, str]:
    return {
        key: value
        for outcome, values in {
            "ok": ok,
            "timeout": timeout,
            "refused": refused,
            "cancelled": "0+9x60",
        }.items()
        for key, value in gauge(
            "imports_provider_requests_total", values, of=WORKER, provider="shopify", outcome=outcome
        ).items()
    }


fires(
    "ImportProviderErrors",
    calls("0+75x60", "0+25x60"),
    "shopify fails 25% of our calls",
    severity="medium",
    namespace="imports",
    provider="shopify",
)
quiet("ImportProviderErrors", "one of ten fails", calls("0+90x60", "0+10x60"))
quiet("ImportProviderErrors", "too few calls say nothing", calls("0+1x60", "0+1x60"))
quiet(
    "ImportProviderErrors",
    "refused credentials are one company's trouble",
    calls("0+50x60", "0x60", "0+50x60"),
)


def breakers(opened: str) -> dict[str, str]:
    return {
        **gauge("imports_provider_breakers", opened, provider="shopify", state="Open"),
        **gauge("imports_provider_breakers", "5x60", provider="shopify", state="Closed"),
    }


fires(
    "ImportBreakerOpen",
    breakers("0 2x60"),
    "The circuit breakers of 2 connections to shopify are open",
    at="1m",
    severity="medium",
    namespace="imports",
    provider="shopify",
)
quiet("ImportBreakerOpen", "all are closed again", breakers("2x5 0x60"), at="6m")
THROTTLED = "imports_provider_throttled_total"
fires(
    "ImportProviderLimitViolated",
    gauge(THROTTLED, "0+1x60", of=WORKER, provider="shopify"),
    "shopify refused 10 calls as too many",
    severity="medium",
    namespace="imports",
    provider="shopify",
)
quiet(
    "ImportProviderLimitViolated",
    "one is chance",
    gauge(THROTTLED, "0x25 1x60", of=WORKER, provider="shopify"),
)

# The processes

UP = {
    **gauge("up", "1x60"),
    **gauge("up", "1x60", of=GATEWAY),
    **gauge("up", "1x60", of=WORKER),
}
fires(
    "ImportOperatorDown",
    UP | gauge("imports_leading", "1x10 0x60"),
    "No operator leads",
    at="13m",
    severity="critical",
    namespace="imports",
    why="a standby does not take over",
)
fires(
    "ImportOperatorDown",
    gauge("up", "1x60", of=WORKER),
    "No operator leads",
    at="2m",
    severity="critical",
    namespace="imports",
    why="no operator is there at all",
)
fires(
    "ImportOperatorDown",
    gauge("up", "1x60", of='job="node"'),
    "No operator leads",
    at="2m",
    severity="critical",
    why="nothing of ours is asked",
)
quiet(
    "ImportOperatorDown",
    "one of two leads",
    UP | LEADS | {'imports_leading{namespace="imports",pod="operator-1"}': "0x60"},
)
quiet("ImportOperatorDown", "a standby took over", UP | gauge("imports_leading", "1x10 0x1 1x60"), at="13m")


def loop(name: str, succeeded: str, *, every: int = 1, leads: str = "1x60") -> dict[str, str]:
    return {
        **gauge("imports_loop_last_success_timestamp_seconds", succeeded, loop=name),
        **gauge("imports_loop_interval_seconds", f"{every}x60", loop=name),
        **gauge("imports_leading", leads),
    }


LOOP = {"namespace": "imports", "pod": "operator-0"}
fires(
    "ImportLoopStuck",
    loop("dispatch", "0+60x10 600x60"),
    "The operator's loop dispatch has not succeeded for 3m 0s",
    at="13m",
    severity="critical",
    loop="dispatch",
    **LOOP,
)
fires(
    "ImportLoopStuck",
    loop("schedule", "0+60x10 600x60"),
    "The operator's loop schedule has not succeeded for 3m 0s",
    at="13m",
    severity="high",
    loop="schedule",
    **LOOP,
)
quiet(
    "ImportLoopStuck",
    "its rounds are planned 5 minutes apart",
    loop("repair", "0+60x10 600x60", every=300),
    at="20m",
)
quiet("ImportLoopStuck", "another replica leads", loop("dispatch", "0+60x10 600x60", leads="0x60"), at="20m")
quiet("ImportLoopStuck", "it goes round", loop("dispatch", "0+60x60"))
fires(
    "ImportGatewayDown",
    UP | gauge("up", "0x60", of=GATEWAY),
    "No gateway answers",
    at="2m",
    severity="critical",
    namespace="imports",
)
quiet(
    "ImportGatewayDown",
    "one of two answers",
    UP | {'up{job="imports/import-gateway",namespace="imports",pod="gateway-1"}': "0x60"},
)
REVIEWS = "imports_admission_reviews_total"
fires(
    "ImportWebhookFailing",
    gauge(REVIEWS, "0x10 1+1x60", of=GATEWAY, result="failed"),
    "The admission webhook does not answer, or can't ask its stores",
    at="15m",
    severity="high",
    namespace="imports",
    why="it answers with an error of ours",
)
fires(
    "ImportWebhookFailing",
    gauge("imports_admission_questions_failed_total", "0x10 1+1x60", of=GATEWAY, about="queue"),
    "The admission webhook does not answer, or can't ask its stores",
    at="15m",
    severity="high",
    namespace="imports",
    why="it lets through what it can't know",
)
fires(
    "ImportWebhookFailing",
    gauge(
        "apiserver_admission_webhook_fail_open_count",
        "0x10 1+1x60",
        of='job="apiserver"',
        name="importjobs.imports.avnz.io",
        type="validating",
    ),
    "The admission webhook does not answer, or can't ask its stores",
    at="15m",
    severity="high",
    why="the API server did not reach it",
)
quiet(
    "ImportWebhookFailing", "a refusal is an answer", gauge(REVIEWS, "0+5x60", of=GATEWAY, result="refused")
)
ENDS = "imports_admission_certificate_expiry_timestamp_seconds"
fires(
    "ImportCertificateExpiring",
    gauge(ENDS, f"{10 * 86400 + 1800}x60", of=GATEWAY),
    "The admission webhook's certificate ends in 10d 0h 0m 0s, and is not exchanged",
    severity="high",
    namespace="imports",
)
CASES.all.append(
    Case(
        alert="ImportCertificateExpiring",
        why="in the last two days it is urgent as well",
        series=gauge(ENDS, f"{86400 + 1800}x60", of=GATEWAY),
        says=tuple(
            (
                {"severity": severity, "namespace": "imports"},
                "The admission webhook's certificate ends in 1d 0h 0m 0s, and is not exchanged",
            )
            for severity in ("high", "critical")
        ),
    )
)
quiet("ImportCertificateExpiring", "15 days are left", gauge(ENDS, f"{15 * 86400}x60", of=GATEWAY))
quiet("ImportCertificateExpiring", "there is no certificate, and no webhook", gauge(ENDS, "0x60", of=GATEWAY))


def neighbours(neighbour: str, *up: str) -> dict[str, str]:
    return {
        f'imports_neighbour_up{{namespace="imports",pod="{n}",neighbour="{neighbour}"}}': values
        for n, values in enumerate(up)
    }


for alert, neighbour in {
    "ImportPostgresUnreachable": "PostgreSQL",
    "ImportRedisUnreachable": "Redis",
}.items():
    fires(
        alert,
        neighbours(neighbour, "1x5 0x60", "1x5 0x60", "1x60"),
        f"Most processes can't reach {neighbour}",
        at="7m",
        severity="critical",
        namespace="imports",
    )
    quiet(alert, "one of three can't", neighbours(neighbour, "0x60", "1x60", "1x60"))
    quiet(
        alert,
        "a failover took less than a minute",
        neighbours(neighbour, "1x5 0x1 1x60", "1x5 0x1 1x60"),
        at="8m",
    )
fires(
    "ImportMetricsMissing",
    gauge("up", "0x60", of=WORKER),
    "worker-0 does not answer Prometheus",
    at="5m",
    severity="medium",
    job="imports/import-worker",
    namespace="imports",
    pod="worker-0",
)
quiet("ImportMetricsMissing", "it is somebody else's", gauge("up", "0x60", of='job="somebody/import-thing"'))
fires(
    "ImportWatchdog", {}, "Alerts get from Prometheus to Alertmanager", at="0m", severity="none", why="always"
)

# Redis

fires(
    "ImportRedisNodeDown",
    gauge("redis_up", "1x5 0x60", of=REDIS),
    "Redis redis-0:9121 does not answer its exporter",
    at="7m",
    severity="high",
    job="redis",
    namespace="imports",
    instance="redis-0:9121",
)
quiet("ImportRedisNodeDown", "it answers", gauge("redis_up", "1x60", of=REDIS))
ON_REDIS = {"job": "redis", "namespace": "imports", "instance": "redis-0:9121"}


def main_thread(user: int, system: int) -> dict[str, str]:
    return {
        **gauge("redis_cpu_user_main_thread_seconds_total", f"0+{user}x60", of=REDIS),
        **gauge("redis_cpu_sys_main_thread_seconds_total", f"0+{system}x60", of=REDIS),
    }


fires(
    "ImportRedisCpuHigh",
    main_thread(30, 18),
    "Redis redis-0:9121 uses 80% of its main thread",
    severity="medium",
    **ON_REDIS,
)
quiet("ImportRedisCpuHigh", "it uses 75 %", main_thread(30, 15))


def memory(used: int, most: int = 100) -> dict[str, str]:
    return {
        **gauge("redis_memory_used_bytes", f"{used}x60", of=REDIS),
        **gauge("redis_memory_max_bytes", f"{most}x60", of=REDIS),
    }


fires(
    "ImportRedisMemoryHigh",
    memory(90),
    "Redis redis-0:9121 has used 90% of its memory",
    at="5m",
    severity="critical",
    **ON_REDIS,
)
quiet("ImportRedisMemoryHigh", "85 % are used", memory(85))
quiet("ImportRedisMemoryHigh", "it has no limit", memory(90, 0))
EVICTED = "redis_evicted_keys_total"
fires(
    "ImportRedisEvictions",
    gauge(EVICTED, "0x5 7x60", of=REDIS),
    "Redis redis-0:9121 evicts keys",
    at="6m",
    severity="critical",
    **ON_REDIS,
)
quiet("ImportRedisEvictions", "it did once, long ago", gauge(EVICTED, "7x60", of=REDIS))
LAG, REPLICA = "redis_connected_slave_lag_seconds", {"slave_ip": "10.0.0.2", "slave_port": "6379"}
fires(
    "ImportRedisReplicationLag",
    gauge(LAG, "6x60", of=REDIS, slave_state="online", **REPLICA),
    "A replica of Redis redis-0:9121 is 6 s behind",
    at="3m",
    severity="medium",
    namespace="imports",
    instance="redis-0:9121",
    **REPLICA,
)
quiet(
    "ImportRedisReplicationLag",
    "5 s are usual",
    gauge(LAG, "5x60", of=REDIS, slave_state="online", **REPLICA),
)
