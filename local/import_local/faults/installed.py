"""Everything that a test can do to a running installation that was started with `Options(faults=True)`."""

from collections.abc import Callable

from import_local.errors import LocalError
from import_local.faults.links import Link
from import_local.faults.servers import ApiServerFaults, NodeFaults, PostgresFaults, RedisFaults
from import_local.part_set import PartSet
from import_local.parts.postgres_pair import PostgresPair
from import_local.parts.valkey_pair import ValkeyPair


class Faults:
    """The handles, one per part. `changed` is called when other processes run than before."""

    def __init__(self, parts: PartSet, *, changed: Callable[[], None]) -> None:
        if (
            parts.links is None
            or not isinstance(parts.valkey, ValkeyPair)
            or not isinstance(parts.postgres, PostgresPair)
        ):
            raise LocalError("this installation was not started with Options(faults=True)")
        self._parts = parts
        self._links = parts.links
        self.redis = RedisFaults(parts.valkey, parts.links, changed=changed)
        self.postgres = PostgresFaults(parts.postgres, parts.links, changed=changed)
        self.api_server = ApiServerFaults(parts.control_plane, changed=changed)
        self.node = NodeFaults(parts.node, changed=changed)

    @property
    def shopify_url(self) -> str:
        """Sample shops as the workers reach them, by the link `workers-provider`."""
        return self._links["workers-provider"].through(self._parts.samples.shopify_url)

    @property
    def roastify_url(self) -> str:
        """Sample Roastify accounts as the workers reach them, by the link `workers-provider`."""
        return self._links["workers-provider"].through(self._parts.samples.roastify_url)

    def link(self, name: str) -> Link:
        """Return one of `LINKS` (import_local.faults.links), e.g. `workers-redis`."""
        return self._links[name]

    def heal_links(self) -> None:
        """End every misbehaviour of all links."""
        self._links.heal()

    async def end_all(self) -> None:
        """Heal all links, start again what was killed and is still away, and end failovers that were broken off."""
        self.heal_links()
        await self.redis.repair()
        await self.postgres.repair()
        await self.api_server.start()
        await self.node.start()
