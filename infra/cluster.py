"""The Kubernetes cluster: an EKS cluster with Auto Mode or managed node groups, or an existing one."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from infra.automatic_nodes import AutomaticNodes, AutomaticNodesArgs
from infra.component import Component, Context
from infra.configuration import ClusterSection
from infra.kubeconfig import kubeconfig
from infra.node_groups import NodeGroups, NodeGroupsArgs
from infra.trust import managed_policy, service_trust

_CLUSTER_POLICIES = ("AmazonEKSClusterPolicy",)
_AUTOMATIC_POLICIES = (
    "AmazonEKSComputePolicy",
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingPolicy",
)
_ADMINISTRATOR = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """What the cluster depends on."""

    settings: ClusterSection
    region: pulumi.Input[str]
    account_id: pulumi.Input[str]
    private_subnet_ids: pulumi.Input[list[str]]
    workers_security_group_id: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    max_workers: int
    audit_days: int
    autoscaler_chart_version: str


@dataclass(frozen=True, kw_only=True)
class _Reached:
    """A cluster and how it is reached, made or found."""

    name: pulumi.Output[str]
    arn: pulumi.Output[str]
    endpoint: pulumi.Output[str]
    authority: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    service_address: pulumi.Output[str]


class Cluster(Component):
    """The control plane and its nodes; who may do what in it, and who reaches it."""

    cluster_name: pulumi.Output[str]
    """Name of the cluster."""
    arn: pulumi.Output[str]
    """ARN of the cluster."""
    endpoint: pulumi.Output[str]
    """Address of the API server."""
    security_group_id: pulumi.Output[str]
    """The group that EKS makes for the control plane and nodes."""
    service_address: pulumi.Output[str]
    """The API server's own address among the Services, as a /32 block."""
    kubeconfig: pulumi.Output[str]
    """For kubectl; it asks the AWS CLI for a token and holds no secret."""
    provider: kubernetes.Provider
    """By which Kubernetes objects are made."""
    nodes: list[pulumi.Resource]
    """What must be there before pods can start; nothing for an existing cluster."""
    volume_provisioner: str
    """The driver that makes volumes."""

    def __init__(
        self, context: Context, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "cluster", opts)
        existing = args.settings.existing_name
        found = self._find(existing) if existing else self._make(args)
        self.cluster_name, self.arn, self.endpoint = found.name, found.arn, found.endpoint
        self.security_group_id, self.service_address = found.security_group_id, found.service_address
        self.kubeconfig = pulumi.Output.all(found.name, found.endpoint, found.authority, args.region).apply(
            lambda values: kubeconfig(
                name=values[0], endpoint=values[1], certificate_authority=values[2], region=values[3]
            )
        )
        admins = (
            [] if existing else [each for arn in args.settings.admin_arns for each in self._make_admin(arn)]
        )
        self.provider = kubernetes.Provider(
            self.child_name("objects"),
            kubeconfig=self.kubeconfig,
            # Objects that somebody else has made are an error here, not taken over.
            upsert_existing_objects=False,
            opts=self.child(depends_on=admins or None),
        )
        automatic = not existing and args.settings.nodes == "automatic"
        self.volume_provisioner = "ebs.csi.eks.amazonaws.com" if automatic else "ebs.csi.aws.com"
        self.nodes = [] if existing else [self._make_nodes(args)]
        self.register_outputs(
            {"name": self.cluster_name, "endpoint": self.endpoint, "kubeconfig": self.kubeconfig}
        )

    def _find(self, name: str) -> _Reached:
        found = aws.eks.get_cluster_output(name=name, opts=pulumi.InvokeOptions(parent=self))
        return _Reached(
            name=found.name,
            arn=found.arn,
            endpoint=found.endpoint,
            authority=found.certificate_authorities[0].data,
            security_group_id=found.vpc_config.cluster_security_group_id,
            service_address=found.kubernetes_network_configs[0].service_ipv4_cidr.apply(service_address),
        )

    def _make(self, args: ClusterArgs) -> _Reached:
        settings = args.settings
        role = aws.iam.Role(
            self.child_name("control-plane"),
            name=self.child_name("control-plane"),
            description="EKS itself, on our behalf",
            assume_role_policy=json.dumps(
                service_trust("eks.amazonaws.com", ["sts:AssumeRole", "sts:TagSession"])
            ),
            tags=self.tags("control-plane"),
            opts=self.child(),
        )
        policies = _CLUSTER_POLICIES + (_AUTOMATIC_POLICIES if settings.nodes == "automatic" else ())
        needed: list[pulumi.Resource] = [
            aws.iam.RolePolicyAttachment(
                self.child_name(f"control-plane-{policy}"),
                role=role.name,
                policy_arn=managed_policy(policy),
                opts=self.child(),
            )
            for policy in policies
        ]
        # EKS would make the group itself, and keep its lines for ever.
        needed.append(
            aws.cloudwatch.LogGroup(
                self.child_name("control-plane"),
                name=f"/aws/eks/{self.context.prefix}/cluster",
                retention_in_days=args.audit_days,
                kms_key_id=args.key_arn,
                tags=self.tags("control-plane"),
                opts=self.child(),
            )
        )
        made = self._make_cluster(args, role, needed)
        return _Reached(
            name=made.name,
            arn=made.arn,
            endpoint=made.endpoint,
            authority=made.certificate_authority.apply(lambda authority: authority.data or ""),
            security_group_id=made.vpc_config.apply(lambda network: network.cluster_security_group_id or ""),
            service_address=pulumi.Output.from_input(service_address(settings.service_cidr_block)),
        )

    def _make_cluster(
        self, args: ClusterArgs, role: aws.iam.Role, needed: list[pulumi.Resource]
    ) -> aws.eks.Cluster:
        settings = args.settings
        automatic = settings.nodes == "automatic"
        public = list(settings.public_access_cidr_blocks)
        return aws.eks.Cluster(
            self.child_name(),
            name=self.context.prefix,
            version=settings.version,
            role_arn=role.arn,
            enabled_cluster_log_types=list(settings.log_types),
            deletion_protection=settings.deletion_protection,
            # Auto Mode brings network, DNS, volumes and load balancers; node groups get them as add-ons.
            bootstrap_self_managed_addons=False,
            access_config=aws.eks.ClusterAccessConfigArgs(
                authentication_mode="API", bootstrap_cluster_creator_admin_permissions=True
            ),
            encryption_config=aws.eks.ClusterEncryptionConfigArgs(
                provider=aws.eks.ClusterEncryptionConfigProviderArgs(key_arn=args.key_arn),
                resources=["secrets"],
            ),
            vpc_config=aws.eks.ClusterVpcConfigArgs(
                subnet_ids=args.private_subnet_ids,
                endpoint_private_access=True,
                endpoint_public_access=bool(public),
                public_access_cidrs=public or None,
            ),
            # The built-in node pools stay off: their nodes are not in the workers' group, and ours are.
            compute_config=aws.eks.ClusterComputeConfigArgs(enabled=automatic),
            kubernetes_network_config=aws.eks.ClusterKubernetesNetworkConfigArgs(
                ip_family="ipv4",
                service_ipv4_cidr=settings.service_cidr_block,
                elastic_load_balancing=aws.eks.ClusterKubernetesNetworkConfigElasticLoadBalancingArgs(
                    enabled=automatic
                ),
            ),
            storage_config=aws.eks.ClusterStorageConfigArgs(
                block_storage=aws.eks.ClusterStorageConfigBlockStorageArgs(enabled=automatic)
            ),
            # Without it AWS charges six times as much for a version that is a year old, instead of upgrading.
            upgrade_policy=aws.eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
            zonal_shift_config=aws.eks.ClusterZonalShiftConfigArgs(enabled=True),
            tags=self.tags(),
            opts=self.child(depends_on=needed),
        )

    def _make_admin(self, arn: str) -> list[pulumi.Resource]:
        part = f"admin-{arn.rsplit('/', 1)[-1]}"
        entry = aws.eks.AccessEntry(
            self.child_name(part),
            cluster_name=self.cluster_name,
            principal_arn=arn,
            type="STANDARD",
            tags=self.tags(part),
            opts=self.child(),
        )
        association = aws.eks.AccessPolicyAssociation(
            self.child_name(part),
            cluster_name=self.cluster_name,
            principal_arn=arn,
            policy_arn=_ADMINISTRATOR,
            access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
            opts=self.child(depends_on=[entry]),
        )
        return [entry, association]

    def _make_nodes(self, args: ClusterArgs) -> Component:
        groups = [self.security_group_id, args.workers_security_group_id]
        if args.settings.nodes == "automatic":
            return AutomaticNodes(
                self.context,
                AutomaticNodesArgs(
                    settings=args.settings,
                    cluster_name=self.cluster_name,
                    provider=self.provider,
                    subnet_ids=args.private_subnet_ids,
                    security_group_ids=groups,
                    max_workers=args.max_workers,
                ),
                opts=pulumi.ResourceOptions(parent=self),
            )
        return NodeGroups(
            self.context,
            NodeGroupsArgs(
                settings=args.settings,
                cluster_name=self.cluster_name,
                cluster_arn=self.arn,
                region=args.region,
                account_id=args.account_id,
                provider=self.provider,
                subnet_ids=args.private_subnet_ids,
                security_group_ids=groups,
                max_workers=args.max_workers,
                autoscaler_chart_version=args.autoscaler_chart_version,
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )


def service_address(block: str) -> str:
    """Name the first address of the Services' block, which is the API server's, as network policies want it."""
    return f"{ipaddress.ip_network(block)[1]}/32"
