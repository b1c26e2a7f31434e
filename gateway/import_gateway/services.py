"""What the routes of one gateway share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_gateway.access.gatekeeper import Gatekeeper
from import_gateway.live.hub import LiveHub
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
    hub: LiveHub
    """Live events for all listeners."""
    metrics: GatewayMetrics
    not_ready: Callable[[], str | None]
    """Why the gateway is not ready; None: it is."""
