"""RDS Proxy: many sessions of processes share few connections of the server, and outlive a failover."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.component import Component, Context
from infra.trust import allow, policy, service_trust

INIT_QUERY = "SET statement_timeout = '10s'; SET transaction_timeout = '15s'; SET TimeZone = 'UTC'"
"""What the processes' own sessions begin with: the proxy takes no options, and a SET by a client would bind one of its
connections to that client for good. A test compares the limits with the processes' own."""


@dataclass(frozen=True, kw_only=True)
class DatabaseProxyArgs:
    """What the proxy depends on."""

    vpc_id: pulumi.Input[str]
    subnet_ids: pulumi.Input[list[str]]
    workers_security_group_id: pulumi.Input[str]
    database_security_group_id: pulumi.Input[str]
    database_identifier: pulumi.Input[str]
    secret_arn: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    max_connections_percent: int
    port: int
    log_retention_days: int


class DatabaseProxy(Component):
    """The proxy, its way to the database and its right to read the secret."""

    endpoint: pulumi.Output[str]
    """Host name of the proxy."""

    def __init__(
        self, context: Context, args: DatabaseProxyArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "postgres-proxy", opts)
        logs = aws.cloudwatch.LogGroup(
            self.child_name(),
            name=f"/aws/rds/proxy/{self.child_name()}",
            retention_in_days=args.log_retention_days,
            kms_key_id=args.key_arn,
            tags=self.tags(),
            opts=self.child(),
        )
        role, rights = self._make_role(args)
        proxy = aws.rds.Proxy(
            self.child_name(),
            name=self.child_name(),
            engine_family="POSTGRESQL",
            require_tls=True,
            role_arn=role.arn,
            vpc_subnet_ids=args.subnet_ids,
            vpc_security_group_ids=[self._make_security_group(args)],
            auths=[
                aws.rds.ProxyAuthArgs(
                    auth_scheme="SECRETS",
                    client_password_auth_type="POSTGRES_SCRAM_SHA_256",  # noqa: S106 - the name of a method
                    iam_auth="DISABLED",
                    secret_arn=args.secret_arn,
                )
            ],
            # Longer than the pools keep an idle connection.
            idle_client_timeout=3600,
            tags=self.tags(),
            opts=self.child(depends_on=[logs, rights]),
        )
        group = aws.rds.ProxyDefaultTargetGroup(
            self.child_name(),
            db_proxy_name=proxy.name,
            connection_pool_config=aws.rds.ProxyDefaultTargetGroupConnectionPoolConfigArgs(
                max_connections_percent=args.max_connections_percent,
                max_idle_connections_percent=max(1, args.max_connections_percent // 2),
                connection_borrow_timeout=10,
                init_query=INIT_QUERY,
            ),
            opts=self.child(),
        )
        aws.rds.ProxyTarget(
            self.child_name(),
            db_proxy_name=proxy.name,
            target_group_name=group.name,
            db_instance_identifier=args.database_identifier,
            opts=self.child(),
        )
        self.endpoint = proxy.endpoint
        self.register_outputs({"endpoint": self.endpoint})

    def _make_role(self, args: DatabaseProxyArgs) -> tuple[aws.iam.Role, aws.iam.RolePolicy]:
        role = aws.iam.Role(
            self.child_name(),
            description="RDS Proxy reads the database's secret",
            assume_role_policy=json.dumps(service_trust("rds.amazonaws.com", ["sts:AssumeRole"])),
            tags=self.tags(),
            opts=self.child(),
        )
        rights = aws.iam.RolePolicy(
            self.child_name(),
            role=role.name,
            policy=pulumi.Output.all(args.secret_arn, args.key_arn).apply(
                lambda known: json.dumps(
                    policy(
                        [
                            allow(["secretsmanager:GetSecretValue"], [known[0]]),
                            allow(
                                ["kms:Decrypt"],
                                [known[1]],
                                {"StringLike": {"kms:ViaService": "secretsmanager.*.amazonaws.com"}},
                            ),
                        ]
                    )
                )
            ),
            opts=self.child(),
        )
        return role, rights

    def _make_security_group(self, args: DatabaseProxyArgs) -> pulumi.Output[str]:
        group = aws.ec2.SecurityGroup(
            self.child_name(),
            vpc_id=args.vpc_id,
            description="RDS Proxy: lets in the workers' group, reaches the database",
            tags=self.tags(),
            opts=self.child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            self.child_name("from-workers"),
            security_group_id=group.id,
            referenced_security_group_id=args.workers_security_group_id,
            ip_protocol="tcp",
            from_port=args.port,
            to_port=args.port,
            description="Operator, workers, gateway",
            tags=self.tags("from-workers"),
            opts=self.child(),
        )
        aws.vpc.SecurityGroupEgressRule(
            self.child_name("to-database"),
            security_group_id=group.id,
            referenced_security_group_id=args.database_security_group_id,
            ip_protocol="tcp",
            from_port=args.port,
            to_port=args.port,
            description="The database",
            tags=self.tags("to-database"),
            opts=self.child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            self.child_name("into-database"),
            security_group_id=args.database_security_group_id,
            referenced_security_group_id=group.id,
            ip_protocol="tcp",
            from_port=args.port,
            to_port=args.port,
            description="RDS Proxy",
            tags=self.tags("into-database"),
            opts=self.child(),
        )
        return group.id
