"""Nodes by managed node groups, with the add-ons and the autoscaler that Auto Mode would bring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from infra.capacity import nodes_for_workers
from infra.component import Component, Context
from infra.configuration import ClusterSection
from infra.placement import POOL_LABEL, SERVICES, WORKERS
from infra.trust import allow, managed_policy, pod_trust, policy, service_trust

_NODE_POLICIES = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEC2ContainerRegistryPullOnly",
    "AmazonEKS_CNI_Policy",
)
_AMI = {"amd64": "BOTTLEROCKET_x86_64", "arm64": "BOTTLEROCKET_ARM_64"}
_BEFORE_NODES = ("kube-proxy", "vpc-cni", "eks-pod-identity-agent")
_AUTOSCALER_ACCOUNT = "cluster-autoscaler"


@dataclass(frozen=True, kw_only=True)
class NodeGroupsArgs:
    """What the nodes depend on."""

    settings: ClusterSection
    cluster_name: pulumi.Input[str]
    cluster_arn: pulumi.Input[str]
    region: pulumi.Input[str]
    account_id: pulumi.Input[str]
    provider: kubernetes.Provider
    subnet_ids: pulumi.Input[list[str]]
    security_group_ids: Sequence[pulumi.Input[str]]
    max_workers: int
    autoscaler_chart_version: str


class NodeGroups(Component):
    """Two groups: one for everything that must stay, one for workers, from few nodes to enough for all."""

    def __init__(
        self, context: Context, args: NodeGroupsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "nodes", opts)
        settings = args.settings
        role, needed = self._make_role()
        needed += [self._make_addon(args, name) for name in _BEFORE_NODES]
        template = self._make_template(args)
        services = self._make_group(
            args,
            part=SERVICES,
            role=role,
            template=template,
            needed=needed,
            instance_types=settings.service_instance_types,
            sizes=(settings.service_nodes, settings.service_nodes, settings.service_nodes + 3),
        )
        most = nodes_for_workers(args.max_workers, list(settings.worker_instance_types))
        least = min(settings.worker_nodes_min, most)
        self._make_group(
            args,
            part=WORKERS,
            role=role,
            template=template,
            needed=needed,
            instance_types=settings.worker_instance_types,
            sizes=(least, least, most),
        )
        self._make_addon(args, "coredns", [services])
        self._make_volumes(args, services)
        self._make_autoscaler(args, services)
        self.register_outputs({"role_arn": role.arn})

    def _make_role(self) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
        role = aws.iam.Role(
            self.child_name(),
            name=self.child_name(),
            description="Nodes: join the cluster, give pods addresses, pull images",
            assume_role_policy=json.dumps(service_trust("ec2.amazonaws.com", ["sts:AssumeRole"])),
            tags=self.tags(),
            opts=self.child(),
        )
        return role, [
            aws.iam.RolePolicyAttachment(
                self.child_name(name), role=role.name, policy_arn=managed_policy(name), opts=self.child()
            )
            for name in _NODE_POLICIES
        ]

    def _make_addon(
        self, args: NodeGroupsArgs, name: str, depends_on: list[pulumi.Resource] | None = None
    ) -> aws.eks.Addon:
        return aws.eks.Addon(
            self.child_name(name),
            cluster_name=args.cluster_name,
            addon_name=name,
            configuration_values=json.dumps({"enableNetworkPolicy": "true"}) if name == "vpc-cni" else None,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            tags=self.tags(name),
            opts=self.child(depends_on=depends_on),
        )

    def _make_template(self, args: NodeGroupsArgs) -> aws.ec2.LaunchTemplate:
        devices = [
            aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                device_name=device,
                ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                    volume_size=size, volume_type="gp3", encrypted="true", delete_on_termination="true"
                ),
            )
            # Bottlerocket has its system on the first disk, images and pods on the second.
            for device, size in (("/dev/xvda", 4), ("/dev/xvdb", 100))
        ]
        return aws.ec2.LaunchTemplate(
            self.child_name(),
            name=self.child_name(),
            description="Nodes of the import operator",
            update_default_version=True,
            vpc_security_group_ids=list(args.security_group_ids),
            block_device_mappings=devices,
            # Tokens only, and none for pods: one hop ends at the node.
            metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
                http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
            ),
            tag_specifications=[
                aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=self.tags())
                for kind in ("instance", "volume")
            ],
            tags=self.tags(),
            opts=self.child(),
        )

    def _make_group(
        self,
        args: NodeGroupsArgs,
        *,
        part: str,
        role: aws.iam.Role,
        template: aws.ec2.LaunchTemplate,
        needed: list[pulumi.Resource],
        instance_types: Sequence[str],
        sizes: tuple[int, int, int],
    ) -> aws.eks.NodeGroup:
        workers = part == WORKERS
        taint = aws.eks.NodeGroupTaintArgs(key=POOL_LABEL, value=WORKERS, effect="NO_SCHEDULE")
        return aws.eks.NodeGroup(
            self.child_name(part),
            cluster_name=args.cluster_name,
            node_group_name=self.child_name(part),
            node_role_arn=role.arn,
            subnet_ids=args.subnet_ids,
            ami_type=_AMI[args.settings.architecture],
            capacity_type="SPOT" if workers and args.settings.spot_workers else "ON_DEMAND",
            instance_types=list(instance_types),
            labels={POOL_LABEL: part},
            taints=[taint] if workers else None,
            launch_template=aws.eks.NodeGroupLaunchTemplateArgs(
                id=template.id, version=template.latest_version.apply(str)
            ),
            scaling_config=aws.eks.NodeGroupScalingConfigArgs(
                min_size=sizes[0], desired_size=sizes[1], max_size=sizes[2]
            ),
            update_config=aws.eks.NodeGroupUpdateConfigArgs(max_unavailable=1),
            node_repair_config=aws.eks.NodeGroupNodeRepairConfigArgs(enabled=True),
            tags=self.tags(part),
            # How many there are now is the autoscaler's to say.
            opts=self.child(depends_on=needed, ignore_changes=["scalingConfig.desiredSize"]),
        )

    def _make_pod_role(self, args: NodeGroupsArgs, part: str, service_account: str) -> aws.iam.Role:
        return aws.iam.Role(
            self.child_name(part),
            name=self.child_name(part),
            description=f"Pods of kube-system/{service_account}",
            assume_role_policy=pulumi.Output.all(args.account_id, args.cluster_arn).apply(
                lambda values: json.dumps(
                    pod_trust(
                        account_id=values[0],
                        cluster_arn=values[1],
                        namespace="kube-system",
                        service_account=service_account,
                    )
                )
            ),
            tags=self.tags(part),
            opts=self.child(),
        )

    def _make_volumes(self, args: NodeGroupsArgs, services: pulumi.Resource) -> None:
        account = "ebs-csi-controller-sa"
        role = self._make_pod_role(args, "volumes", account)
        attachment = aws.iam.RolePolicyAttachment(
            self.child_name("volumes"),
            role=role.name,
            policy_arn=managed_policy("service-role/AmazonEBSCSIDriverPolicy"),
            opts=self.child(),
        )
        aws.eks.Addon(
            self.child_name("aws-ebs-csi-driver"),
            cluster_name=args.cluster_name,
            addon_name="aws-ebs-csi-driver",
            pod_identity_associations=[
                aws.eks.AddonPodIdentityAssociationArgs(role_arn=role.arn, service_account=account)
            ],
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            tags=self.tags("aws-ebs-csi-driver"),
            opts=self.child(depends_on=[services, attachment]),
        )

    def _make_autoscaler(self, args: NodeGroupsArgs, services: pulumi.Resource) -> None:
        role = self._make_pod_role(args, "autoscaler", _AUTOSCALER_ACCOUNT)
        rights = aws.iam.RolePolicy(
            self.child_name("autoscaler"),
            role=role.name,
            policy=pulumi.Output.all(args.region, args.account_id, args.cluster_name).apply(
                lambda values: json.dumps(autoscaler_policy(*values))
            ),
            opts=self.child(),
        )
        association = aws.eks.PodIdentityAssociation(
            self.child_name("autoscaler"),
            cluster_name=args.cluster_name,
            namespace="kube-system",
            service_account=_AUTOSCALER_ACCOUNT,
            role_arn=role.arn,
            tags=self.tags("autoscaler"),
            opts=self.child(),
        )
        kubernetes.helm.v3.Release(
            self.child_name("autoscaler"),
            name="cluster-autoscaler",
            chart="cluster-autoscaler",
            version=args.autoscaler_chart_version,
            namespace="kube-system",
            repository_opts=kubernetes.helm.v3.RepositoryOptsArgs(
                repo="https://kubernetes.github.io/autoscaler"
            ),
            values={
                "autoDiscovery": {"clusterName": args.cluster_name},
                "awsRegion": args.region,
                "rbac": {"serviceAccount": {"name": _AUTOSCALER_ACCOUNT}},
                "extraArgs": {"balance-similar-node-groups": True, "scale-down-unneeded-time": "5m"},
            },
            opts=self.child(provider=args.provider, depends_on=[services, rights, association]),
        )


def autoscaler_policy(region: str, account_id: str, cluster_name: str) -> dict[str, object]:
    """Let the autoscaler change the size of this cluster's groups; what it looks at can't be named by AWS's rules."""
    groups = f"arn:aws:autoscaling:{region}:{account_id}:autoScalingGroup:*:autoScalingGroupName/eks-*"
    return policy(
        [
            allow(
                [
                    "autoscaling:DescribeAutoScalingGroups",
                    "autoscaling:DescribeAutoScalingInstances",
                    "autoscaling:DescribeLaunchConfigurations",
                    "autoscaling:DescribeScalingActivities",
                    "autoscaling:DescribeTags",
                    "ec2:DescribeImages",
                    "ec2:DescribeInstanceTypes",
                    "ec2:DescribeLaunchTemplateVersions",
                    "ec2:GetInstanceTypesFromInstanceRequirements",
                ],
                ["*"],
            ),
            allow(
                ["eks:DescribeNodegroup"],
                [f"arn:aws:eks:{region}:{account_id}:nodegroup/{cluster_name}/*/*"],
            ),
            allow(
                ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"],
                [groups],
                {"StringEquals": {f"aws:ResourceTag/k8s.io/cluster-autoscaler/{cluster_name}": "owned"}},
            ),
        ]
    )
