"""The objects that the demo applies, as a person would write them."""

from __future__ import annotations

from typing import Any

from import_core.domain.steps import StepKind

API_VERSION = "imports.avnz.io/v1alpha1"
NAMESPACE = "imports"
POOL = "product-imports"
WORKERS = f"{POOL}-workers"
"""The Deployment that the operator makes of the pool."""
TARGET_JOBS_PER_WORKER = 10


def get_worker_pool(*, minimum: int, maximum: int, image: str, cooldown_seconds: int) -> dict[str, Any]:
    """A pool without a queue limiter and with short cooldowns, so that a tour of minutes shows it all."""
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": {"name": POOL, "namespace": NAMESPACE},
        "spec": {
            "queue": POOL,
            "concurrency": 5,
            "scaling": {
                "minReplicas": minimum,
                "maxReplicas": maximum,
                "targetJobsPerWorker": TARGET_JOBS_PER_WORKER,
                "scaleOutCooldownSeconds": cooldown_seconds,
                "scaleInCooldownSeconds": cooldown_seconds,
            },
            "template": {
                "spec": {
                    "terminationGracePeriodSeconds": 60,
                    "containers": [
                        {
                            "name": "worker",
                            "image": image,
                            "resources": {
                                "requests": {"cpu": "2", "memory": "4Gi"},
                                "limits": {"memory": "4Gi"},
                            },
                        }
                    ],
                }
            },
        },
    }


def get_step_pools(*, image: str, maximum: int, cooldown_seconds: int) -> list[dict[str, Any]]:
    """A pool for each step after the import; without work it has no worker."""
    pools = []
    for kind in StepKind:
        pool = get_worker_pool(minimum=0, maximum=maximum, image=image, cooldown_seconds=cooldown_seconds)
        pool["metadata"]["name"] = pool["spec"]["queue"] = kind.value
        resources = pool["spec"]["template"]["spec"]["containers"][0]["resources"]
        resources |= {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
        pools.append(pool)
    return pools


def get_connection(
    *, name: str, company_id: str, provider_type: str, base_url: str, credentials: dict[str, str]
) -> list[dict[str, Any]]:
    """A Secret and the ImportProvider that names it."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": credentials,
        },
        {
            "apiVersion": API_VERSION,
            "kind": "ImportProvider",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "companyId": company_id,
                "type": provider_type,
                "baseUrl": base_url,
                "credentialsSecretRef": {"name": name},
            },
        },
    ]


def get_import_job(
    *, name: str, company_id: str, provider: str, enrich: dict[str, bool] | None = None
) -> dict[str, Any]:
    """An import with every default; `enrich`: the steps after it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ImportJob",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "companyId": company_id,
            "providerRef": {"name": provider},
            **({"enrich": enrich} if enrich else {}),
        },
    }
