"""Who may take a role: AWS services, and pods by EKS Pod Identity. Plain documents of plain values."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def managed_policy(name: str) -> str:
    """Name one of AWS's own policies."""
    return f"arn:aws:iam::aws:policy/{name}"


def service_trust(service: str, actions: list[str]) -> Document:
    """Let an AWS service take the role."""
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": actions}],
    }


def pod_trust(*, account_id: str, cluster_arn: str, namespace: str, service_account: str) -> Document:
    """Let the pods of one ServiceAccount of one cluster take the role, and nobody else's."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "pods.eks.amazonaws.com"},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
                "Condition": {
                    "StringEquals": {
                        "aws:SourceAccount": account_id,
                        "aws:RequestTag/kubernetes-namespace": namespace,
                        "aws:RequestTag/kubernetes-service-account": service_account,
                    },
                    "ArnEquals": {"aws:SourceArn": cluster_arn},
                },
            }
        ],
    }


def allow(actions: list[str], resources: list[str], condition: Document | None = None) -> Document:
    """Make one statement of a policy."""
    statement: Document = {"Effect": "Allow", "Action": actions, "Resource": resources}
    if condition:
        statement["Condition"] = condition
    return statement


def policy(statements: list[Document]) -> Document:
    """Make a policy of statements."""
    return {"Version": "2012-10-17", "Statement": statements}
