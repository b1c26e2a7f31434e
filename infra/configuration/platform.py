"""The sections of what runs: cluster, identity, registry, application."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from infra.configuration.section import Arn, CidrBlock, Section

ImageReference = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9./_:-]*(:[A-Za-z0-9._-]{1,128})?(@sha256:[0-9a-f]{64})?$"),
]
InstanceType = Annotated[str, StringConstraints(pattern=r"^[cmr]\d+[a-z-]*\.(\d+xlarge|xlarge|large)$")]
LogType = Literal["api", "audit", "authenticator", "controllerManager", "scheduler"]


class ClusterSection(Section):
    """The Kubernetes cluster: an EKS cluster is made, or an existing one used as it is."""

    existing_name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$",
        description="An existing EKS cluster with the Pod Identity agent; nothing about it is changed. Its pods or "
        "nodes need network.workers_security_group_id. Empty: a cluster is made",
    )
    version: str = Field(
        default="1.36", pattern=r"^1\.\d{2}$", description="Kubernetes version of the cluster"
    )
    nodes: Literal["automatic", "groups"] = Field(
        default="automatic",
        description="`automatic`: EKS Auto Mode buys, joins, patches and replaces nodes. `groups`: managed node "
        "groups with a cluster autoscaler, without Auto Mode's surcharge",
    )
    public_access_cidr_blocks: tuple[CidrBlock, ...] = Field(
        default=(),
        description="Addresses that may reach the API server from the internet; empty: only from within the VPC, "
        "and `pulumi up` must run where it reaches that",
    )
    service_cidr_block: CidrBlock = Field(
        default="172.20.0.0/16",
        description="Addresses of Services; must not be the VPC's. Can't be changed later",
    )
    admin_arns: tuple[Arn, ...] = Field(
        default=(), description="Roles or users that administer the cluster, beside whoever makes it"
    )
    log_types: tuple[LogType, ...] = Field(
        default=("api", "audit", "authenticator", "controllerManager", "scheduler"),
        description="Logs of the control plane that go to CloudWatch Logs",
    )
    deletion_protection: bool = Field(default=True, description="Refuses to delete the cluster, whoever asks")
    architecture: Literal["amd64", "arm64"] = Field(
        default="amd64", description="Processors of the nodes; the images must be built for them"
    )
    spot_workers: bool = Field(
        default=False,
        description="Workers on spare capacity, about 60 % cheaper; AWS takes a node back with two minutes' notice, "
        "and its jobs go on elsewhere after their last page",
    )
    worker_instance_types: tuple[InstanceType, ...] = Field(
        default=("m7i.2xlarge", "m6i.2xlarge", "m7a.2xlarge"),
        min_length=1,
        description="Types of the workers' node group, several so that one that is sold out does not stop it "
        "(nodes: groups)",
    )
    service_instance_types: tuple[InstanceType, ...] = Field(
        default=("m7i.large", "m6i.large"),
        min_length=1,
        description="Types of the node group of everything else (nodes: groups)",
    )
    service_nodes: int = Field(
        default=3, ge=2, le=20, description="Nodes of everything but workers at the start (nodes: groups)"
    )
    worker_nodes_min: int = Field(
        default=1,
        ge=0,
        le=100,
        description="Nodes that workers keep while there is nothing to do (nodes: groups)",
    )

    @field_validator("public_access_cidr_blocks")
    @classmethod
    def _not_everybody(cls, blocks: tuple[str, ...]) -> tuple[str, ...]:
        for block in blocks:
            if ipaddress.ip_network(block, strict=False).prefixlen < 8:
                raise ValueError(
                    f"{block} lets nearly everybody in. Fix: list the networks of your people and CI"
                )
        return blocks


class IdentitySection(Section):
    """What each process may do in AWS, beside what the installation itself needs."""

    operator_secret_arns: tuple[Arn, ...] = Field(
        default=(), description="Existing secrets of Secrets Manager that the operator may read by itself"
    )
    worker_secret_arns: tuple[Arn, ...] = Field(
        default=(), description="Existing secrets of Secrets Manager that workers may read by themselves"
    )
    gateway_secret_arns: tuple[Arn, ...] = Field(
        default=(), description="Existing secrets of Secrets Manager that the gateway may read by itself"
    )
    key_arns: tuple[Arn, ...] = Field(
        default=(), description="Existing keys that those secrets, or the existing bucket, are encrypted with"
    )


class RegistrySection(Section):
    """Where images are kept."""

    create: bool = Field(
        default=True, description="Make repositories in ECR; off where images come from elsewhere"
    )
    kept_images: int = Field(
        default=100, ge=10, le=1000, description="Images kept in each repository, newest first"
    )
    untagged_days: int = Field(default=7, ge=1, le=365, description="Days that images without a tag are kept")


class Images(Section):
    """The three images, each with tag or digest."""

    operator: ImageReference = Field(description="Image of the operator")
    worker: ImageReference = Field(description="Image of the workers")
    gateway: ImageReference = Field(description="Image of the gateway")

    @property
    def all_by_digest(self) -> bool:
        """Whether nobody can exchange what a name means."""
        return all("@sha256:" in image for image in (self.operator, self.worker, self.gateway))


class ApplicationSection(Section):
    """The processes themselves, and how many there may be."""

    deploy: bool = Field(
        default=True,
        description="Deploy the application; off where `kubectl apply -k` or another tool does it",
    )
    images: Images | None = Field(
        default=None,
        description="What is deployed. Empty: nothing yet, so that the first `pulumi up` makes the repositories to "
        "push to",
    )
    max_workers: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Most workers of all pools; databases and nodes are sized for them",
    )
    operators: int = Field(default=2, ge=1, le=5, description="Replicas of the operator; one of them leads")
    gateways: int = Field(default=2, ge=1, le=50, description="Replicas of the gateway")
    public_url: str | None = Field(
        default=None,
        pattern=r"^https://[^/\s?#]+$",
        description="Address that browsers use; whatever publishes the gateway must speak TLS",
    )

    @property
    def deploys(self) -> bool:
        """Whether there is something to deploy, and it is ours to do."""
        return self.deploy and self.images is not None

    @model_validator(mode="after")
    def _named_images(self) -> Self:
        if self.images is None:
            return self
        for process, image in self.images.model_dump().items():
            name = image.rsplit("/", 1)[-1]
            if "@sha256:" not in image and ":" not in name:
                raise ValueError(
                    f"images.{process} has neither tag nor digest. Fix: end it with @sha256:…, or :tag"
                )
        return self
