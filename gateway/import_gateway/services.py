"""What the routes of one gateway share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from import_core.adapters.dead_letters import DeadLetters
from import_core.adapters.folder.declarations import Declarations
from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.fleet import FleetStore
from import_core.adapters.postgres.jobs import JobStore
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.adapters.search.merged import ProductSearch
from import_gateway.access.gatekeeper import Gatekeeper
from import_gateway.access.sellers import Sellers
from import_gateway.admission.room import Room
from import_gateway.live.figures import FigureReports
from import_gateway.live.hub import LiveHub
from import_gateway.live.overview import OverviewReader
from import_gateway.live.queues import QueueReports
from import_gateway.live.reading import JobReader
from import_gateway.metrics import GatewayMetrics
from import_gateway.objects import Objects
from import_gateway.settings import GatewaySettings
from import_gateway.standalone.objects import NoObjects
from import_gateway.standalone.submitting import RowSubmitter
from import_gateway.standalone.tokens import TokenFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Opened and closed by the process; tests make their own."""

    settings: GatewaySettings
    database: Database
    kube: Objects
    access: Gatekeeper
    """Who calls, and whether they may."""
    sellers: Sellers
    """Links to sellers' pages."""
    room: Room
    """Whether there is room for another import."""
    jobs: JobReader
    """What is shown of jobs."""
    queues: QueueReports
    """How the queues are."""
    figures: FigureReports
    """Figures of the last days."""
    dead_letters: DeadLetters
    """Products that imports, or steps after them, gave up."""
    reopening: ReopeningStore
    """Runs jobs without an object again."""
    rows: RowSubmitter | None
    """Makes imports without Kubernetes; None: they are objects."""
    search: ProductSearch
    """Finds products."""
    hub: LiveHub
    """Live events for all listeners."""
    metrics: GatewayMetrics
    not_ready: Callable[[], str | None]
    """Why the gateway is not ready; None: it is."""


def get_services(
    settings: GatewaySettings,
    database: Database,
    kube: KubeClient | None,
    *,
    search: ProductSearch,
    not_ready: Callable[[], str | None],
) -> Services:
    """Make them from open connections; the hub listens once its `run` does. `kube` None: there is no Kubernetes.

    Raises InvalidInputError and DeclarationsError for files that then are read instead.
    """
    metrics, namespace = GatewayMetrics(), settings.namespace
    objects: Objects = kube or NoObjects(FleetStore(database))
    jobs = JobReader(database, objects, namespace=namespace)
    queues = QueueReports(database, objects, namespace=namespace)
    room = Room(database, objects, settings, metrics, namespace=namespace)
    overview = OverviewReader(jobs, queues, namespace=namespace)
    return Services(
        settings=settings,
        database=database,
        kube=objects,
        access=Gatekeeper(
            kube, settings, authority=TokenFile(settings.tokens_file) if kube is None else None
        ),
        sellers=Sellers(settings),
        room=room,
        rows=_row_submitter(settings, database, room) if kube is None else None,
        jobs=jobs,
        queues=queues,
        figures=FigureReports(database, queues, namespace=namespace),
        dead_letters=DeadLetters(database, lambda: objects, namespace=namespace),
        reopening=ReopeningStore(database),
        search=search,
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


def _row_submitter(settings: GatewaySettings, database: Database, room: Room) -> RowSubmitter:
    declarations = Declarations(settings.providers_path, namespace=settings.namespace)
    declarations.load()
    return RowSubmitter(
        declarations,
        JobStore(database),
        room,
        namespace=settings.namespace,
        unavailable=settings.unavailable_steps,
    )
