"""The file by which kubectl and Pulumi reach the cluster: no secret in it, a token is asked of AWS each time."""

from __future__ import annotations

import json


def kubeconfig(*, name: str, endpoint: str, certificate_authority: str, region: str) -> str:
    """Write a kubeconfig (JSON, which is YAML too) whose user is whoever the AWS CLI is at that moment."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {"server": endpoint, "certificate-authority-data": certificate_authority},
                }
            ],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "imports"}}],
            "current-context": name,
            "users": [
                {
                    "name": name,
                    "user": {
                        "exec": {
                            "apiVersion": "client.authentication.k8s.io/v1beta1",
                            "command": "aws",
                            "args": [
                                "eks",
                                "get-token",
                                "--cluster-name",
                                name,
                                "--region",
                                region,
                                "--output",
                                "json",
                            ],
                            "interactiveMode": "Never",
                        }
                    },
                }
            ],
        }
    )
