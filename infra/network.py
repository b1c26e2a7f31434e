"""The network: a VPC with private subnets and ways out, or an existing one; and the workers' security group."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.component import Component, Context
from infra.configuration import NetworkSection
from infra.trust import allow, policy, service_trust


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """What the network depends on."""

    settings: NetworkSection
    region: pulumi.Input[str]
    key_arn: pulumi.Input[str]


class Network(Component):
    """Everything runs in private subnets; public ones hold NAT gateways and nothing else."""

    vpc_id: pulumi.Output[str]
    """The VPC."""
    cidr_block: pulumi.Output[str]
    """The VPC's addresses, which network policies name."""
    private_subnet_ids: pulumi.Output[list[str]]
    """Subnets of nodes, databases and endpoints."""
    workers_security_group_id: pulumi.Output[str]
    """The group of nodes and pods: the only one that databases let in."""

    def __init__(
        self, context: Context, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "network", opts)
        settings = args.settings
        if settings.vpc_id:
            self.vpc_id = pulumi.Output.from_input(settings.vpc_id)
            self.cidr_block = aws.ec2.get_vpc_output(
                id=settings.vpc_id, opts=pulumi.InvokeOptions(parent=self)
            ).cidr_block
            self.cidr_block = aws.ec2.get_vpc_output(
                id=settings.vpc_id, opts=pulumi.InvokeOptions(parent=self)
            ).cidr_block
            self.private_subnet_ids = pulumi.Output.from_input(list(settings.private_subnet_ids))
        else:
            self.cidr_block = pulumi.Output.from_input(settings.cidr_block)
            self._make_vpc(args)
        if settings.workers_security_group_id:
            self.workers_security_group_id = pulumi.Output.from_input(settings.workers_security_group_id)
        else:
            self.workers_security_group_id = self._make_workers_group()
        if not settings.vpc_id:
            self._make_endpoints(args)
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "cidr_block": self.cidr_block,
                "private_subnet_ids": self.private_subnet_ids,
                "workers_security_group_id": self.workers_security_group_id,
            }
        )

    def _make_vpc(self, args: NetworkArgs) -> None:
        settings = args.settings
        vpc = aws.ec2.Vpc(
            self.child_name("vpc"),
            cidr_block=settings.cidr_block,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags=self.tags("vpc"),
            opts=self.child(),
        )
        self.vpc_id, self.cidr_block = vpc.id, vpc.cidr_block
        # The group that AWS makes by itself lets its members talk; taken over without rules, it lets nobody.
        aws.ec2.DefaultSecurityGroup(
            self.child_name("default-group"),
            vpc_id=vpc.id,
            ingress=[],
            egress=[],
            tags=self.tags("default-group"),
            opts=self.child(),
        )
        zones = aws.get_availability_zones_output(
            state="available",
            filters=[{"name": "opt-in-status", "values": ["opt-in-not-required"]}],
            opts=pulumi.InvokeOptions(parent=self),
        ).names
        blocks = subnet_blocks(settings.cidr_block, settings.availability_zones)
        zone_names = [zones[index] for index in range(settings.availability_zones)]
        nat_gateways = self._make_ways_out(vpc, blocks, zone_names, settings)
        made = [
            self._make_private_subnet(
                vpc,
                part=f"private-{index + 1}",
                block=blocks.private[index],
                zone=zone,
                nat_gateway=nat_gateways[index % len(nat_gateways)] if nat_gateways else None,
            )
            for index, zone in enumerate(zone_names)
        ]
        self.private_subnet_ids = pulumi.Output.all(*(subnet.id for subnet, _ in made))
        self._route_tables = [table.id for _, table in made]
        if settings.flow_logs:
            self._make_flow_logs(vpc, args)

    def _make_private_subnet(
        self,
        vpc: aws.ec2.Vpc,
        *,
        part: str,
        block: str,
        zone: pulumi.Input[str],
        nat_gateway: aws.ec2.NatGateway | None,
    ) -> tuple[aws.ec2.Subnet, aws.ec2.RouteTable]:
        subnet = aws.ec2.Subnet(
            self.child_name(part),
            vpc_id=vpc.id,
            cidr_block=block,
            availability_zone=zone,
            map_public_ip_on_launch=False,
            tags={**self.tags(part), "kubernetes.io/role/internal-elb": "1"},
            opts=self.child(),
        )
        table = aws.ec2.RouteTable(
            self.child_name(part), vpc_id=vpc.id, tags=self.tags(part), opts=self.child()
        )
        aws.ec2.RouteTableAssociation(
            self.child_name(part), subnet_id=subnet.id, route_table_id=table.id, opts=self.child()
        )
        if nat_gateway:
            aws.ec2.Route(
                self.child_name(f"{part}-out"),
                route_table_id=table.id,
                destination_cidr_block="0.0.0.0/0",
                nat_gateway_id=nat_gateway.id,
                opts=self.child(),
            )
        return subnet, table

    def _make_ways_out(
        self,
        vpc: aws.ec2.Vpc,
        blocks: SubnetBlocks,
        zone_names: list[pulumi.Output[str]],
        settings: NetworkSection,
    ) -> list[aws.ec2.NatGateway]:
        """NAT gateways in public subnets of their own."""
        count = {"none": 0, "one": 1, "per-zone": settings.availability_zones}[settings.nat_gateways]
        if not count:
            return []
        internet = aws.ec2.InternetGateway(
            self.child_name("internet"), vpc_id=vpc.id, tags=self.tags("internet"), opts=self.child()
        )
        table = aws.ec2.RouteTable(
            self.child_name("public"), vpc_id=vpc.id, tags=self.tags("public"), opts=self.child()
        )
        aws.ec2.Route(
            self.child_name("public-out"),
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=internet.id,
            opts=self.child(),
        )
        gateways = []
        for index in range(count):
            part = f"public-{index + 1}"
            subnet = aws.ec2.Subnet(
                self.child_name(part),
                vpc_id=vpc.id,
                cidr_block=blocks.public[index],
                availability_zone=zone_names[index],
                map_public_ip_on_launch=False,
                tags=self.tags(part),
                opts=self.child(),
            )
            aws.ec2.RouteTableAssociation(
                self.child_name(part), subnet_id=subnet.id, route_table_id=table.id, opts=self.child()
            )
            address = aws.ec2.Eip(
                self.child_name(f"nat-{index + 1}"),
                domain="vpc",
                tags=self.tags(f"nat-{index + 1}"),
                opts=self.child(depends_on=[internet]),
            )
            gateways.append(
                aws.ec2.NatGateway(
                    self.child_name(f"nat-{index + 1}"),
                    subnet_id=subnet.id,
                    allocation_id=address.id,
                    tags=self.tags(f"nat-{index + 1}"),
                    opts=self.child(depends_on=[internet]),
                )
            )
        return gateways

    def _make_workers_group(self) -> pulumi.Output[str]:
        group = aws.ec2.SecurityGroup(
            self.child_name("workers"),
            vpc_id=self.vpc_id,
            description="Nodes and pods of the import operator; databases let in this group only",
            tags=self.tags("workers"),
            opts=self.child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            self.child_name("workers-among-themselves"),
            security_group_id=group.id,
            referenced_security_group_id=group.id,
            ip_protocol="-1",
            description="Nodes and pods among themselves; network policies narrow it",
            tags=self.tags("workers-among-themselves"),
            opts=self.child(),
        )
        aws.vpc.SecurityGroupEgressRule(
            self.child_name("workers-out"),
            security_group_id=group.id,
            cidr_ipv4="0.0.0.0/0",
            ip_protocol="-1",
            description="Shops and image servers have any address and port; network policies narrow it",
            tags=self.tags("workers-out"),
            opts=self.child(),
        )
        return group.id

    def _make_endpoints(self, args: NetworkArgs) -> None:
        aws.ec2.VpcEndpoint(
            self.child_name("endpoint-s3"),
            vpc_id=self.vpc_id,
            service_name=pulumi.Output.concat("com.amazonaws.", args.region, ".s3"),
            vpc_endpoint_type="Gateway",
            route_table_ids=self._route_tables,
            tags=self.tags("endpoint-s3"),
            opts=self.child(),
        )
        if not args.settings.interface_endpoints:
            return
        group = aws.ec2.SecurityGroup(
            self.child_name("endpoints"),
            vpc_id=self.vpc_id,
            description="Interface endpoints of AWS services",
            tags=self.tags("endpoints"),
            opts=self.child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            self.child_name("endpoints-from-workers"),
            security_group_id=group.id,
            referenced_security_group_id=self.workers_security_group_id,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            description="HTTPS from nodes and pods",
            tags=self.tags("endpoints-from-workers"),
            opts=self.child(),
        )
        for service in args.settings.interface_endpoints:
            part = f"endpoint-{service.replace('.', '-')}"
            aws.ec2.VpcEndpoint(
                self.child_name(part),
                vpc_id=self.vpc_id,
                service_name=pulumi.Output.concat("com.amazonaws.", args.region, f".{service}"),
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=self.private_subnet_ids,
                security_group_ids=[group.id],
                tags=self.tags(part),
                opts=self.child(),
            )

    def _make_flow_logs(self, vpc: aws.ec2.Vpc, args: NetworkArgs) -> None:
        """Refused connections only: they show what a network policy or a rule stops, and cost little."""
        group = aws.cloudwatch.LogGroup(
            self.child_name("flow"),
            retention_in_days=args.settings.flow_log_retention_days,
            kms_key_id=args.key_arn,
            tags=self.tags("flow"),
            opts=self.child(),
        )
        role = aws.iam.Role(
            self.child_name("flow"),
            assume_role_policy=json.dumps(service_trust("vpc-flow-logs.amazonaws.com", ["sts:AssumeRole"])),
            tags=self.tags("flow"),
            opts=self.child(),
        )
        rights = aws.iam.RolePolicy(
            self.child_name("flow"),
            role=role.name,
            policy=group.arn.apply(
                lambda arn: json.dumps(
                    policy(
                        [
                            allow(
                                ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
                                [f"{arn}:*"],
                            )
                        ]
                    )
                )
            ),
            opts=self.child(),
        )
        aws.ec2.FlowLog(
            self.child_name("flow"),
            vpc_id=vpc.id,
            traffic_type="REJECT",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=600,
            tags=self.tags("flow"),
            opts=self.child(depends_on=[rights]),
        )


@dataclass(frozen=True)
class SubnetBlocks:
    """Address blocks of the subnets, one of each kind for each zone."""

    private: list[str]
    public: list[str]


def subnet_blocks(cidr_block: str, zones: int) -> SubnetBlocks:
    """Private subnets get an eighth of the VPC each, as pods have addresses of it; public ones share one."""
    eighths = list(ipaddress.ip_network(cidr_block).subnets(prefixlen_diff=3))
    public = list(eighths[-1].subnets(prefixlen_diff=3))
    return SubnetBlocks(
        private=[str(block) for block in eighths[:zones]], public=[str(block) for block in public[:zones]]
    )
