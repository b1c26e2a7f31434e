"""Rows as the tests of this folder make and read them."""

from collections.abc import Mapping, Sequence
from typing import Any

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.domain.jobs import JobRequest, ObjectReference
from import_operator.state import OperatorState

NAMESPACE = "imports"
PROVIDER = {
    "metadata": {"name": "p", "uid": "p", "resourceVersion": "1", "generation": 1},
    "spec": {
        "companyId": "acme",
        "type": "shopify",
        "baseUrl": "https://acme.example",
        "credentialsSecretRef": {"name": "p"},
    },
}


def request(job_id: str, **values: Any) -> JobRequest:
    """An object's job; `values` replace the defaults."""
    defaults: dict[str, Any] = {
        "company_id": "acme",
        "provider": "acme-shopify",
        "namespace": NAMESPACE,
        "spec": {"companyId": "acme", "providerRef": {"name": "acme-shopify"}},
        "origin": ObjectReference(NAMESPACE, f"object-{job_id}", job_id),
        "generation": 1,
    }
    return JobRequest(id=job_id, **{**defaults, **values})


async def execute(
    database: Database, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """Run one statement; returns its rows, if it has any."""
    async with database.connection() as connection:
        cursor = await connection.execute(statement, parameters)
        return await cursor.fetchall() if cursor.description else []


async def keep_failed(
    database: Database,
    state: OperatorState,
    names: Sequence[str],
    *,
    completed_at: str,
    annotations: Mapping[str, str],
    **spec: Any,
) -> None:
    """Failed jobs of PROVIDER: their rows, and the objects that an operator knows of them."""
    origins = [ObjectReference(NAMESPACE, name, name) for name in names]
    await JobStore(database).record(
        [request(origin.name, provider="p", spec={}, origin=origin) for origin in origins]
    )
    await execute(
        database, """UPDATE "ProductImportJob" SET status = 'FAILED' WHERE id = ANY(%s)""", (list(names),)
    )
    for name in names:
        metadata = {
            "name": name,
            "namespace": NAMESPACE,
            "uid": name,
            "generation": 1,
            "resourceVersion": "1",
        }
        state.keep_job(
            {
                "metadata": {**metadata, "annotations": dict(annotations)},
                "spec": {"companyId": "acme", "providerRef": {"name": "p"}, **spec},
                "status": {"phase": "Failed", "completedAt": completed_at},
            }
        )
