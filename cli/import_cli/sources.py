"""Where the commands get their answers: the API server always, PostgreSQL when DATABASE_URL is set."""

from __future__ import annotations

import os
from types import TracebackType

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.reports import ReportStore
from import_core.domain.errors import ImportOperatorError

DEFAULT_NAMESPACE = "imports"
CONNECT_SECONDS = 5.0


class UsageError(ImportOperatorError):
    """The command can't do this; the message says what to change."""


class Sources:
    """Connections of one command; use with `async with`."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.kube = KubeClient()
        url = os.environ.get("DATABASE_URL")
        self._database = Database(url, application="kubectl-imports", minimum=0, maximum=2) if url else None

    async def __aenter__(self) -> Sources:
        if self._database is not None:
            await self._database.open(wait_seconds=CONNECT_SECONDS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kube.close()
        if self._database is not None:
            await self._database.close()

    @property
    def jobs(self) -> JobStore | None:
        """Jobs in PostgreSQL, or None without DATABASE_URL."""
        return JobStore(self._database) if self._database else None

    @property
    def reports(self) -> ReportStore | None:
        """Reports from PostgreSQL, or None without DATABASE_URL."""
        return ReportStore(self._database) if self._database else None

    def require_reports(self, what: str) -> ReportStore:
        """Reports, or UsageError saying what to set."""
        if (reports := self.reports) is None:
            raise UsageError(f"{what} are kept in PostgreSQL: set DATABASE_URL (make up: . .local/env)")
        return reports

    async def get_job(self, name: str) -> dict[str, object]:
        """The ImportJob, or UsageError naming it."""
        job = await self.kube.get(IMPORT_JOB, self.namespace, name)
        if job is None:
            raise UsageError(f"There is no ImportJob {name} in namespace {self.namespace}")
        return job
