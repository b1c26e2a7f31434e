"""What is alarming about Redis and the database: metrics, thresholds and how urgent each is. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from infra.configuration import AlarmsSection

Comparison = Literal["GreaterThanThreshold", "LessThanThreshold"]


@dataclass(frozen=True, kw_only=True)
class AlarmRule:
    """One CloudWatch alarm; `periods` of `period_seconds` in a row must be beyond the threshold."""

    name: str
    description: str
    namespace: str
    metric: str
    dimensions: Mapping[str, str]
    threshold: float
    critical: bool = False
    comparison: Comparison = "GreaterThanThreshold"
    statistic: Literal["Average", "Maximum", "Minimum", "Sum"] = "Average"
    period_seconds: int = 60
    periods: int = 5
    # A node that was replaced, or a primary that has no lag, tells nothing; that is no fault.
    missing_data: Literal["notBreaching", "breaching", "missing"] = "notBreaching"


def redis_rules(node: str, settings: AlarmsSection) -> list[AlarmRule]:
    """List the alarms of one node of the replication group."""
    rule = partial(AlarmRule, namespace="AWS/ElastiCache", dimensions={"CacheClusterId": node})
    suffix = node.rsplit("-", 1)[-1]
    return [
        rule(
            name=f"redis-cpu-{suffix}",
            # The engine's own thread: of several CPUs, the machine's average hides that the engine is at its end.
            metric="EngineCPUUtilization",
            threshold=settings.redis_cpu_percent,
            description=f"Redis {node}: the engine's CPU is above {settings.redis_cpu_percent} % for 5 minutes. "
            "Handing over jobs gets slow. Look for long commands, then take a larger redis.node_type.",
        ),
        rule(
            name=f"redis-memory-{suffix}",
            metric="DatabaseMemoryUsagePercentage",
            threshold=settings.redis_memory_percent,
            critical=True,
            description=f"Redis {node}: {settings.redis_memory_percent} % of memory is used for 5 minutes. When it "
            "is full, Redis refuses writes (noeviction) and no job is handed over. Look for keys outside the prefix "
            "imports.",
        ),
        rule(
            name=f"redis-evictions-{suffix}",
            metric="Evictions",
            statistic="Sum",
            threshold=0,
            periods=1,
            critical=True,
            description=f"Redis {node} evicts keys: its parameter group is not ours any more (maxmemory-policy must be "
            "noeviction). Jobs are not lost, but handed over again and again.",
        ),
        rule(
            name=f"redis-lag-{suffix}",
            metric="ReplicationLag",
            statistic="Maximum",
            threshold=settings.redis_lag_seconds,
            periods=3,
            description=f"Redis {node} is more than {settings.redis_lag_seconds} s behind its primary. A failover now "
            "loses so many seconds of hand-overs, which are repeated from PostgreSQL.",
        ),
    ]


def database_rules(
    database: str, settings: AlarmsSection, *, storage_gib: int, max_connections: int
) -> list[AlarmRule]:
    """List the alarms of the database: `storage_gib` it began with, `max_connections` its server takes."""
    rule = partial(AlarmRule, namespace="AWS/RDS", dimensions={"DBInstanceIdentifier": database})
    gib = 1024**3
    low = storage_gib * settings.database_free_storage_percent / 100
    connections = max_connections * settings.database_connections_percent // 100
    return [
        rule(
            name="database-storage",
            metric="FreeStorageSpace",
            statistic="Minimum",
            comparison="LessThanThreshold",
            threshold=low * gib,
            missing_data="missing",
            description=f"{database}: less than {low:.0f} GiB are free. Storage grows by itself up to "
            "postgres.max_allocated_storage_gib; look whether it still can.",
        ),
        rule(
            name="database-storage-critical",
            metric="FreeStorageSpace",
            statistic="Minimum",
            comparison="LessThanThreshold",
            threshold=low / 2 * gib,
            critical=True,
            missing_data="missing",
            description=f"{database}: less than {low / 2:.0f} GiB are free and growing has not helped. A full database "
            "stops everything: raise postgres.max_allocated_storage_gib.",
        ),
        rule(
            name="database-cpu",
            metric="CPUUtilization",
            threshold=settings.database_cpu_percent,
            periods=10,
            missing_data="missing",
            description=f"{database}: CPU is above {settings.database_cpu_percent} % for 10 minutes. Look at "
            "Performance Insights for the statement; then fewer workers or a larger postgres.instance_class.",
        ),
        rule(
            name="database-connections",
            metric="DatabaseConnections",
            statistic="Maximum",
            threshold=connections,
            critical=True,
            missing_data="missing",
            description=f"{database}: more than {connections} of {max_connections} connections are in use. At the "
            "limit no process can claim or finish jobs: lower application.max_workers, or raise "
            "postgres.max_connections.",
        ),
    ]


def proxy_rules(proxy: str) -> list[AlarmRule]:
    """List the alarms of the database's proxy: the processes let it share its connections, so none is to be pinned."""
    return [
        AlarmRule(
            name="database-proxy-pinned",
            namespace="AWS/RDS",
            dimensions={"ProxyName": proxy},
            metric="DatabaseConnectionsCurrentlySessionPinned",
            # Each of the proxy's machines reports its own.
            statistic="Sum",
            threshold=5,
            periods=15,
            description=f"{proxy}: more than 5 connections are pinned to one client each, and the budget of "
            f"connections counts on none. The log group /aws/rds/proxy/{proxy} names the reason: most likely limits "
            "that the initialization query should set, or another program that uses the proxy.",
        )
    ]
