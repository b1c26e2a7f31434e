"""What `kubectl imports doctor` asks of the API server."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from import_cli.finding import served_queues
from import_cli.sources import NoDatabaseError, Sources
from import_core.adapters.kube.bundles import read_bundle
from import_core.adapters.kube.resources import GROUP, LEASE, SECRET
from import_core.adapters.kube.reviews import review_right
from import_core.domain.doctor.cluster import (
    Right,
    SeenWebhook,
    judge_definition,
    judge_lease,
    judge_loops,
    judge_own_rights,
    judge_rights,
    judge_webhook,
)
from import_core.domain.doctor.findings import Finding, skipped
from import_core.domain.errors import ObjectForbiddenError
from import_core.domain.leadership import LEASE_SECONDS
from import_core.domain.resources.crd import DEFINITIONS

AT_ONCE = 4
LEASE_NAME = "import-operator"
WEBHOOK_CONFIGURATION = "import-gateway"
CERTIFICATE_SECRET = "import-gateway-certificate"  # noqa: S105 - its name
LOOK_SECONDS = 0.5


async def check_definitions(sources: Sources) -> list[Finding]:
    """The kinds that the API server has to know."""

    async def check(number: int) -> Finding:
        definition = DEFINITIONS[number]
        return judge_definition(definition, await sources.kube.get_definition(f"{definition.plural}.{GROUP}"))

    return list(await asyncio.gather(*map(check, range(len(DEFINITIONS)))))


def needed_rights() -> dict[str, list[Right]]:
    """What each ServiceAccount must be allowed, as deploy/base gives it (generated)."""
    document = json.loads((files("import_cli") / "rights.json").read_text(encoding="utf-8"))
    return {account: [Right(account, **right) for right in rights] for account, rights in document.items()}


async def check_rights(sources: Sources) -> list[Finding]:
    """Whether the ServiceAccounts may do what their processes do; who may not ask is told of his own rights."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def ask(right: Right, *, own: bool) -> bool:
        async with turn:
            return await review_right(sources.kube, right, namespace=sources.namespace, own=own)

    async def answers(rights: list[Right], *, own: bool) -> Mapping[Right, bool]:
        allowed = await asyncio.gather(*(ask(right, own=own) for right in rights))
        return dict(zip(rights, allowed, strict=True))

    findings = []
    for account, rights in needed_rights().items():
        try:
            # One alone first: who may not ask at all is refused once, and not for each.
            await ask(rights[0], own=False)
        except ObjectForbiddenError:
            findings.append(judge_own_rights(account, await answers(rights, own=True)))
        else:
            findings.append(judge_rights(account, await answers(rights, own=False)))
    return findings


async def check_webhook(sources: Sources) -> list[Finding]:
    """The admission webhook's certificate, as far as it may be seen."""
    configuration = await sources.kube.get_webhook_configuration(WEBHOOK_CONFIGURATION)
    try:
        secret = await sources.kube.get(SECRET, sources.namespace, CERTIFICATE_SECRET)
        secret_read = True
    except ObjectForbiddenError:
        secret, secret_read = None, False
    webhooks = (configuration or {}).get("webhooks") or [{}]
    data = (secret or {}).get("data") or {}
    seen = SeenWebhook(
        configured=configuration is not None,
        trusted=read_bundle(_decoded((webhooks[0].get("clientConfig") or {}).get("caBundle"))),
        secret_read=secret_read,
        served=next(iter(read_bundle(_decoded(data.get("tls.crt")))), None),
        authority=next(iter(read_bundle(_decoded(data.get("ca.crt")))), None),
    )
    return [judge_webhook(seen, datetime.now(UTC), namespace=sources.namespace)]


def _decoded(value: str | None) -> bytes:
    try:
        return base64.b64decode(value or "", validate=True)
    except binascii.Error:
        return b""


async def check_lease(sources: Sources) -> list[Finding]:
    """Whether an operator leads: the Lease changes within its time, whatever the clocks say."""
    lease = await sources.kube.get(LEASE, sources.namespace, LEASE_NAME)
    holder, age, renewed = None, None, False
    if lease is not None:
        holder = str(lease["spec"].get("holderIdentity") or "")
        age = _age(lease["spec"].get("renewTime"), await sources.kube.server_time(sources.namespace))
        renewed = bool(holder) and await _is_renewed(sources, lease, age)
    return [judge_lease(holder, age_seconds=age, renewed=renewed, namespace=sources.namespace)]


async def _is_renewed(sources: Sources, lease: Mapping[str, Any], age: float | None) -> bool:
    limit = float(lease["spec"].get("leaseDurationSeconds") or LEASE_SECONDS)
    if age is not None and abs(age) < limit:
        return True
    deadline = asyncio.get_running_loop().time() + limit
    version = lease["metadata"]["resourceVersion"]
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(LOOK_SECONDS)
        now = await sources.kube.get(LEASE, sources.namespace, LEASE_NAME)
        if now is not None and now["metadata"]["resourceVersion"] != version:
            return True
    return False


def _age(renewed_at: str | None, now: datetime) -> float | None:
    try:
        return (now - datetime.fromisoformat(renewed_at)).total_seconds() if renewed_at else None
    except ValueError:
        return None


async def check_loops(sources: Sources) -> list[Finding]:
    """Whether the leader's loops go round: each queue is measured every second."""
    queues = await served_queues(sources)
    try:
        async with sources.stores() as stores:
            now = await stores.reports.now()
            states = await stores.queues.read(queues)
    except NoDatabaseError:
        return [
            skipped("operator loops", "when queues were measured is kept in PostgreSQL", "set DATABASE_URL")
        ]
    measured = {queue: state.intake.health.measured_at for queue, state in states.items()}
    ages = {queue: (now - at).total_seconds() if at else None for queue, at in measured.items()}
    return [judge_loops(ages, namespace=sources.namespace)]
