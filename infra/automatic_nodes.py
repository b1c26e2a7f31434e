"""Nodes by EKS Auto Mode: one pool for everything that must stay, one for workers that come and go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from infra.capacity import AUTOMATIC_CPUS, automatic_limits
from infra.component import Component, Context
from infra.configuration import ClusterSection
from infra.placement import POOL_LABEL, SERVICES, WORKERS
from infra.trust import managed_policy, service_trust

_NODE_POLICIES = ("AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly")
_NODE_CLASS = "imports"
_SERVICE_LIMITS = {"cpu": "64", "memory": "256Gi"}


@dataclass(frozen=True, kw_only=True)
class AutomaticNodesArgs:
    """What the nodes depend on."""

    settings: ClusterSection
    cluster_name: pulumi.Input[str]
    provider: kubernetes.Provider
    subnet_ids: pulumi.Input[list[str]]
    security_group_ids: Sequence[pulumi.Input[str]]
    max_workers: int


class AutomaticNodes(Component):
    """A node class (network, groups, disks) and two node pools; network policies are enforced on all nodes."""

    def __init__(
        self, context: Context, args: AutomaticNodesArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "nodes", opts)
        role, joining = self._make_role(args)
        kubernetes.core.v1.ConfigMap(
            self.child_name("network-policies"),
            metadata={"name": "amazon-vpc-cni", "namespace": "kube-system"},
            data={"enable-network-policy-controller": "true"},
            opts=self.child(provider=args.provider),
        )
        node_class = self._make_object(
            args,
            "class",
            kind=("eks.amazonaws.com/v1", "NodeClass"),
            name=_NODE_CLASS,
            spec={
                "role": role.name,
                "subnetSelectorTerms": pulumi.Output.from_input(args.subnet_ids).apply(
                    lambda ids: [{"id": each} for each in ids]
                ),
                "securityGroupSelectorTerms": [{"id": each} for each in args.security_group_ids],
                "networkPolicy": "DefaultAllow",
                "networkPolicyEventLogs": "Disabled",
                "ephemeralStorage": {"size": "100Gi"},
                "tags": self.tags("class"),
            },
            depends_on=joining,
        )
        pools = {SERVICES: service_pool(args.settings), WORKERS: worker_pool(args.settings, args.max_workers)}
        for name, spec in pools.items():
            self._make_object(
                args,
                name,
                kind=("karpenter.sh/v1", "NodePool"),
                name=f"imports-{name}",
                spec=spec,
                depends_on=[node_class],
            )
        self.register_outputs({"role_arn": role.arn})

    def _make_role(self, args: AutomaticNodesArgs) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
        role = aws.iam.Role(
            self.child_name(),
            name=self.child_name(),
            description="Nodes: join the cluster and pull images; pods have identities of their own",
            assume_role_policy=json.dumps(service_trust("ec2.amazonaws.com", ["sts:AssumeRole"])),
            tags=self.tags(),
            opts=self.child(),
        )
        rights: list[pulumi.Resource] = [
            aws.iam.RolePolicyAttachment(
                self.child_name(name), role=role.name, policy_arn=managed_policy(name), opts=self.child()
            )
            for name in _NODE_POLICIES
        ]
        entry = aws.eks.AccessEntry(
            self.child_name(),
            cluster_name=args.cluster_name,
            principal_arn=role.arn,
            type="EC2",
            tags=self.tags(),
            opts=self.child(),
        )
        association = aws.eks.AccessPolicyAssociation(
            self.child_name(),
            cluster_name=args.cluster_name,
            principal_arn=role.arn,
            policy_arn="arn:aws:eks::aws:cluster-access-policy/AmazonEKSAutoNodePolicy",
            access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
            opts=self.child(depends_on=[entry]),
        )
        return role, [*rights, association]

    def _make_object(
        self,
        args: AutomaticNodesArgs,
        part: str,
        *,
        kind: tuple[str, str],
        name: str,
        spec: dict[str, Any],
        depends_on: list[pulumi.Resource] | None = None,
    ) -> pulumi.Resource:
        api_version, kind_name = kind
        return kubernetes.apiextensions.CustomResource(
            self.child_name(part),
            api_version=api_version,
            kind=kind_name,
            metadata={"name": name},
            spec=spec,
            opts=self.child(provider=args.provider, depends_on=depends_on),
        )


def _requirement(key: str, values: Sequence[str], operator: str = "In") -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def _template(
    settings: ClusterSection, pool: str, capacity: Sequence[str], cpus: Sequence[int]
) -> dict[str, Any]:
    return {
        "metadata": {"labels": {POOL_LABEL: pool}},
        "spec": {
            "nodeClassRef": {"group": "eks.amazonaws.com", "kind": "NodeClass", "name": _NODE_CLASS},
            # Nodes are replaced with patched ones after two weeks; pods of a node in its end have an hour.
            "expireAfter": "336h",
            "terminationGracePeriod": "1h",
            "requirements": [
                _requirement("kubernetes.io/arch", [settings.architecture]),
                _requirement("kubernetes.io/os", ["linux"]),
                _requirement("karpenter.sh/capacity-type", capacity),
                _requirement("eks.amazonaws.com/instance-category", ["c", "m"]),
                _requirement("eks.amazonaws.com/instance-generation", ["5"], "Gt"),
                _requirement("eks.amazonaws.com/instance-cpu", [str(each) for each in cpus]),
            ],
        },
    }


def service_pool(settings: ClusterSection) -> dict[str, Any]:
    """Write the pool of operator, gateway, Prometheus and the cluster's own: nodes that are not interrupted."""
    return {
        "template": _template(settings, SERVICES, ["on-demand"], (2, 4, 8)),
        "limits": _SERVICE_LIMITS,
        "disruption": {
            "consolidationPolicy": "WhenEmptyOrUnderutilized",
            "consolidateAfter": "5m",
            "budgets": [{"nodes": "1"}],
        },
    }


def worker_pool(settings: ClusterSection, max_workers: int) -> dict[str, Any]:
    """Write the workers' pool: large enough for all of them, and emptied by nobody while one has a job."""
    # With spot first choice, on-demand is what there is when spare capacity is sold out.
    capacity = ["spot", "on-demand"] if settings.spot_workers else ["on-demand"]
    template = _template(settings, WORKERS, capacity, AUTOMATIC_CPUS)
    template["spec"]["taints"] = [{"key": POOL_LABEL, "value": WORKERS, "effect": "NoSchedule"}]
    limits = automatic_limits(max_workers)
    return {
        "template": template,
        "limits": {"cpu": str(limits.cpu), "memory": f"{limits.memory}Gi"},
        "disruption": {
            "consolidationPolicy": "WhenEmpty",
            "consolidateAfter": "2m",
            "budgets": [{"nodes": "10%"}],
        },
    }
