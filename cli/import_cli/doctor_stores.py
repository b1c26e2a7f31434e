"""What `kubectl imports doctor` asks of PostgreSQL, Redis, the object store, the clocks and Alertmanager."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import time

from import_cli.sources import Sources, find_redis_url
from import_core.domain.doctor.alerting import judge_routes
from import_core.domain.doctor.findings import Finding, failed, passed, skipped, warned
from import_core.domain.doctor.stores import judge_clocks, judge_database, judge_redis
from import_core.domain.errors import DatabaseUnavailableError, ImportOperatorError, StorageRefusedError

PROBES = "images/!doctor/"
"""Below images/, where workers may write; no company has such a name, so no image is ever there."""
CONTENT = b"kubectl imports doctor writes, reads and deletes this.\n"
SECOND = 1.0
"""The API server tells its time in whole seconds."""


async def check_database(sources: Sources) -> list[Finding]:
    """Server, migrations, tables, indexes."""
    from import_core.adapters.postgres.inspection import inspect_database

    if sources.database_url is None:
        return [skipped("postgresql server", "DATABASE_URL is not set", "set DATABASE_URL")]
    try:
        seen, _ = await inspect_database(sources.database_url)
    except DatabaseUnavailableError as error:
        fix = "is DATABASE_URL the right address, does the server run, may this machine reach it, may the user read?"
        return [failed("postgresql server", str(error), fix)]
    return judge_database(seen)


async def check_redis(sources: Sources) -> list[Finding]:
    """Reachability, role, eviction policy, memory."""
    if find_redis_url() is None:
        return [skipped("redis", "REDIS_URL is not set", "set REDIS_URL")]
    from import_core.adapters.redis.inspection import inspect_redis

    async with sources.redis("Redis is looked at") as client:
        return judge_redis(await inspect_redis(client))


async def check_store(sources: Sources) -> list[Finding]:
    """Write, read and delete a small object of this person's own."""
    del sources
    bucket, name = os.environ.get("S3_BUCKET"), "object store"
    if not bucket:
        return [
            skipped(
                name,
                "S3_BUCKET is not set",
                "set S3_BUCKET, and S3_ENDPOINT_URL and AWS_REGION as workers have",
            )
        ]
    from import_core.adapters.s3.store import ObjectStore

    store = ObjectStore(
        bucket,
        endpoint_url=os.environ.get("S3_ENDPOINT_URL"),
        region=os.environ.get("AWS_REGION"),
        timeout=5.0,
        max_retries=1,
        retry_time=5.0,
    )
    key = f"{PROBES}{_asker()}"
    await store.put(key, CONTENT, "text/plain")
    read = await store.get(key)
    if read != CONTENT:
        return [
            failed(name, f"{key} was written and reads otherwise", "look at what stands before the bucket")
        ]
    try:
        await store.delete(key)
    except StorageRefusedError as error:
        # Workers may not delete; the next doctor of the same person writes over it.
        fix = f"nothing for workers, who never delete; s3:DeleteObject on {PROBES}* lets doctor tidy up"
        return [warned(name, f"writes and reads in {bucket}; the probe stays: {error}", fix)]
    return [passed(name, f"writes, reads and deletes in bucket {bucket}")]


def _asker() -> str:
    """Names a person on a machine without telling either."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = ""
    return hashlib.sha256(f"{who}@{socket.gethostname()}".encode()).hexdigest()[:16]


async def check_clocks(sources: Sources) -> list[Finding]:
    """This machine's clock, the API server's and PostgreSQL's."""
    from import_core.adapters.postgres.inspection import inspect_database

    offsets: dict[str, float] = {}
    accuracy: dict[str, float] = {}
    unknown: list[str] = []
    try:
        before = time.time()
        told = (await sources.kube.server_time(sources.namespace)).timestamp()
        after = time.time()
        offsets["API server"] = told + SECOND / 2 - (before + after) / 2
        accuracy["API server"] = (after - before) / 2 + SECOND / 2
    except ImportOperatorError as error:
        unknown.append(str(error))
    if sources.database_url is not None:
        try:
            _, (moment, before, after) = await inspect_database(sources.database_url)
            offsets["PostgreSQL"] = moment.timestamp() - (before + after) / 2
            accuracy["PostgreSQL"] = (after - before) / 2
        except DatabaseUnavailableError as error:
            unknown.append(str(error))
    return [judge_clocks(offsets, accuracy=accuracy)]


async def check_alerts(sources: Sources, url: str | None) -> list[Finding]:
    """Where an Alertmanager would send alerts of each severity."""
    del sources
    if not url:
        return [
            skipped(
                "alert routing",
                "no Alertmanager is named",
                "give --alertmanager URL, or set ALERTMANAGER_URL",
            )
        ]
    from import_core.adapters.alertmanager import read_configuration

    return [judge_routes(await read_configuration(url))]
