"""PostgreSQL: RDS with a standby and forced TLS, or the platform's existing database; its proxy and secret."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

import pulumi
import pulumi_aws as aws

from infra.component import Component, Context
from infra.configuration import PostgresSection
from infra.connection_budget import ConnectionBudget
from infra.database_proxy import DatabaseProxy, DatabaseProxyArgs
from infra.secrets import keep_secret, make_password
from infra.trust import managed_policy, service_trust

PORT = 5432
DATABASE = "imports"
USER = "imports"


@dataclass(frozen=True, kw_only=True)
class PostgresArgs:
    """What PostgreSQL depends on."""

    settings: PostgresSection
    budget: ConnectionBudget
    vpc_id: pulumi.Input[str]
    subnet_ids: pulumi.Input[list[str]]
    workers_security_group_id: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    log_retention_days: int


class Postgres(Component):
    """The jobs' home. Its processes have two addresses: the proxy for everything, the server itself for LISTEN."""

    identifier: str | None
    """Name of the instance; None: the database is the platform's."""
    proxy_name: str | None = None
    """Name of the proxy; None: there is none, or it is the platform's."""
    max_connections: int
    """The server's limit, or the part of the existing one that is ours."""
    secret_arn: pulumi.Output[str]
    """Secret with `username`, `password`, `host`, `port`, `dbname`."""
    endpoint: pulumi.Output[str]
    """Host name of the server itself; it follows the primary."""
    url: pulumi.Output[str]
    """DATABASE_URL of all processes, by the proxy where there is one; a secret."""
    direct_url: pulumi.Output[str]
    """DATABASE_DIRECT_URL: the server itself, for LISTEN and migrations; a secret."""

    def __init__(
        self, context: Context, args: PostgresArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "postgres", opts)
        if args.settings.existing_secret_arn:
            self._use_existing(args, args.settings.existing_secret_arn)
        else:
            self._make(args)
        self.register_outputs({"endpoint": self.endpoint, "secret_arn": self.secret_arn})

    def _use_existing(self, args: PostgresArgs, secret_arn: str) -> None:
        self.identifier = None
        self.max_connections = args.settings.existing_max_connections
        self.secret_arn = pulumi.Output.from_input(secret_arn)
        known = pulumi.Output.secret(
            aws.secretsmanager.get_secret_version_output(
                secret_id=secret_arn, opts=pulumi.InvokeOptions(parent=self)
            ).secret_string
        ).apply(read_secret)
        self.endpoint = known.apply(lambda values: str(values["host"]))
        self.direct_url = known.apply(lambda values: database_url(values, host=str(values["host"])))
        self.url = known.apply(
            lambda values: database_url(values, host=str(values.get("proxyHost") or values["host"]))
        )
        if args.settings.existing_security_group_id:
            self._let_in(
                "from-workers", args.settings.existing_security_group_id, args.workers_security_group_id
            )

    def _make(self, args: PostgresArgs) -> None:
        settings = args.settings
        self.identifier = self.child_name()
        self.max_connections = settings.max_connections or args.budget.max_connections
        password = make_password(self, version=settings.password_version)
        group = aws.ec2.SecurityGroup(
            self.child_name(),
            vpc_id=args.vpc_id,
            description="PostgreSQL: lets in the workers' group and the proxy",
            tags=self.tags(),
            opts=self.child(),
        )
        self._let_in("from-workers", group.id, args.workers_security_group_id)
        instance = self._make_instance(args, password, group.id)
        self.endpoint = instance.address
        values = pulumi.Output.all(password, instance.address).apply(
            lambda known: secret_values(password=known[0], host=known[1])
        )
        self.secret_arn = keep_secret(
            self,
            key_arn=args.key_arn,
            description=f"Database of {self.context.prefix}: username, password, host, port, dbname",
            values=values,
        )
        self.direct_url = pulumi.Output.secret(
            values.apply(lambda known: database_url(known, host=str(known["host"])))
        )
        self.url = self._make_proxy(args, instance, group.id, values) if settings.proxy else self.direct_url

    def _make_proxy(
        self,
        args: PostgresArgs,
        instance: aws.rds.Instance,
        group_id: pulumi.Output[str],
        values: pulumi.Output[dict[str, object]],
    ) -> pulumi.Output[str]:
        proxy = DatabaseProxy(
            self.context,
            DatabaseProxyArgs(
                vpc_id=args.vpc_id,
                subnet_ids=args.subnet_ids,
                workers_security_group_id=args.workers_security_group_id,
                database_security_group_id=group_id,
                database_identifier=instance.identifier,
                secret_arn=self.secret_arn,
                key_arn=args.key_arn,
                max_connections_percent=args.budget.proxy_percent(self.max_connections),
                port=PORT,
                log_retention_days=args.log_retention_days,
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.proxy_name = proxy.name
        return pulumi.Output.secret(
            pulumi.Output.all(values, proxy.endpoint).apply(
                lambda known: database_url(known[0], host=known[1])
            )
        )

    def _let_in(self, part: str, group_id: pulumi.Input[str], other_id: pulumi.Input[str]) -> None:
        aws.vpc.SecurityGroupIngressRule(
            self.child_name(part),
            security_group_id=group_id,
            referenced_security_group_id=other_id,
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            description="Operator, workers, gateway",
            tags=self.tags(part),
            opts=self.child(),
        )

    def _make_instance(
        self, args: PostgresArgs, password: pulumi.Output[str], group_id: pulumi.Output[str]
    ) -> aws.rds.Instance:
        settings = args.settings
        subnets = aws.rds.SubnetGroup(
            self.child_name(), subnet_ids=args.subnet_ids, tags=self.tags(), opts=self.child()
        )
        return aws.rds.Instance(
            self.child_name(),
            identifier=self.child_name(),
            engine="postgres",
            engine_version=settings.engine_version,
            instance_class=settings.instance_class,
            db_name=DATABASE,
            username=USER,
            password=password,
            port=PORT,
            allocated_storage=settings.allocated_storage_gib,
            max_allocated_storage=settings.max_allocated_storage_gib,
            storage_type="gp3",
            storage_encrypted=True,
            kms_key_id=args.key_arn,
            multi_az=settings.multi_az,
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[group_id],
            publicly_accessible=False,
            parameter_group_name=self._make_parameters(settings),
            ca_cert_identifier="rds-ca-rsa2048-g1",
            backup_retention_period=settings.backup_retention_days,
            backup_window=settings.backup_window,
            maintenance_window=settings.maintenance_window,
            copy_tags_to_snapshot=True,
            delete_automated_backups=False,
            deletion_protection=settings.deletion_protection,
            skip_final_snapshot=not settings.deletion_protection,
            final_snapshot_identifier=self.child_name("last") if settings.deletion_protection else None,
            auto_minor_version_upgrade=True,
            allow_major_version_upgrade=False,
            apply_immediately=False,
            enabled_cloudwatch_logs_exports=["postgresql", "upgrade"],
            performance_insights_enabled=True,
            performance_insights_kms_key_id=args.key_arn,
            performance_insights_retention_period=7,
            monitoring_interval=60,
            monitoring_role_arn=self._make_monitoring_role(),
            tags=self.tags(),
            opts=self.child(
                protect=settings.deletion_protection and self.context.is_production,
                # RDS would make these groups itself, and keep their lines for ever.
                depends_on=[self._make_log_group(args, log) for log in ("postgresql", "upgrade")],
            ),
        )

    def _make_parameters(self, settings: PostgresSection) -> pulumi.Output[str]:
        values = (
            ("rds.force_ssl", "1", "immediate"),
            ("max_connections", str(self.max_connections), "pending-reboot"),
            ("log_min_duration_statement", "1000", "immediate"),
            ("log_lock_waits", "1", "immediate"),
            # A process that died within a transaction must not hold rows, nor vacuum, for long.
            ("idle_in_transaction_session_timeout", "60000", "immediate"),
        )
        return aws.rds.ParameterGroup(
            self.child_name(),
            family=f"postgres{settings.engine_version.split('.')[0]}",
            description=f"Database of {self.context.prefix}",
            parameters=[
                aws.rds.ParameterGroupParameterArgs(name=name, value=value, apply_method=method)
                for name, value, method in values
            ],
            tags=self.tags(),
            opts=self.child(),
        ).name

    def _make_log_group(self, args: PostgresArgs, log: str) -> pulumi.Resource:
        return aws.cloudwatch.LogGroup(
            self.child_name(f"log-{log}"),
            name=f"/aws/rds/instance/{self.child_name()}/{log}",
            retention_in_days=args.log_retention_days,
            kms_key_id=args.key_arn,
            tags=self.tags(f"log-{log}"),
            opts=self.child(),
        )

    def _make_monitoring_role(self) -> pulumi.Output[str]:
        role = aws.iam.Role(
            self.child_name("monitoring"),
            description="RDS writes the machine's own figures every minute",
            assume_role_policy=json.dumps(service_trust("monitoring.rds.amazonaws.com", ["sts:AssumeRole"])),
            tags=self.tags("monitoring"),
            opts=self.child(),
        )
        aws.iam.RolePolicyAttachment(
            self.child_name("monitoring"),
            role=role.name,
            policy_arn=managed_policy("service-role/AmazonRDSEnhancedMonitoringRole"),
            opts=self.child(),
        )
        return role.arn


def secret_values(*, password: str, host: str) -> dict[str, object]:
    """What the database's secret holds; the names are those that RDS itself uses."""
    return {
        "engine": "postgres",
        "username": USER,
        "password": password,
        "host": host,
        "port": PORT,
        "dbname": DATABASE,
    }


def read_secret(text: str) -> dict[str, object]:
    """The values of an existing database's secret; raises ValueError naming what is missing, never a value."""
    values = _json_object(text)
    if values is None:
        raise ValueError("import-operator:postgres.existing_secret_arn: the secret is no JSON object")
    missing = [name for name in ("username", "password", "host", "dbname") if not values.get(name)]
    if missing:
        raise ValueError(
            f"import-operator:postgres.existing_secret_arn: the secret has no {', '.join(missing)}. "
            "Fix: add them to its JSON"
        )
    return values


def database_url(values: dict[str, object], *, host: str) -> str:
    """A URL for libpq, always encrypted."""
    user, password = (quote(str(values[name]), safe="") for name in ("username", "password"))
    database = quote(str(values["dbname"]), safe="")
    return f"postgresql://{user}:{password}@{host}:{values.get('port', PORT)}/{database}?sslmode=require"


def _json_object(text: str) -> dict[str, object] | None:
    try:
        values = json.loads(text)
    except ValueError:  # its message would quote the secret
        return None
    return values if isinstance(values, dict) else None
