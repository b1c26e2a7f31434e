"""What the routes of one gateway share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.reopening import ReopeningStore
from import_gateway.access.gatekeeper import Gatekeeper
from import_gateway.admission.room import Room
from import_gateway.live.hub import LiveHub
from import_gateway.live.overview import OverviewReader
from import_gateway.live.queues import QueueReports
from import_gateway.live.reading import JobReader
from import_gateway.metrics import GatewayMetrics
from import_gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Opened and closed by the process; tests make their own."""

    settings: GatewaySettings
    database: Database
    kube: KubeClient
    access: Gatekeeper
    """Who calls, and whether they may."""
    room: Room
    """Whether there is room for another import."""
    jobs: JobReader
    """What is shown of jobs."""
    queues: QueueReports
    """How the queues are."""
    reopening: ReopeningStore
    """Runs jobs without an object again."""
    hub: LiveHub
    """Live events for all listeners."""
    metrics: GatewayMetrics
    not_ready: Callable[[], str | None]
    """Why the gateway is not ready; None: it is."""


def get_services(
    settings: GatewaySettings, database: Database, kube: KubeClient, *, not_ready: Callable[[], str | None]
) -> Services:
    """Make them from open connections; the hub listens once its `run` does."""
    metrics, namespace = GatewayMetrics(), settings.namespace
    jobs = JobReader(database, kube, namespace=namespace)
    queues = QueueReports(database, kube, namespace=namespace)
    overview = OverviewReader(jobs, queues, namespace=namespace)
    return Services(
        settings=settings,
        database=database,
        kube=kube,
        access=Gatekeeper(kube, settings),
        room=Room(database, kube, settings, metrics, namespace=namespace),
        jobs=jobs,
        queues=queues,
        reopening=ReopeningStore(database),
        hub=LiveHub(
            database,
            jobs,
            overview,
            metrics,
            most=settings.listeners_limit,
            most_each=settings.caller_listeners_limit,
            reread_seconds=settings.reread_seconds,
        ),
        metrics=metrics,
        not_ready=not_ready,
    )
