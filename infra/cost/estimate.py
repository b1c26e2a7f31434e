"""From a sizing, a workload and prices to the lines of a month's bill. Pure: it reads and knows nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from infra.cost.prices import PriceList
from infra.cost.sizing import Sizing
from infra.cost.units import (
    HOURS_PER_MONTH,
    SECONDS_PER_HOUR,
    CostError,
    Quantity,
    gigabytes,
    gigabytes_kept,
    gigabytes_of_bytes,
    hours_of,
    months_of,
    requests,
    vcpu_hours_of,
)
from infra.cost.workload import Workload

WORKERS = "workers"
LOG_RETENTION_MONTHS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill: a group (a part of the stack), what it is, and US dollars for the month."""

    group: str
    text: str
    dollars: float
    verified: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """One month."""

    jobs: float
    mean_workers: float
    lines: tuple[Line, ...]

    @property
    def dollars(self) -> float:
        """US dollars for the month."""
        return sum(line.dollars for line in self.lines)

    @property
    def dollars_per_job(self) -> float | None:
        """US dollars for each job; None without jobs."""
        return self.dollars / self.jobs if self.jobs else None

    @property
    def unverified_dollars(self) -> float:
        """How much of it stands on prices that nobody has verified."""
        return sum(line.dollars for line in self.lines if not line.verified)

    def groups(self) -> dict[str, float]:
        """US dollars by part of the stack, in the order of the bill."""
        sums: dict[str, float] = {}
        for line in self.lines:
            sums[line.group] = sums.get(line.group, 0.0) + line.dollars
        return sums


def mean_workers(sizing: Sizing, workload: Workload) -> float:
    """How many workers run on average; raise CostError where the pool's maximum can't do the jobs."""
    needed = workload.worker_hours / HOURS_PER_MONTH
    if needed > sizing.maximum_workers:
        raise CostError(
            f"{workload.jobs:,.0f} jobs a month keep {needed:.1f} workers busy on average, and the pool has at most"
            f" {sizing.maximum_workers}: raise the maximum of workers, or say how long a job takes"
            " (--worker-seconds-per-job)"
        )
    return max(float(sizing.minimum_workers), needed)


def estimate_month(sizing: Sizing, workload: Workload, prices: PriceList) -> Estimate:
    """Estimate one month with the workload's jobs."""
    workers = mean_workers(sizing, workload)
    return Estimate(workload.jobs, workers, tuple(_lines(sizing, workload, prices, workers)))


def estimate_quiet(sizing: Sizing, workload: Workload, prices: PriceList) -> Estimate:
    """A month without any job: the least that the stack costs."""
    return estimate_month(sizing, replace(workload, jobs=0), prices)


def estimate_peak(sizing: Sizing, workload: Workload, prices: PriceList, *, jobs: float) -> Estimate:
    """A month in which all workers of the pool's maximum run the whole time, with so many jobs.

    Fewer where the workers can't do so many; never fewer than the workload's own.
    """
    workers = float(sizing.maximum_workers)
    possible = workers * HOURS_PER_MONTH * SECONDS_PER_HOUR * workload.utilisation
    if workload.busy_seconds_per_job:
        jobs = min(jobs, possible / workload.busy_seconds_per_job)
    busy = replace(workload, jobs=max(jobs, workload.jobs))
    return Estimate(busy.jobs, workers, tuple(_lines(sizing, busy, prices, workers)))


def _lines(sizing: Sizing, workload: Workload, prices: PriceList, workers: float) -> Iterator[Line]:
    for group, make in _GROUPS:
        for text, dollars, verified in make(sizing, workload, prices, workers):
            if dollars:
                yield Line(group, text, dollars, verified)


Priced = Iterable[tuple[str, float, bool]]


def _priced(prices: PriceList, name: str, quantity: Quantity, text: str) -> tuple[str, float, bool]:
    if not quantity.amount:
        return text, 0.0, True
    price = prices.price(name)
    return text, price.times(quantity), price.verified


def _network(sizing: Sizing, workload: Workload, prices: PriceList, _workers: float) -> Priced:
    endpoints = sizing.interface_endpoints * sizing.zones
    yield _priced(prices, "nat gateway", hours_of(sizing.nat_gateways), "NAT gateways")
    if sizing.nat_gateways:
        loaded = gigabytes_of_bytes(workload.jobs * workload.downloaded_bytes_per_job)
        yield _priced(prices, "nat traffic", loaded, f"{loaded.amount:,.0f} GB through them")
    text = f"{sizing.interface_endpoints} endpoints in {sizing.zones} zones"
    yield _priced(prices, "interface endpoint", hours_of(endpoints), text)
    if sizing.zones > 1:
        crossing = gigabytes_of_bytes(workload.jobs * workload.zone_crossing_bytes_per_job)
        yield _priced(prices, "zone crossing", crossing, f"{crossing.amount:,.0f} GB between zones")


def _cluster(sizing: Sizing, _workload: Workload, prices: PriceList, _workers: float) -> Priced:
    yield _priced(prices, "eks cluster", hours_of(sizing.control_planes), "control plane")
    nodes, instance_type = sizing.system_nodes, sizing.system_instance_type
    yield from _nodes(sizing, prices, nodes=nodes, instance_type=instance_type, spot=False)
    yield _priced(prices, "ebs gp3", gigabytes_kept(sizing.prometheus_gigabytes), "Prometheus' volumes")


def _workers_of(sizing: Sizing, _workload: Workload, prices: PriceList, workers: float) -> Priced:
    nodes = workers / sizing.workers_per_node
    instance_type = sizing.worker_instance_type
    yield from _nodes(sizing, prices, nodes=nodes, instance_type=instance_type, spot=sizing.spot_workers)


def _nodes(sizing: Sizing, prices: PriceList, *, nodes: float, instance_type: str, spot: bool) -> Priced:
    """Nodes with their disks; what EKS Auto Mode asks for each is a share of the price on demand, spot or not."""
    hours = hours_of(nodes)
    text, dollars, verified = _priced(prices, f"ec2 {instance_type}", hours, f"{nodes:.1f} × {instance_type}")
    if spot:
        yield f"{text}, spot", dollars * (1 - prices.spot_discount), False
    else:
        yield text, dollars, verified
    if sizing.automatic_nodes:
        yield "EKS Auto Mode for them", dollars * prices.automatic_nodes_share, False
    yield _priced(prices, "ebs gp3", gigabytes_kept(nodes * sizing.node_disk_gigabytes), "their disks")


def _redis(sizing: Sizing, _workload: Workload, prices: PriceList, _workers: float) -> Priced:
    name = f"elasticache {sizing.redis_engine} {sizing.redis_node_type}"
    text = f"{sizing.redis_nodes} × {sizing.redis_node_type} ({sizing.redis_engine})"
    yield _priced(prices, name, hours_of(sizing.redis_nodes), text)


def _postgres(sizing: Sizing, _workload: Workload, prices: PriceList, _workers: float) -> Priced:
    if sizing.postgres_class is None:
        return
    zones = sizing.postgres_zones
    text = (
        f"{sizing.postgres_class} in {zones} zones" if zones > 1 else f"{sizing.postgres_class} in one zone"
    )
    yield _priced(prices, f"rds {sizing.postgres_class}", hours_of(zones), text)
    kept = gigabytes_kept(sizing.postgres_storage_gigabytes * zones)
    yield _priced(prices, "rds gp3", kept, f"{sizing.postgres_storage_gigabytes} GB of storage")
    if sizing.postgres_proxy:
        yield _priced(prices, "rds proxy", vcpu_hours_of(sizing.postgres_vcpus), "RDS Proxy")


def _storage(sizing: Sizing, workload: Workload, prices: PriceList, _workers: float) -> Priced:
    puts = requests(workload.jobs * workload.puts_per_job)
    yield _priced(prices, "s3 writes", puts, f"{puts.amount:,.0f} thousand writes")
    added = workload.jobs * workload.stored_bytes_per_job
    kept = gigabytes_kept(
        gigabytes_of_bytes(added).amount + (workload.stored_gigabytes if sizing.own_bucket else 0)
    )
    yield _priced(prices, "s3 storage", kept, f"{kept.amount:,.0f} GB")


def _logs(sizing: Sizing, workload: Workload, prices: PriceList, _workers: float) -> Priced:
    written = (
        workload.log_gigabytes_base + gigabytes_of_bytes(workload.jobs * workload.log_bytes_per_job).amount
    )
    yield _priced(prices, "logs ingestion", gigabytes(written), f"{written:,.0f} GB of logs")
    kept = gigabytes_kept(written * LOG_RETENTION_MONTHS)
    yield _priced(prices, "logs storage", kept, f"kept for up to {LOG_RETENTION_MONTHS} months")
    yield _priced(prices, "alarm", months_of(sizing.alarms), "alarms")


def _rest(sizing: Sizing, _workload: Workload, prices: PriceList, _workers: float) -> Priced:
    yield _priced(prices, "key", months_of(sizing.keys), "encryption keys")
    yield _priced(prices, "secret", months_of(sizing.secrets), "secrets")
    yield _priced(
        prices,
        "ecr storage",
        gigabytes_kept(sizing.image_gigabytes),
        "images",
    )


_GROUPS: tuple[tuple[str, Callable[[Sizing, Workload, PriceList, float], Priced]], ...] = (
    (WORKERS, _workers_of),
    ("cluster", _cluster),
    ("Redis", _redis),
    ("PostgreSQL", _postgres),
    ("network", _network),
    ("storage", _storage),
    ("logs and alarms", _logs),
    ("keys, secrets, images", _rest),
)
