"""Checks connections for the operator: only workers may read Secrets, so only they can prove credentials."""

from __future__ import annotations

import asyncio
import random

import structlog

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.connections import CheckResult, ConnectionStore
from import_core.adapters.postgres.notifications import CONNECTION_CHANNEL, notify
from import_core.domain.errors import (
    BreakerOpenError,
    CredentialsError,
    DatabaseUnavailableError,
    HandBackError,
    ImportOperatorError,
    JobError,
    KubernetesUnavailableError,
    ProviderThrottledError,
    ProviderUnavailableError,
    QueueUnavailableError,
)
from import_core.domain.failures import describe
from import_core.observability.metrics import WorkerMetrics
from import_worker.connections import ConnectionOpener
from import_worker.providers.base import CatalogueFilter

log = structlog.get_logger(__name__)

LOOK_EVERY_SECONDS = 3.0
CHECK_TIMEOUT_SECONDS = 45.0
"""Below the 60 s after which another worker may take the same check."""

LONGEST_CALL_SECONDS = 25.0
"""Below the check's own time, so that the breaker hears of a provider that does not answer."""


class ProviderChecks:
    """Takes due checks of the worker's namespace, one after the other."""

    def __init__(
        self,
        database: Database,
        connections: ConnectionOpener,
        metrics: WorkerMetrics,
        *,
        look_every_seconds: float = LOOK_EVERY_SECONDS,
    ) -> None:
        self._database = database
        self._store = ConnectionStore(database)
        self._connections = connections
        self._metrics = metrics
        self._look_every = look_every_seconds

    async def run(self) -> None:
        """Look for due checks for ever; every worker looks, so they are spread in time."""
        while True:
            try:
                found = await self.check_one()
            except DatabaseUnavailableError as error:
                log.warning("checks.database_unavailable", detail=error.message)
                found = False
            except Exception:
                # One connection's oddity must not end a worker with everybody's jobs: the log has the rest.
                log.exception("checks.failed")
                found = False
            if not found:
                await asyncio.sleep(self._look_every * random.uniform(0.7, 1.3))  # noqa: S311 - spreads load

    async def check_one(self) -> bool:
        """Take and make one due check; returns whether there was one."""
        namespace = self._connections.namespace
        due = await self._store.take_due(namespace)
        if due is None:
            return False
        name, uid, generation = due
        try:
            result = await self._check(name)
        except BreakerOpenError as error:
            await self._store.postpone(namespace, name, uid, seconds=error.retry_after)
            return True
        if result is None:
            return True
        await self._store.record_result(namespace, name, uid, generation, result)
        await notify(self._database, CONNECTION_CHANNEL, [f"{namespace}/{name}"])
        return True

    async def _check(self, name: str) -> CheckResult | None:
        """What a check says; None where it could not be made, through no fault of the provider.

        Raises BreakerOpenError where the provider was not asked because it is known to fail.
        """
        provider_type, asked = "unknown", False
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                found = await self._connections.find(name)
                provider_type = found.spec.type.value
                provider = await self._connections.open(
                    found, CatalogueFilter(), longest_call_seconds=LONGEST_CALL_SECONDS
                )
                try:
                    asked = True
                    await provider.check()
                finally:
                    await provider.aclose()
            result = CheckResult(True, True, "Checked", "the provider answers and accepts the credentials")
        except BreakerOpenError as error:
            if not isinstance(error.__cause__, ProviderUnavailableError):
                log.info("provider.not_checked", connection=name, detail=error.message)
                raise
            # It was asked, and failed once too often: that is what the check found.
            result = judge(error.__cause__, asked=True)
        except (HandBackError, QueueUnavailableError, KubernetesUnavailableError) as error:
            log.info("provider.not_checked", connection=name, detail=error.message)
            return None
        except (ImportOperatorError, TimeoutError) as error:
            result = judge(error, asked=asked)
        except Exception as error:
            log.exception("provider.check_failed", connection=name)
            kind = type(error).__name__
            message = f"the check failed unexpectedly ({kind}); the worker's log says where"
            result = CheckResult(None, None, "UnexpectedError", message)
        outcome = "ok" if result.reachable and result.credentials_valid else "failed"
        self._metrics.provider_checks.labels(outcome, provider_type).inc()
        log.info("provider.checked", connection=name, outcome=outcome, reason=result.reason)
        return result


def judge(error: ImportOperatorError | TimeoutError, *, asked: bool) -> CheckResult:
    """What a failed check says about the connection; `asked`: the provider was called at all."""
    message = describe(error)
    reason = error.reason if isinstance(error, JobError) else "InvalidProvider"
    match error:
        case CredentialsError():
            # A missing Secret or key says nothing of the provider; a refusal proves that it answers.
            return CheckResult(True if asked else None, False, reason, message)
        case ProviderThrottledError():
            return CheckResult(True, None, reason, message)
        case ProviderUnavailableError():
            return CheckResult(False, None, reason, message)
        case TimeoutError() if asked:
            waited = f"no answer within {CHECK_TIMEOUT_SECONDS:g} s"
            return CheckResult(False, None, ProviderUnavailableError.reason, waited)
        case _:
            return CheckResult(None, None, reason, message)
