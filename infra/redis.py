"""Redis: an ElastiCache replication group that only the workers' group reaches, with its auth token."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.component import Component, Context
from infra.configuration import RedisSection
from infra.secrets import keep_secret, make_password

PORT = 6379


@dataclass(frozen=True, kw_only=True)
class RedisArgs:
    """What Redis depends on."""

    settings: RedisSection
    vpc_id: pulumi.Input[str]
    subnet_ids: pulumi.Input[list[str]]
    workers_security_group_id: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    log_retention_days: int


class Redis(Component):
    """One primary and its replicas in different zones; durability comes from PostgreSQL, replicas and snapshots."""

    node_names: list[str]
    """Names of the nodes, as CloudWatch's metrics have them."""
    primary_endpoint: pulumi.Output[str]
    """Host name that follows the primary."""
    reader_endpoint: pulumi.Output[str]
    """Host name of the replicas."""
    secret_arn: pulumi.Output[str]
    """Secret with `host`, `port`, `token` and `url`."""
    url: pulumi.Output[str]
    """REDIS_URL of all processes; a secret."""

    def __init__(self, context: Context, args: RedisArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(context, "redis", opts)
        settings = args.settings
        token = make_password(self, version=settings.token_version)
        group = self._make_group(args, token)
        self.node_names = [f"{self.child_name()}-{number:03}" for number in range(1, settings.replicas + 2)]
        self.primary_endpoint = group.primary_endpoint_address
        self.reader_endpoint = group.reader_endpoint_address
        self.url = pulumi.Output.secret(
            pulumi.Output.concat("rediss://:", token, "@", self.primary_endpoint, f":{PORT}/0")
        )
        self.secret_arn = keep_secret(
            self,
            key_arn=args.key_arn,
            description=f"Redis of {context.prefix}: host, port, token, url",
            values=pulumi.Output.all(self.primary_endpoint, token, self.url).apply(
                lambda known: {"host": known[0], "port": PORT, "token": known[1], "url": known[2]}
            ),
        )
        self.register_outputs(
            {
                "primary_endpoint": self.primary_endpoint,
                "reader_endpoint": self.reader_endpoint,
                "secret_arn": self.secret_arn,
            }
        )

    def _make_group(self, args: RedisArgs, token: pulumi.Output[str]) -> aws.elasticache.ReplicationGroup:
        settings = args.settings
        subnets = aws.elasticache.SubnetGroup(
            self.child_name(),
            description=f"Private subnets of {self.context.prefix}",
            subnet_ids=args.subnet_ids,
            tags=self.tags(),
            opts=self.child(),
        )
        parameters = aws.elasticache.ParameterGroup(
            self.child_name(),
            family=f"{settings.engine}{settings.engine_version.split('.')[0]}",
            description="No entry of a queue may be evicted",
            parameters=[
                # BullMQ's jobs are not a cache: a full server must refuse, not forget.
                aws.elasticache.ParameterGroupParameterArgs(name="maxmemory-policy", value="noeviction"),
            ],
            tags=self.tags(),
            opts=self.child(),
        )
        has_replicas = settings.replicas > 0
        return aws.elasticache.ReplicationGroup(
            self.child_name(),
            replication_group_id=self.child_name(),
            description=f"Queues of {self.context.prefix}",
            engine=settings.engine,
            engine_version=settings.engine_version,
            node_type=settings.node_type,
            port=PORT,
            num_cache_clusters=settings.replicas + 1,
            automatic_failover_enabled=has_replicas,
            multi_az_enabled=has_replicas,
            parameter_group_name=parameters.name,
            subnet_group_name=subnets.name,
            security_group_ids=[self._make_security_group(args)],
            at_rest_encryption_enabled=True,
            kms_key_id=args.key_arn,
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            auth_token=token,
            auth_token_update_strategy="ROTATE",  # noqa: S106 - the name of a way
            snapshot_retention_limit=settings.snapshot_retention_days,
            snapshot_window=settings.snapshot_window,
            maintenance_window=settings.maintenance_window,
            auto_minor_version_upgrade=True,
            apply_immediately=not self.context.is_production,
            log_delivery_configurations=[
                aws.elasticache.ReplicationGroupLogDeliveryConfigurationArgs(
                    destination=self._make_log_group(args, log),
                    destination_type="cloudwatch-logs",
                    log_format="json",
                    log_type=log,
                )
                for log in ("slow-log", "engine-log")
            ],
            tags=self.tags(),
            opts=self.child(protect=self.context.is_production),
        )

    def _make_security_group(self, args: RedisArgs) -> pulumi.Output[str]:
        group = aws.ec2.SecurityGroup(
            self.child_name(),
            vpc_id=args.vpc_id,
            description="Redis: lets in the workers' group and nobody else",
            tags=self.tags(),
            opts=self.child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            self.child_name("from-workers"),
            security_group_id=group.id,
            referenced_security_group_id=args.workers_security_group_id,
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            description="Operator, workers, gateway",
            tags=self.tags("from-workers"),
            opts=self.child(),
        )
        return group.id

    def _make_log_group(self, args: RedisArgs, log: str) -> pulumi.Output[str]:
        return aws.cloudwatch.LogGroup(
            self.child_name(log),
            name=f"/{self.context.prefix}/redis/{log}",
            retention_in_days=args.log_retention_days,
            kms_key_id=args.key_arn,
            tags=self.tags(log),
            opts=self.child(),
        ).name
