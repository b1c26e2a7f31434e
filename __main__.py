"""The infrastructure program: configuration → components → exports, nothing else."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
from infra.alarms import Alarms, AlarmsArgs
from infra.application import Application, ApplicationArgs
from infra.budget import Budget, BudgetArgs
from infra.cluster import Cluster, ClusterArgs
from infra.component import Context
from infra.configuration import load_configuration
from infra.encryption import Encryption, EncryptionArgs
from infra.identity import Identity, IdentityArgs
from infra.logs import Logs, LogsArgs
from infra.monitoring import Monitoring, MonitoringArgs
from infra.network import Network, NetworkArgs
from infra.placement import WORKER_PLACEMENT
from infra.postgres import Postgres, PostgresArgs
from infra.redis import Redis, RedisArgs
from infra.registry import Registry, RegistryArgs
from infra.storage import Storage, StorageArgs
from infra.watch_files import read_watch_files

configuration = load_configuration()
context = Context(
    prefix=configuration.prefix, environment=configuration.environment, extra_tags=configuration.tags
)
account_id = aws.get_caller_identity_output().account_id
region = aws.get_region_output().region

encryption = Encryption(
    context, EncryptionArgs(settings=configuration.encryption, account_id=account_id, region=region)
)
network = Network(
    context, NetworkArgs(settings=configuration.network, region=region, key_arn=encryption.key_arn)
)
redis = Redis(
    context,
    RedisArgs(
        settings=configuration.redis,
        vpc_id=network.vpc_id,
        subnet_ids=network.private_subnet_ids,
        workers_security_group_id=network.workers_security_group_id,
        key_arn=encryption.key_arn,
        log_retention_days=configuration.logs.application_days,
    ),
)
postgres = Postgres(
    context,
    PostgresArgs(
        settings=configuration.postgres,
        budget=configuration.connection_budget,
        vpc_id=network.vpc_id,
        subnet_ids=network.private_subnet_ids,
        workers_security_group_id=network.workers_security_group_id,
        key_arn=encryption.key_arn,
        log_retention_days=configuration.logs.application_days,
    ),
)
storage = Storage(context, StorageArgs(settings=configuration.storage, key_arn=encryption.key_arn))
registry = Registry(context, RegistryArgs(settings=configuration.registry, key_arn=encryption.key_arn))
logs = Logs(context, LogsArgs(settings=configuration.logs, key_arn=encryption.key_arn))
alarms = Alarms(
    context,
    AlarmsArgs(
        settings=configuration.alarms,
        account_id=account_id,
        region=region,
        key_arn=encryption.key_arn,
        redis_nodes=redis.node_names,
        database_name=postgres.identifier,
        database_proxy_name=postgres.proxy_name,
        database_storage_gib=configuration.postgres.allocated_storage_gib,
        database_max_connections=postgres.max_connections,
    ),
)
budget = Budget(context, BudgetArgs(settings=configuration.budget, topic_arn=alarms.general_topic_arn))
cluster = Cluster(
    context,
    ClusterArgs(
        settings=configuration.cluster,
        region=region,
        account_id=account_id,
        private_subnet_ids=network.private_subnet_ids,
        workers_security_group_id=network.workers_security_group_id,
        key_arn=encryption.key_arn,
        max_workers=configuration.application.max_workers,
        audit_days=configuration.logs.audit_days,
        autoscaler_chart_version=configuration.monitoring.autoscaler_chart_version,
    ),
)
identity = Identity(
    context,
    IdentityArgs(
        settings=configuration.identity,
        region=region,
        account_id=account_id,
        cluster_name=cluster.cluster_name,
        cluster_arn=cluster.arn,
        bucket_arn=storage.bucket_arn,
        key_arn=encryption.key_arn,
        log_group_arns=logs.group_arns if configuration.monitoring.log_shipper else (),
    ),
)
monitoring = Monitoring(
    context,
    MonitoringArgs(
        settings=configuration.monitoring,
        region=region,
        cluster_name=cluster.cluster_name,
        provider=cluster.provider,
        volume_provisioner=cluster.volume_provisioner,
        application_log_group=logs.application_name,
        errors_log_group=logs.errors_name,
        platform_log_group=logs.platform_name,
        files=read_watch_files(),
        depends_on=[*cluster.nodes, *identity.ready],
    ),
)
if configuration.application.deploy:
    Application(
        context,
        ApplicationArgs(
            settings=configuration.application,
            kubeconfig=cluster.kubeconfig,
            provider=cluster.provider,
            connections={
                "DATABASE_URL": postgres.url,
                "DATABASE_DIRECT_URL": postgres.direct_url,
                "REDIS_URL": redis.url,
                "S3_BUCKET": storage.bucket_name,
                "AWS_REGION": region,
            },
            addresses={
                "api-servers": network.cidr_block,
                "api-service": cluster.service_address,
                "databases": network.cidr_block,
            },
            monitoring_namespace=configuration.monitoring.namespace,
            worker_placement={} if configuration.cluster.existing_name else WORKER_PLACEMENT,
            depends_on=[*cluster.nodes, *identity.ready, *monitoring.ready],
        ),
    )

pulumi.export("region", region)
pulumi.export("vpc_id", network.vpc_id)
pulumi.export("private_subnet_ids", network.private_subnet_ids)
pulumi.export("workers_security_group_id", network.workers_security_group_id)
pulumi.export("kms_key_arn", encryption.key_arn)
pulumi.export("redis_primary_endpoint", redis.primary_endpoint)
pulumi.export("redis_reader_endpoint", redis.reader_endpoint)
pulumi.export("redis_secret_arn", redis.secret_arn)
pulumi.export("database_endpoint", postgres.endpoint)
pulumi.export("database_secret_arn", postgres.secret_arn)
pulumi.export("bucket", storage.bucket_name)
pulumi.export("thumbnails_url", storage.thumbnails_url)
pulumi.export("repository_urls", dict(registry.repository_urls))
pulumi.export("cluster_name", cluster.cluster_name)
pulumi.export("cluster_endpoint", cluster.endpoint)
pulumi.export("cluster_security_group_id", cluster.security_group_id)
pulumi.export("kubeconfig", cluster.kubeconfig)
pulumi.export("log_groups", [logs.application_name, logs.errors_name, logs.platform_name])
pulumi.export("role_arns", dict(identity.role_arns))
pulumi.export("critical_topic_arn", alarms.critical_topic_arn)
pulumi.export("general_topic_arn", alarms.general_topic_arn)
pulumi.export("alarm_arns", alarms.alarm_arns)
pulumi.export("budget_name", budget.budget_name)
