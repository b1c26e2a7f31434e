"""Who each process is in AWS: a role of its own by EKS Pod Identity, with the rights that it uses and no others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from infra.component import Component, Context
from infra.configuration import IdentitySection
from infra.trust import Document, allow, pod_trust, policy

APPLICATION_NAMESPACE = "imports"
LOGGING_NAMESPACE = "logging"
LOG_SHIPPER_ACCOUNT = "fluent-bit"


@dataclass(frozen=True, kw_only=True)
class IdentityArgs:
    """What the roles depend on."""

    settings: IdentitySection
    region: pulumi.Input[str]
    account_id: pulumi.Input[str]
    cluster_name: pulumi.Input[str]
    cluster_arn: pulumi.Input[str]
    bucket_arn: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    log_group_arns: Sequence[pulumi.Input[str]] = field(default_factory=tuple)
    """Groups that the log shipper writes to; empty: there is no log shipper."""


@dataclass(frozen=True, kw_only=True)
class _Process:
    """A process, its ServiceAccount and its secrets."""

    name: str
    namespace: str
    service_account: str
    secret_arns: tuple[str, ...] = ()


class Identity(Component):
    """One role and one association for each process.

    Operator and gateway use nothing of AWS by themselves; they have roles without rights, so that they never fall
    back to their node's and every call of theirs has a name in CloudTrail.
    """

    role_arns: Mapping[str, pulumi.Output[str]]
    """Role of each process: operator, worker, gateway, log-shipper."""
    ready: list[pulumi.Resource]
    """What must be there before pods start: a pod without its association starts without credentials."""

    def __init__(
        self, context: Context, args: IdentityArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "identity", opts)
        settings = args.settings
        processes = [
            _Process(
                name=name,
                namespace=APPLICATION_NAMESPACE,
                service_account=f"import-{name}",
                secret_arns=secret_arns,
            )
            for name, secret_arns in (
                ("operator", settings.operator_secret_arns),
                ("worker", settings.worker_secret_arns),
                ("gateway", settings.gateway_secret_arns),
            )
        ]
        if args.log_group_arns:
            processes.append(
                _Process(name="log-shipper", namespace=LOGGING_NAMESPACE, service_account=LOG_SHIPPER_ACCOUNT)
            )
        self.ready = []
        self.role_arns = {process.name: self._make(args, process).arn for process in processes}
        self.register_outputs({"role_arns": dict(self.role_arns)})

    def _make(self, args: IdentityArgs, process: _Process) -> aws.iam.Role:
        role = aws.iam.Role(
            self.child_name(process.name),
            name=self.child_name(process.name),
            description=f"Pods of {process.namespace}/{process.service_account}",
            assume_role_policy=pulumi.Output.all(args.account_id, args.cluster_arn).apply(
                lambda values: json.dumps(
                    pod_trust(
                        account_id=values[0],
                        cluster_arn=values[1],
                        namespace=process.namespace,
                        service_account=process.service_account,
                    )
                )
            ),
            tags=self.tags(process.name),
            opts=self.child(),
        )
        if process.name == "worker":
            self._grant(role, "worker-bucket", self._bucket_rights(args))
        if process.name == "log-shipper":
            self._grant(
                role, "log-shipper-logs", pulumi.Output.all(*args.log_group_arns).apply(log_shipper_policy)
            )
        if process.secret_arns:
            document = secret_policy(process.secret_arns, args.settings.key_arns)
            self._grant(role, f"{process.name}-secrets", pulumi.Output.from_input(document))
        self.ready.append(
            aws.eks.PodIdentityAssociation(
                self.child_name(process.name),
                cluster_name=args.cluster_name,
                namespace=process.namespace,
                service_account=process.service_account,
                role_arn=role.arn,
                tags=self.tags(process.name),
                opts=self.child(),
            )
        )
        return role

    def _bucket_rights(self, args: IdentityArgs) -> pulumi.Output[Document]:
        return pulumi.Output.all(args.bucket_arn, args.key_arn, args.region).apply(
            lambda values: worker_policy(
                bucket_arn=values[0],
                key_arns=(values[1], *(arn for arn in args.settings.key_arns if arn != values[1])),
                region=values[2],
            )
        )

    def _grant(self, role: aws.iam.Role, part: str, document: pulumi.Output[Document]) -> None:
        rights = aws.iam.RolePolicy(
            self.child_name(part), role=role.name, policy=document.apply(json.dumps), opts=self.child()
        )
        self.ready.append(rights)


def worker_policy(*, bucket_arn: str, key_arns: Sequence[str], region: str) -> Document:
    """Let workers look at, read and write images. They delete nothing: that is the lifecycle rules' and people's."""
    return policy(
        [
            allow(["s3:GetObject", "s3:PutObject"], [f"{bucket_arn}/images/*"]),
            allow(["s3:ListBucket"], [bucket_arn], {"StringLike": {"s3:prefix": ["images/*"]}}),
            allow(
                ["kms:Decrypt", "kms:GenerateDataKey"],
                list(key_arns),
                {"StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com"}},
            ),
        ]
    )


def log_shipper_policy(log_group_arns: Sequence[str]) -> Document:
    """Let the log shipper add lines to these groups; groups are made here, with their retention, and never by it."""
    streams = [f"{arn.removesuffix(':*')}:log-stream:*" for arn in log_group_arns]
    groups = [f"{arn.removesuffix(':*')}:*" for arn in log_group_arns]
    return policy(
        [
            allow(["logs:CreateLogStream", "logs:DescribeLogStreams"], groups),
            allow(["logs:PutLogEvents"], streams),
        ]
    )


def secret_policy(secret_arns: Sequence[str], key_arns: Sequence[str]) -> Document:
    """Let a process read these secrets, and open them where a key of one's own closes them."""
    statements = [
        allow(["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"], list(secret_arns))
    ]
    if key_arns:
        statements.append(
            allow(
                ["kms:Decrypt"],
                list(key_arns),
                {"StringLike": {"kms:ViaService": "secretsmanager.*.amazonaws.com"}},
            )
        )
    return policy(statements)
