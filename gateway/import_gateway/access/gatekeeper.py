"""Who calls, and whether they may: asked of the API server, remembered for a short time."""

from __future__ import annotations

from import_core.adapters.kube.client import KubeClient
from import_gateway.settings import GatewaySettings


class Gatekeeper:
    """Authenticates and authorises callers."""

    def __init__(self, kube: KubeClient, settings: GatewaySettings) -> None:
        self._kube = kube
        self._settings = settings
