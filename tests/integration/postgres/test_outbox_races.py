"""Two workers that take webhooks at the same moment: together they send an endpoint no more than it is to get."""

import asyncio
from typing import Any

from eventually import eventually
from postgres_rows import NAMESPACE, execute

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.claims import ClaimStore
from import_core.adapters.postgres.notifications_outbox import NotificationOutbox
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.domain.jobs import JobState
from import_core.domain.notifications import Endpoint

# Whoever is called "late" stops in the middle of its look at the endpoints, for as long as the test holds the lock.
GATE = """
CREATE FUNCTION imports.gate() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('application_name') = 'late' THEN
        PERFORM pg_advisory_xact_lock_shared(1);
    END IF;
    RETURN true;
END $$;
ALTER TABLE imports.webhook ENABLE ROW LEVEL SECURITY;
ALTER TABLE imports.webhook FORCE ROW LEVEL SECURITY;
CREATE POLICY gate ON imports.webhook USING (imports.gate());
"""
AT_THE_GATE = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'late' AND wait_event = 'advisory'
"""


async def test_who_began_to_look_before_another_took_counts_what_that_one_took(
    database: Database, claimed: Any
) -> None:
    endpoint = Endpoint("acme-shopify", "u", "acme", "https://a.example", "hooks", ["import.completed"])
    await WebhookStore(database, namespace=NAMESPACE).put(endpoint)
    for number in range(8):
        claim = await claimed(f"job-{number}", worker_id=f"worker-{number}")
        await ClaimStore(database).finish(claim, JobState.COMPLETED, reason=None, message=None)
    await execute(database, GATE)
    late = Database(database.url, application="late", maximum=1)
    await late.open(wait_seconds=10)
    try:
        async with database.transaction() as gate:
            await gate.execute("SELECT pg_advisory_xact_lock(1)")
            taking = asyncio.create_task(NotificationOutbox(late, namespace=NAMESPACE).take(10, each=4))
            await eventually(lambda: execute(database, AT_THE_GATE), what="the late one is at the gate")
            taken = await NotificationOutbox(database, namespace=NAMESPACE).take(10, each=4)
        assert (len(taken), await taking) == (4, [])
    finally:
        await late.close()
