"""`kubectl imports doctor` on real parts: all is well, and each fault is found for real and alone."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from cli_world import CliWorld
from doctor_world import ROOT, ROUTED, Patient, alertmanager_api
from eventually import eventually
from redis.asyncio import Redis

from import_core.domain.certificates import LIFE
from import_gateway.admission.certificates import make_key_pair
from import_local.kubectl import apply_definitions
from import_local.parts.control_plane import ControlPlane
from import_local.parts.objectstore import Bucket

SOON = 1


@pytest_asyncio.fixture(loop_scope="session")
async def patient(cli: CliWorld, redis_url: str, object_store: Bucket) -> AsyncIterator[Patient]:
    with alertmanager_api(ROUTED) as url:
        patient = Patient(cli, redis_url, object_store, url)
        await patient.install()
        yield patient
        await patient.remove()


async def test_all_is_well(patient: Patient) -> None:
    code, findings = await patient.examine()
    assert {finding["verdict"] for finding in findings.values()} == {"ok"}, findings
    assert len(findings) == 21
    assert code == 0


async def test_what_people_see(patient: Patient) -> None:
    result = await patient.cli.invoke("doctor", **{**patient.environment, "REDIS_URL": None})
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "✓ definition importjobs: v1alpha1 is served, with all fields of this version" in lines
    assert lines[lines.index("– redis: REDIS_URL is not set") + 1] == "    set REDIS_URL"
    assert lines[-1] == "18 ok, 1 skipped"


async def test_a_definition_that_is_missing_or_old(patient: Patient) -> None:
    crd = "crd/importschedules.imports.avnz.io"
    try:
        path = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/lastScheduleTime"
        await patient.kubectl("patch", crd, "--type=json", f'-p=[{{"op":"remove","path":"{path}"}}]')
        await patient.ails("definition importschedules", "without status.lastScheduleTime")
        await patient.kubectl("delete", crd)
        await patient.ails("definition importschedules", "importschedules.imports.avnz.io is not installed")
    finally:
        await apply_definitions(patient.cli.kubeconfig, ROOT / "crds")


async def test_an_account_without_its_rights(patient: Patient) -> None:
    await patient.kubectl("delete", "rolebinding/import-worker")
    account = f"system:serviceaccount:{patient.cli.namespace}:import-worker"

    async def taken() -> bool:
        return "secrets" not in await patient.kubectl("auth", "can-i", "--list", f"--as={account}")

    # The API server's authoriser hears of it after the one who deletes it.
    await eventually(taken)
    await patient.ails("rights import-worker", "may not get importproviders.imports.avnz.io, get secrets")


async def test_an_operator_that_does_not_lead(patient: Patient) -> None:
    await patient.lead(ago=timedelta(hours=1), seconds=SOON)
    await patient.ails("operator lease", "operator-1 holds the Lease, and has not renewed it for 3,")
    await patient.lead(holder="", seconds=SOON)
    await patient.ails("operator lease", "nobody holds the Lease")
    await patient.kubectl("delete", "lease/import-operator")
    await patient.ails("operator lease", "no operator has ever led here")


async def test_loops_that_stand_still(patient: Patient) -> None:
    await patient.measure(seconds_ago=3600)
    await patient.ails("operator loops", "product-imports was last 3,6")


async def test_the_webhooks_certificate(patient: Patient) -> None:
    now = datetime.now(UTC)
    good = make_key_pair(["gateway"], now=now, life=LIFE)
    await patient.certify(make_key_pair(["gateway"], now=now - timedelta(days=91), life=LIFE))
    await patient.ails("webhook certificate", "expired at")
    await patient.certify(make_key_pair(["gateway"], now=now - timedelta(days=70), life=LIFE))
    await patient.ails("webhook certificate", "should have been exchanged", verdict="warning")
    await patient.certify(good, trusted=make_key_pair(["other"], now=now, life=LIFE).authority)
    await patient.ails("webhook certificate", "does not trust the authority")
    await patient.kubectl("delete", "validatingwebhookconfiguration/import-gateway")
    await patient.ails("webhook certificate", "import-gateway is missing")


async def test_a_database_that_differs(patient: Patient) -> None:
    await patient.cli.sql("DROP INDEX import_job_due")
    await patient.ails("platform's indexes", "import_job_due")
    await patient.cli.sql("""CREATE INDEX import_job_due ON "ProductImportJob" (id)""")
    await patient.cli.sql('ALTER TABLE "Product" DROP COLUMN sku')
    await patient.ails("platform's tables", '"Product"."sku" is missing')
    await patient.cli.sql('ALTER TABLE "Product" ADD COLUMN sku text')
    await patient.cli.sql("UPDATE imports.migration SET version_num = '0001'")
    await patient.ails("postgresql migrations", "at 0001; this version needs")
    await patient.cli.sql("UPDATE imports.migration SET version_num = '9999'")
    await patient.ails("postgresql migrations", "does not know", verdict="warning")


async def test_another_database_and_none(patient: Patient, empty_database_url: str) -> None:
    code, findings = await patient.examine(DATABASE_URL=empty_database_url)
    assert code == 1
    assert findings["postgresql migrations"]["message"].startswith("the database was never migrated")
    assert '"Product"."id" is missing' in findings["platform's tables"]["message"]
    assert findings["operator loops"]["verdict"] == "failed"
    away = "postgresql://u:s3cr3t@127.0.0.1:1/platform"
    code, findings = await patient.examine(DATABASE_URL=away)
    assert code == 1
    assert findings["postgresql server"]["verdict"] == "failed"
    assert "s3cr3t" not in str(findings)


async def test_redis_that_evicts_or_is_away(patient: Patient, redis_url: str) -> None:
    client = Redis.from_url(redis_url)
    try:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        await patient.ails("redis eviction", "maxmemory-policy is allkeys-lru")
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.aclose()
    await patient.ails("redis", "Redis is not available", REDIS_URL="redis://127.0.0.1:1/0")


async def test_an_object_store_that_refuses(patient: Patient) -> None:
    await patient.ails("object store", "the bucket nobodys does not exist", S3_BUCKET="nobodys")
    await patient.ails("object store", "refused to write", AWS_SECRET_ACCESS_KEY="wrong")


async def test_alerts_that_reach_nobody(patient: Patient) -> None:
    with alertmanager_api({"route": {"receiver": "channel"}, "receivers": ROUTED["receivers"]}) as url:
        await patient.ails("alert routing", "critical alerts do not reach pagerduty", ALERTMANAGER_URL=url)
    await patient.ails(
        "alert routing", "does not tell a configuration", ALERTMANAGER_URL="http://127.0.0.1:1"
    )


async def test_a_real_alertmanager_with_the_projects_own_routes(
    patient: Patient, servers_folder: Path
) -> None:
    parts = pytest.importorskip("import_local.parts.alertmanager")
    server = parts.AlertmanagerServer(
        servers_folder / "doctor-alertmanager",
        log_path=servers_folder / "doctor-alertmanager.log",
        configuration=yaml.safe_load((ROOT / "dashboards" / "alertmanager.yaml").read_text()),
    )
    await server.start()
    try:
        _, findings = await patient.examine(ALERTMANAGER_URL=server.url)
    finally:
        await server.stop()
    assert findings["alert routing"]["verdict"] == "ok", findings["alert routing"]
    assert findings["alert routing"]["message"].startswith("critical → pagerduty, slack; ")


async def test_somebody_without_rights_learns_what_he_may_not_see(
    patient: Patient, control_plane_server: ControlPlane
) -> None:
    config: Path = control_plane_server.kubeconfig_for("somebody", namespace=patient.cli.namespace)
    code, findings = await patient.examine(KUBECONFIG=str(config))
    assert code == 0
    for check in ("definitions", "operator lease", "webhook certificate", "rights import-operator"):
        assert findings[check]["verdict"] == "skipped"
        assert findings[check]["fix"]
    assert findings["redis"]["verdict"] == "ok"
