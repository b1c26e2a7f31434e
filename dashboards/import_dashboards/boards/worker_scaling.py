"""Worker Scaling: are there enough workers, and are they well?"""

from import_dashboards.model import (
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

_CPU = f'sum by (pod) (rate(process_cpu_seconds_total{{job=~".*import-worker"}}[{RATE}]))'
_MEMORY = 'max by (pod) (process_resident_memory_bytes{job=~".*import-worker"})'
_LAG = quantile(0.99, 'imports_event_loop_lag_seconds{job=~".*import-worker"}', "pod")
_USED = "sum (imports_worker_active_jobs) / (sum (imports_worker_concurrency) > 0)"

_NOW = Row(
    title="Now",
    panels=(
        Panel(
            title="Ready",
            meaning="Workers that are ready. Fewer than the minimum for 3 min is an alert.",
            kind="number",
            width=6,
            height=4,
            queries=(ask(f"max by (pool) {led('imports_workers_ready')}", "{{pool}}"),),
        ),
        Panel(
            title="Wished for",
            meaning="Workers there should be. It stays above ready: pods do not start.",
            kind="number",
            width=6,
            height=4,
            queries=(ask(f"max by (pool) {led('imports_workers_desired')}", "{{pool}}"),),
        ),
        Panel(
            title="Places in use",
            meaning="Running jobs of all that the workers could run at the same time.",
            kind="number",
            unit="percentunit",
            decimals=0,
            width=6,
            height=4,
            queries=(ask(_USED),),
        ),
        Panel(
            title="Restarts in an hour",
            meaning="Worker containers that were started again, whatever ended them.",
            kind="number",
            decimals=0,
            width=6,
            height=4,
            thresholds=((1, YELLOW), (10, RED)),
            queries=(ask(rare("sum (increase(imports_worker_restarts_total[1h]))")),),
        ),
    ),
)

_FLEET = Row(
    title="The fleet follows the queue",
    panels=(
        Panel(
            title="Workers",
            meaning="At the maximum with a rising depth: raise maxReplicas, or look why jobs take long.",
            width=12,
            queries=(
                ask(f"sum {led('imports_workers_desired')}", "wished for"),
                ask(f"sum {led('imports_workers')}", "there"),
                ask(f"sum {led('imports_workers_ready')}", "ready"),
                ask(f"sum {led('imports_workers_busy')}", "busy"),
                ask(f"sum {led('imports_workers_minimum')}", "minimum"),
                ask(f"sum {led('imports_workers_maximum')}", "maximum"),
            ),
        ),
        Panel(
            title="Depth for each worker",
            meaning="The target is 10 jobs for a worker.",
            width=12,
            thresholds=((10, YELLOW),),
            queries=(
                ask(
                    f"sum {led('imports_queue_depth')} / (sum {led('imports_workers_ready')} > 0)",
                    "jobs for a ready worker",
                ),
            ),
        ),
        Panel(
            title="Changes",
            meaning="Of the number of workers, a second, out and in.",
            unit="ops",
            queries=(ask(rare(rate("imports_scalings_total", "direction")), "{{direction}}"),),
        ),
        Panel(
            title="Reaction",
            meaning="From the measurement that showed another need to the accepted change of replicas.",
            unit="s",
            queries=quantiles("imports_scaling_reaction_seconds"),
        ),
        Panel(
            title="Running jobs and places",
            meaning="Over all workers.",
            queries=(
                ask("sum (imports_worker_active_jobs)", "running jobs"),
                ask("sum (imports_worker_concurrency)", "places"),
            ),
        ),
    ),
)

_WORKERS = Row(
    title="Each worker",
    panels=(
        Panel(
            title="CPU",
            meaning="Cores in use. All at their limit: more workers, or a larger pod.",
            queries=(ask(_CPU, "{{pod}}"),),
        ),
        Panel(
            title="Memory",
            meaning="Resident. It rises to the limit before a container is killed (OutOfMemory).",
            unit="bytes",
            queries=(ask(_MEMORY, "{{pod}}"),),
        ),
        Panel(
            title="Jobs completed",
            meaning="A second, by worker. One that completes nothing while others do: delete its pod.",
            unit="ops",
            queries=(ask(rate('imports_jobs_total{outcome="completed"}', "pod"), "{{pod}}"),),
        ),
        Panel(
            title="Lag of the event loop, p99",
            meaning="Above a second a worker is blocked and renews no leases in time.",
            unit="s",
            thresholds=((1, RED),),
            queries=(ask(_LAG, "{{pod}}"),),
        ),
        Panel(
            title="Restarts by cause",
            meaning="OutOfMemory: raise the pool's memory limit, or lower IMAGE_CONCURRENCY.",
            unit="ops",
            queries=(ask(rare(rate("imports_worker_restarts_total", "cause")), "{{cause}}"),),
        ),
        Panel(
            title="Errors of the queue",
            meaning="Locks, acknowledgements and connections to Redis; the jobs go on.",
            unit="ops",
            queries=(
                ask(rate("imports_queue_errors_total"), "errors"),
                ask(rare(rate("imports_messages_dropped_total", "reason")), "dropped {{reason}}"),
            ),
        ),
    ),
)

WORKER_SCALING = Board(
    name="worker-scaling",
    title="Imports: worker scaling",
    answers="Are there enough workers, and are they well?",
    rows=(_NOW, _FLEET, _WORKERS),
)
