"""Where the commands get their answers: the API server, and PostgreSQL and Redis where their URLs are set."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from import_core.adapters.dead_letters import DeadLetters
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.decisions import DecisionStore
from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.adapters.postgres.guard import GuardStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.notifications_outbox import NotificationOutbox
from import_core.adapters.postgres.paces import PaceStore
from import_core.adapters.postgres.quality import QualityStore
from import_core.adapters.postgres.queue_state import QueueStateStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.adapters.postgres.reports import ReportStore, readable
from import_core.adapters.postgres.views import JobViews
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.adapters.redis.address import redis_address_in
from import_core.domain.errors import (
    DatabaseUnavailableError,
    ImportOperatorError,
    InvalidInputError,
    KubernetesUnavailableError,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from import_core.adapters.redis.queue import JobQueue

FIELD_MANAGER = "kubectl-imports"
"""Who changed an annotation, as the object's managedFields say."""
DEFAULT_NAMESPACE = "imports"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:@\[\]]*)(:[0-9]+)?")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


class UsageError(ImportOperatorError):
    """The command can't do this; the message says what to change."""


class NoDatabaseError(UsageError):
    """DATABASE_URL is not set."""


@dataclass(frozen=True, slots=True)
class Stores:
    """What PostgreSQL answers."""

    jobs: JobStore
    reports: ReportStore
    reopening: ReopeningStore
    dispatching: DispatchStore
    queues: QueueStateStore
    guards: GuardStore
    breakers: BreakerStore
    decisions: DecisionStore
    views: JobViews
    paces: PaceStore
    quality: QualityStore
    webhooks: WebhookStore
    outbox: NotificationOutbox
    dead_letters: DeadLetters


class Sources:
    """Connections of one command; use with `async with`.

    Raises UsageError for a namespace or DATABASE_URL that can't be meant. Whether anything answers shows when it is
    asked.
    """

    def __init__(self, namespace: str) -> None:
        if _NAMESPACE.fullmatch(namespace) is None:
            raise UsageError(f"{namespace!r} can't be the name of a namespace")
        self.namespace = namespace
        # A command is one client for a moment: it needs no pooler, and the server itself tells best what is wrong.
        name = "DATABASE_DIRECT_URL" if os.environ.get("DATABASE_DIRECT_URL") else "DATABASE_URL"
        url = os.environ.get(name)
        if url:
            check_database_url(url, name=name)
        self._kube: KubeClient | None = None
        self._database = Database(url, application="kubectl-imports", minimum=0, maximum=2) if url else None
        self._answered = False

    async def __aenter__(self) -> Sources:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._kube is not None:
                await self._kube.close()
        finally:
            if self._database is not None:
                await self._database.close()

    @property
    def kube(self) -> KubeClient:
        """The API server; who asks PostgreSQL alone needs none.

        Raises KubernetesUnavailableError without a usable kubeconfig.
        """
        if self._kube is None:
            self._kube = KubeClient(field_manager=FIELD_MANAGER)
        return self._kube

    @property
    def user(self) -> str | None:
        """What the kubeconfig calls the user; None where there is no usable one."""
        try:
            return self.kube.user
        except KubernetesUnavailableError:
            return None

    @asynccontextmanager
    async def needed_stores(self, why: str) -> AsyncIterator[Stores]:
        """Ask PostgreSQL, as `stores`; without DATABASE_URL, raise UsageError that says why it is needed."""
        try:
            async with self.stores() as stores:
                yield stores
        except NoDatabaseError as error:
            raise UsageError(f"{why}: set DATABASE_URL") from error

    @asynccontextmanager
    async def needed_database(self, why: str) -> AsyncIterator[Database]:
        """The database itself, for what no store of these answers; raises as `needed_stores`."""
        async with self.needed_stores(why):
            if self._database is None:
                raise UsageError(f"{why}: set DATABASE_URL")
            yield self._database

    @property
    def database_url(self) -> str | None:
        """Where PostgreSQL is; None: nobody said."""
        return self._database.url if self._database is not None else None

    @asynccontextmanager
    async def queue(self, name: str) -> AsyncIterator[JobQueue]:
        """Ask Redis. Raises UsageError without a usable REDIS_URL; QueueUnavailableError when it is asked."""
        async with self.redis("What was handed over is in Redis") as client:
            # Loaded here: it would slow down every other command.
            from import_core.adapters.redis.queue import JobQueue

            yield JobQueue(client, name)

    @asynccontextmanager
    async def redis(self, why: str) -> AsyncIterator[Redis]:
        """A client of Redis. Raises UsageError, which says why it is needed, without a usable REDIS_URL."""
        url = find_redis_url()
        if url is None:
            raise UsageError(f"{why}: set REDIS_URL")
        from import_core.adapters.redis.queue import connect

        try:
            client = connect(url, client_name=FIELD_MANAGER)
        except ValueError as error:
            # Not the parser's text: it quotes the address, and so the password.
            raise UsageError(
                "REDIS_URL must be redis://[:password@]host:port/0, or rediss:// for TLS"
            ) from error
        try:
            yield client
        finally:
            await client.aclose()

    @asynccontextmanager
    async def stores(self) -> AsyncIterator[Stores]:
        """Ask PostgreSQL. Raises NoDatabaseError, DatabaseUnavailableError or SchemaMismatchError."""
        if self._database is None:
            raise NoDatabaseError
        try:
            async with readable():
                if not self._answered:
                    # A pool hides why no connection stands and tries for long; one by itself tells at once.
                    await (await self._database.dedicated()).close()
                    await self._database.open()
                    self._answered = True
                yield Stores(
                    JobStore(self._database),
                    ReportStore(self._database),
                    ReopeningStore(self._database),
                    DispatchStore(self._database),
                    QueueStateStore(self._database),
                    GuardStore(self._database),
                    BreakerStore(self._database),
                    DecisionStore(self._database),
                    JobViews(self._database),
                    PaceStore(self._database),
                    QualityStore(self._database),
                    WebhookStore(self._database, namespace=self.namespace),
                    NotificationOutbox(self._database, namespace=self.namespace),
                    DeadLetters(self._database, lambda: self.kube, namespace=self.namespace),
                )
        except DatabaseUnavailableError:
            self._answered = False
            raise


def find_redis_url() -> str | None:
    """Where Redis is, by the environment; None: nobody said. Raises UsageError."""
    try:
        return redis_address_in(os.environ)
    except InvalidInputError as error:
        raise UsageError(error.message) from error


def is_object_name(name: str) -> bool:
    """Whether an object can have this name (a DNS subdomain)."""
    return _OBJECT_NAME.fullmatch(name) is not None


def check_database_url(url: str, *, name: str = "DATABASE_URL") -> None:
    """Raise UsageError for an address that libpq would misread, since its complaint would quote the password."""
    help_text = f"{name} must be postgresql://user:password@host:port/database"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(help_text) from error
    if parts.scheme not in {"postgresql", "postgres"}:
        raise UsageError(help_text)
    hosts = parts.netloc.rpartition("@")[2].split(",")
    stray = "@" in f"{parts.path}{parts.query}{parts.fragment}" or parts.netloc.count("@") > 1
    if stray or _BROKEN_ESCAPE.search(url) or any(_HOST.fullmatch(host) is None for host in hosts):
        raise UsageError(
            f"{help_text}, with @ : / ? # % in user, password and parameters written as %40 %3A %2F %3F %23 %25"
        )
