"""A job that a dead admission webhook let through is held by the operator until there is room: not lost, not run."""

import json

from eventually import eventually
from operator_world import Cluster, Operators

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.domain.jobs import DEFAULT_QUEUE
from import_local.ports import free_port

ROWS = 'SELECT count(*) FROM "ProductImportJob" WHERE "companyId" = %s'


def configuration(cluster: Cluster) -> dict[str, object]:
    """A webhook like that of deploy/base, whose server is away."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"dead-{cluster.namespace}"},
        "webhooks": [
            {
                "name": "importjobs.imports.avnz.io",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "timeoutSeconds": 1,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}},
                "rules": [
                    {
                        "apiGroups": ["imports.avnz.io"],
                        "apiVersions": ["*"],
                        "resources": ["importjobs"],
                        "operations": ["CREATE"],
                    }
                ],
                "clientConfig": {"url": f"https://127.0.0.1:{free_port()}/admission/importjobs"},
            }
        ],
    }


async def test_job_let_through_is_held_and_runs_when_intake_is_open(
    cluster: Cluster, operators: Operators, database: Database
) -> None:
    store = QueueStateStore(database)
    await store.set_intake(DEFAULT_QUEUE, stopped=True, reason="a test", changed_by="somebody")
    manifest = json.dumps(configuration(cluster))
    path = operators.folder / "webhook.json"
    path.write_text(manifest)
    await cluster.kubectl("create", "-f", str(path))
    try:
        await cluster.provider()
        await operators.leading()
        await cluster.job("import")

        await cluster.condition(IMPORT_JOB, "import", "Accepted", "False", reason="Backpressure")
        assert await _rows(database) == 0

        await store.set_intake(DEFAULT_QUEUE, stopped=False, reason=None, changed_by="somebody")
        await cluster.condition(IMPORT_JOB, "import", "Accepted", "True")
        await eventually(lambda: _rows(database), what="the job's row")
    finally:
        await cluster.kubectl("delete", "-f", str(path))


async def _rows(database: Database) -> int:
    async with database.connection() as connection:
        row = await (await connection.execute(ROWS, ("acme",))).fetchone()
    return int(row[0]) if row else 0
