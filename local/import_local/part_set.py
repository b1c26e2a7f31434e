"""The parts of one installation, made from what was chosen for its state folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from import_local.deployment import NAMESPACE
from import_local.parts.control_plane import ControlPlane
from import_local.parts.node import ProcessNode
from import_local.parts.objectstore import ObjectStoreServer
from import_local.parts.postgres import PostgresServer
from import_local.parts.samples import SampleProviders
from import_local.parts.valkey import ValkeyServer
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
    `operator`: off, only the parts that it needs are started.
    """

    context: str | None = None
    samples: Sequence[str] = ()
    kubelet: Sequence[str] = ()
    durable: bool = True
    operator: bool = True


@dataclass(frozen=True)
class PartSet:
    """All parts of an installation, running or not."""

    postgres: PostgresServer
    valkey: ValkeyServer
    object_store: ObjectStoreServer
    samples: SampleProviders
    control_plane: ControlPlane
    node: ProcessNode

    def with_ports(self, choices: Choices) -> Choices:
        """Return the choices with the ports that the parts listen on."""
        return replace(
            choices,
            postgres_port=self.postgres.port,
            valkey_port=self.valkey.port,
            object_store_port=self.object_store.port,
            samples_port=self.samples.port,
            control_plane=self.control_plane.ports,
        )


def make_parts(state: StateFolder, choices: Choices, options: Options) -> PartSet:
    """Return the parts for a state folder; none of them is started."""
    logs, durable = state.logs, options.durable
    return PartSet(
        postgres=PostgresServer(
            state.claim_postgres(choices),
            log_path=logs / "postgres.log",
            password=choices.postgres_password,
            port=choices.postgres_port,
            durable=durable,
        ),
        valkey=ValkeyServer(
            state.path / "valkey",
            log_path=logs / "valkey.log",
            password=choices.valkey_password,
            port=choices.valkey_port,
        ),
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
    )
