"""Has the workers check connections that are new in the folder or have changed; what became of it is in their log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from import_core.adapters.folder.declarations import Declarations
from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.connections import ConnectionStore
from import_core.observability.logs import get_logger
from import_operator.loops.runner import Loop
from import_operator.state import OperatorState, generation_of, name_of, uid_of

log = get_logger(__name__)

INTERVAL_SECONDS = 5.0
BATCH = 200


class ConnectionLoop:
    """Compares the folder with what was asked for; a new leader asks again, which changes nothing."""

    def __init__(
        self,
        state: OperatorState,
        declarations: Declarations,
        connections: ConnectionStore,
        breakers: BreakerStore,
    ) -> None:
        self._state = state
        self._declarations = declarations
        self._connections = connections
        self._breakers = breakers
        self._asked: dict[str, int] = {}

    def loop(self) -> Loop:
        """The loop."""
        return Loop("connections", self.round, interval=INTERVAL_SECONDS)

    async def round(self) -> None:
        """Ask for the checks of one batch, and forget connections that are gone."""
        declared = (await self._declarations.refresh()).providers
        new = [body for name, body in declared.items() if self._asked.get(name) != generation_of(body)]
        for body in new[:BATCH]:
            await self._connections.request_check(
                self._state.namespace, name_of(body), uid_of(body), generation_of(body)
            )
            self._keep(body)
        for name in [*self._asked.keys() - declared.keys()][:BATCH]:
            await self._forget(name)
        self._state.jobs_listed = len(new) <= BATCH

    def _keep(self, body: Mapping[str, Any]) -> None:
        # A generation of a folder does not grow, so a changed one is put anew.
        self._state.providers.remove(uid_of(body))
        self._state.providers.put(body)
        self._asked[name_of(body)] = generation_of(body)
        log.info("connection.declared", name=name_of(body))

    async def _forget(self, name: str) -> None:
        body = self._state.providers.named(name)
        if body is not None:
            await self._connections.forget(self._state.namespace, name, uid_of(body))
            self._state.providers.remove(uid_of(body))
        await self._breakers.forget(self._state.namespace, name)
        del self._asked[name]
        log.info("connection.gone", name=name)
