"""Programs of single components, with neighbours' outputs as plain values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pulumi
from fabricated import ACCOUNT, REGION
from infra.cluster import Cluster, ClusterArgs
from infra.component import Context
from infra.configuration import parse_configuration
from mocks import Program, run

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-0000-4000-8000-000000000000"
CONTEXT = Context(prefix="imports-test", environment="production", extra_tags={"Team": "catalogue"})
CONFIG = {"aws:region": REGION}
EXISTING_NETWORK = {
    "vpc_id": "vpc-0a",
    "private_subnet_ids": ["subnet-0a", "subnet-0b"],
    "workers_security_group_id": "sg-0a",
}


def settings(section: str, **values: Any) -> Any:
    """One section of a stack's configuration, checked as a stack's is."""
    around = {"network": EXISTING_NETWORK} if "existing_name" in values else {}
    return getattr(parse_configuration({"environment": "staging", section: values, **around}), section)


def program(build: Callable[[], Any], *, preview: bool = False) -> Program:
    return run(lambda: build() and None, config=CONFIG, preview=preview)


def make_cluster(max_workers: int = 50, **values: Any) -> Cluster:
    return Cluster(
        CONTEXT,
        ClusterArgs(
            settings=settings("cluster", **values),
            region=REGION,
            account_id=ACCOUNT,
            private_subnet_ids=pulumi.Output.from_input(["subnet-0a", "subnet-0b"]),
            workers_security_group_id=pulumi.Output.from_input("sg-0a"),
            key_arn=KEY,
            max_workers=max_workers,
            audit_days=90,
            autoscaler_chart_version="9.50.1",
        ),
    )


def statements(document: Any) -> list[Mapping[str, Any]]:
    """The statements of a policy as it went to AWS."""
    parsed = json.loads(document) if isinstance(document, str) else document
    return list(parsed["Statement"])
