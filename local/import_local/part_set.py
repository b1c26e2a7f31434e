"""The parts of one installation, made from what was chosen for its state folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from import_local.deployment import NAMESPACE
from import_local.faults.links import LINKS, Links
from import_local.parts.control_plane import ControlPlane
from import_local.parts.node import ProcessNode
from import_local.parts.objectstore import ObjectStoreServer
from import_local.parts.postgres import PostgresServer
from import_local.parts.postgres_pair import PostgresPair
from import_local.parts.samples import SampleProviders
from import_local.parts.valkey import ValkeyServer
from import_local.parts.valkey_pair import ValkeyPair
from import_local.processes import Child
from import_local.state import Choices, StateFolder


class Part(Protocol):
    """What all parts have in common once they have started."""

    name: str

    def processes(self) -> list[Child]:
        """Return the processes that run now."""

    async def stop(self) -> None:
        """Stop them; nothing happens when none runs."""


@dataclass(frozen=True)
class Options:
    """What may differ from the usual installation.

    `context`: use the cluster of this kubeconfig context instead of starting one. `samples` and `kubelet`:
    further arguments for these processes. `durable`: off, data may be lost with the machine (tests).
    `operator`: off, only the parts that it needs are started. `faults`: databases get a standby, two replicas
    of the operator are installed, and operator and workers reach all servers through links that can be
    broken (Installation.faults).
    """

    context: str | None = None
    samples: Sequence[str] = ()
    kubelet: Sequence[str] = ()
    durable: bool = True
    operator: bool = True
    faults: bool = False


@dataclass(frozen=True)
class PartSet:
    """All parts of an installation, running or not."""

    postgres: PostgresServer | PostgresPair
    valkey: ValkeyServer | ValkeyPair
    object_store: ObjectStoreServer
    samples: SampleProviders
    control_plane: ControlPlane
    node: ProcessNode
    links: Links | None = None

    def with_ports(self, choices: Choices) -> Choices:
        """Return the choices with the ports that the parts listen on."""
        return replace(
            choices,
            postgres_port=self.postgres.port,
            valkey_port=self.valkey.port,
            object_store_port=self.object_store.port,
            samples_port=self.samples.port,
            control_plane=self.control_plane.ports,
            link_ports=choices.link_ports if self.links is None else self.links.ports,
        )

    def point_links(self) -> None:
        """Lead the links, if there are any, to the servers that run."""
        servers = {
            "postgres": self.postgres.port,
            "redis": self.valkey.port,
            "s3": self.object_store.port,
            "provider": self.samples.port,
        }
        for server, port in servers.items():
            for link in self.links.ending_in(server) if self.links is not None else ():
                link.point_to(port)


def make_parts(state: StateFolder, choices: Choices, options: Options) -> PartSet:
    """Return the parts for a state folder; none of them is started."""
    logs, durable = state.logs, options.durable
    return PartSet(
        postgres=_make_postgres(state, choices, options),
        valkey=_make_valkey(state, choices, options),
        object_store=ObjectStoreServer(
            state.path / "object-store",
            log_path=logs / "object-store.log",
            access_key_id=choices.access_key_id,
            secret_access_key=choices.secret_access_key,
            port=choices.object_store_port,
        ),
        samples=SampleProviders(
            log_path=logs / "samples.log", port=choices.samples_port, options=options.samples
        ),
        control_plane=ControlPlane(
            state.path / "control-plane",
            log_folder=logs,
            ports=choices.control_plane,
            durable=durable,
            namespace=NAMESPACE,
        ),
        node=ProcessNode(state.kubelet, log_path=logs / "kubelet.log", options=options.kubelet),
        links=Links(LINKS, choices.link_ports) if options.faults else None,
    )


def _make_postgres(state: StateFolder, choices: Choices, options: Options) -> PostgresServer | PostgresPair:
    folder, password, port = state.claim_postgres(choices), choices.postgres_password, choices.postgres_port
    if options.faults:
        return PostgresPair(
            folder, log_folder=state.logs, password=password, port=port, durable=options.durable
        )
    return PostgresServer(
        folder,
        log_path=state.logs / "postgres.log",
        password=password,
        port=port,
        durable=options.durable,
    )


def _make_valkey(state: StateFolder, choices: Choices, options: Options) -> ValkeyServer | ValkeyPair:
    folder, password, port = state.path / "valkey", choices.valkey_password, choices.valkey_port
    if options.faults:
        return ValkeyPair(folder, log_folder=state.logs, password=password, port=port)
    return ValkeyServer(folder, log_path=state.logs / "valkey.log", password=password, port=port)
