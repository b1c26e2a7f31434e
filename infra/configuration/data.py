"""The sections of what holds data: network, encryption, Redis, PostgreSQL, object storage."""

from __future__ import annotations

import ipaddress
from typing import Literal, Self

from pydantic import Field, model_validator

from infra.configuration.section import (
    Arn,
    CidrBlock,
    DailyWindow,
    Section,
    SecurityGroupId,
    SubnetId,
    VpcId,
    WeeklyWindow,
)

NatGateways = Literal["none", "one", "per-zone"]


class NetworkSection(Section):
    """A VPC of its own, or an existing one with its private subnets."""

    vpc_id: VpcId | None = Field(default=None, description="An existing VPC; empty: one is made")
    private_subnet_ids: tuple[SubnetId, ...] = Field(
        default=(), description="Private subnets of the existing VPC, in at least two zones, with a way out"
    )
    workers_security_group_id: SecurityGroupId | None = Field(
        default=None,
        description="The security group of an existing cluster's nodes or pods, which may reach the databases; "
        "empty: one is made",
    )
    cidr_block: CidrBlock = Field(
        default="10.40.0.0/16", description="Addresses of a VPC that is made, /16 to /20"
    )
    availability_zones: int = Field(default=3, ge=2, le=4, description="Zones of a VPC that is made")
    nat_gateways: NatGateways = Field(
        default="per-zone",
        description="Ways out to shops and image servers: `per-zone` survives the loss of a zone, `one` costs "
        "less, `none` is for networks with a way out of their own",
    )
    interface_endpoints: tuple[str, ...] = Field(
        default=("ecr.api", "ecr.dkr", "logs", "secretsmanager", "sts", "eks-auth"),
        description="AWS services reached without NAT; S3 always is, free of charge. Each costs by zone and hour",
    )
    flow_logs: bool = Field(default=True, description="Record refused connections in CloudWatch Logs")
    flow_log_retention_days: Literal[7, 14, 30, 60, 90, 365] = Field(
        default=30, description="Days that flow logs are kept"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.vpc_id and len(self.private_subnet_ids) < 2:
            raise ValueError(
                "an existing VPC (vpc_id) needs its subnets. Fix: list at least two private subnets of two zones "
                "in private_subnet_ids"
            )
        if self.private_subnet_ids and not self.vpc_id:
            raise ValueError(
                "private_subnet_ids are of no VPC. Fix: set vpc_id, or remove private_subnet_ids"
            )
        if self.workers_security_group_id and not self.vpc_id:
            raise ValueError(
                "workers_security_group_id is of no existing VPC. Fix: set vpc_id, or remove "
                "workers_security_group_id"
            )
        try:
            block = ipaddress.ip_network(self.cidr_block)
        except ValueError as error:
            raise ValueError(f"cidr_block: {error}. Fix: write a network address, as 10.40.0.0/16") from error
        if not 16 <= block.prefixlen <= 20:
            raise ValueError("cidr_block must be a /16 to /20 network. Fix: write one, as 10.40.0.0/16")
        return self


class EncryptionSection(Section):
    """The key that everything at rest is encrypted with."""

    kms_key_arn: Arn | None = Field(
        default=None,
        description="An existing key; its policy must let CloudWatch (alarms and logs) and, with CloudFront, "
        "cloudfront.amazonaws.com use it. Empty: one is made",
    )


class RedisSection(Section):
    """ElastiCache: one primary with replicas; a short buffer, the jobs themselves are in PostgreSQL."""

    engine: Literal["valkey", "redis"] = Field(default="valkey", description="Valkey costs 20 % less")
    engine_version: str = Field(
        default="8.0", pattern=r"^\d+\.\d+$", description="Major and minor version; `7.1` for Redis"
    )
    node_type: str = Field(
        default="cache.r7g.large", pattern=r"^cache\.[a-z0-9]+\.[a-z0-9]+$", description="Size of each node"
    )
    replicas: int = Field(default=2, ge=0, le=5, description="Replicas beside the primary; 0 has no failover")
    snapshot_retention_days: int = Field(default=5, ge=0, le=35, description="Days of snapshots; 0: none")
    snapshot_window: DailyWindow = Field(default="03:00-05:00", description="When snapshots are taken (UTC)")
    maintenance_window: WeeklyWindow = Field(
        default="mon:05:00-mon:07:00", description="When AWS may change versions (UTC)"
    )
    token_version: int = Field(
        default=1, ge=1, description="Raise it to make a new auth token; the old one is valid until the next"
    )

    @model_validator(mode="after")
    def _known_version(self) -> Self:
        major = int(self.engine_version.split(".")[0])
        if self.engine == "redis" and major != 7:
            raise ValueError(
                'Redis is offered in version 7. Fix: set engine_version: "7.1", or engine: valkey'
            )
        if self.engine == "valkey" and major < 7:
            raise ValueError('Valkey begins with version 7.2. Fix: set engine_version: "8.0"')
        return self


class PostgresSection(Section):
    """RDS for PostgreSQL, or the platform's existing database by its secret."""

    existing_secret_arn: Arn | None = Field(
        default=None,
        description="Secret of the platform's database: JSON with `username`, `password`, `host`, `port`, "
        "`dbname`, and optionally `proxyHost` (everything but LISTEN and migrations goes there; "
        "docs/how-to/install.md says how it must be set up). Empty: a database is made",
    )
    existing_max_connections: int = Field(
        default=1000, ge=20, description="Connections of the existing database that imports may use"
    )
    existing_security_group_id: SecurityGroupId | None = Field(
        default=None,
        description="Security group of the existing database; the workers' group is let in on port 5432",
    )
    engine_version: str = Field(
        default="18", pattern=r"^\d+(\.\d+)?$", description="Major version, or major.minor"
    )
    instance_class: str = Field(
        default="db.m7g.large", pattern=r"^db\.[a-z0-9]+\.[a-z0-9]+$", description="Size of the instance"
    )
    multi_az: bool = Field(default=True, description="A synchronous standby in another zone")
    allocated_storage_gib: int = Field(default=100, ge=20, le=65_536, description="Storage at the start, GiB")
    max_allocated_storage_gib: int = Field(
        default=1000, ge=20, le=65_536, description="Storage that it may grow to by itself, GiB"
    )
    backup_retention_days: int = Field(
        default=14, ge=1, le=35, description="Days that one can go back to any second of"
    )
    backup_window: DailyWindow = Field(default="02:00-03:00", description="When backups are taken (UTC)")
    maintenance_window: WeeklyWindow = Field(
        default="mon:05:00-mon:06:00", description="When AWS may change versions (UTC)"
    )
    deletion_protection: bool = Field(
        default=True, description="Refuses to delete the database, whoever asks; off leaves no last snapshot"
    )
    max_connections: int | None = Field(
        default=None, ge=50, le=5000, description="Server's limit; empty: worked out from the need, with room"
    )
    proxy: bool = Field(
        default=True,
        description="RDS Proxy for everything but LISTEN: sessions share the server's connections, and a failover "
        "takes seconds",
    )
    password_version: int = Field(default=1, ge=1, description="Raise it to make a new password")

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.max_allocated_storage_gib < self.allocated_storage_gib:
            raise ValueError(
                "max_allocated_storage_gib is below allocated_storage_gib. Fix: raise max_allocated_storage_gib"
            )
        return self


class StorageSection(Section):
    """S3 for images and thumbnails, or the platform's existing bucket."""

    existing_bucket: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="The platform's bucket; nothing about it is changed. Empty: one is made",
    )
    noncurrent_days: int = Field(
        default=30, ge=1, le=3650, description="Days that replaced and deleted objects can be brought back"
    )
    infrequent_access_days: int | None = Field(
        default=None,
        ge=30,
        le=3650,
        description="Days after which objects move to S3 Intelligent-Tiering; empty: they stay",
    )
    force_destroy: bool = Field(
        default=False, description="Let `pulumi destroy` delete a bucket with objects in it; for tests only"
    )
    cloudfront: bool = Field(default=False, description="CloudFront in front of the bucket's thumbnails")
    cloudfront_aliases: tuple[str, ...] = Field(default=(), description="Host names of the distribution")
    cloudfront_certificate_arn: Arn | None = Field(
        default=None, description="ACM certificate in us-east-1 for the host names"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.cloudfront_aliases and not self.cloudfront_certificate_arn:
            raise ValueError(
                "cloudfront_aliases need a certificate. Fix: set cloudfront_certificate_arn to an ACM certificate "
                "in us-east-1"
            )
        if self.existing_bucket and self.cloudfront:
            raise ValueError(
                "CloudFront would change the policy of the existing bucket. Fix: set cloudfront: false, or remove "
                "existing_bucket"
            )
        return self
