"""A whole installation on one machine, as a library: what `import-local up`, the demo and the tests use."""

import asyncio
import contextlib
import sys
import sysconfig
import time
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from import_local.binaries import ensure_all_binaries
from import_local.credentials import write_private
from import_local.deployment import (
    CONNECTION_SECRET,
    WORKER_CONNECTION_SECRET,
    GatewayPorts,
    install,
    prepare_cluster,
)
from import_local.errors import LocalError, PartError
from import_local.faults.installed import Faults
from import_local.faults.links import lead_through
from import_local.folders import ensure_space
from import_local.kubectl import read_context
from import_local.part_set import Options, Part, make_parts
from import_local.parts.control_plane import ControlPlane
from import_local.parts.node import ProcessNode
from import_local.parts.objectstore import REGION
from import_local.ports import LOOPBACK, free_port
from import_local.processes import Child, base_environment, start_child
from import_local.progress import Progress, silent
from import_local.samples.settings import GEMINI_KEY
from import_local.state import Choices, Phase, ProcessRecord, Run, StateFolder, remove_orphaned_postgres
from import_local.state_lock import StateLock
from import_local.strays import end_pod_processes, end_strays
from import_local.warden import ALL_STOPPED

DATABASE = "imports"
BUCKET = "import-images"


class Installation:
    """A whole installation, running as children of this process, with its data in one state folder.

    Use it as `async with Installation(folder) as installation`, or `start` and `stop`. LocalError and its
    kinds say what keeps it from starting; nothing is left running then.
    """

    def __init__(
        self,
        state_folder: Path,
        *,
        progress: Progress = silent,
        options: Options | None = None,
        holder: str = "the process that ran the installation",
    ) -> None:
        self.state = StateFolder(state_folder)
        self.options = options or Options()
        self._progress = progress
        self._holder = ProcessRecord.own(holder)
        self._phase: Phase = "starting"
        self._since = time.time()
        self._lock = StateLock(self.state)
        self._choices = Choices()
        self._running: list[Part] = []
        self._warden: Child | None = None
        self._faults: Faults | None = None
        self.kubeconfig = self.state.path / "kubeconfig"
        self.embedding_model = self.state.path / "embedding-model"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def database_url(self) -> str:
        """PostgreSQL, with the application's rights."""
        return self._parts.postgres.url(DATABASE)

    @property
    def redis_url(self) -> str:
        """Valkey."""
        return self._parts.valkey.url

    @property
    def s3_endpoint_url(self) -> str:
        """S3 API of the object store."""
        return self._parts.object_store.endpoint_url

    @property
    def shopify_url(self) -> str:
        """Sample shops, one path each."""
        return self._parts.samples.shopify_url

    @property
    def roastify_url(self) -> str:
        """Sample Roastify accounts, one path each."""
        return self._parts.samples.roastify_url

    @property
    def gemini_url(self) -> str:
        """The stand-in for the Gemini API, as GEMINI_BASE_URL."""
        return self._parts.samples.gemini_url

    @property
    def whatsapp_url(self) -> str:
        """Sample WhatsApp catalogues' pages, one path each."""
        return self._parts.samples.whatsapp_url

    @property
    def graph_url(self) -> str:
        """Sample WhatsApp catalogues in the Graph API, one path each."""
        return self._parts.samples.graph_url

    @property
    def gateway_url(self) -> str:
        """The gateway's HTTP API and live page."""
        return f"http://{LOOPBACK}:{self._choices.gateway_port}"

    @property
    def admission_url(self) -> str:
        """Where the API server asks the admission webhook."""
        return f"https://{LOOPBACK}:{self._choices.admission_port}"

    @property
    def connections(self) -> dict[str, str]:
        """Environment that leads straight to the servers; operator and workers get it too, by links if any."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "S3_ENDPOINT_URL": self.s3_endpoint_url,
            "S3_BUCKET": BUCKET,
            "AWS_ACCESS_KEY_ID": self._choices.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self._choices.secret_access_key,
            "AWS_REGION": REGION,
            # The sample stores and their images are on this machine, which workers refuse unless told.
            "IMAGE_ALLOW": urlsplit(self.shopify_url).netloc,
            "PROVIDER_ALLOW": urlsplit(self.shopify_url).netloc,
            # Stand-ins for what steps after the import ask: a model of like signature, a server of like protocol.
            "EMBEDDING_MODEL_PATH": str(self.embedding_model),
            "GEMINI_BASE_URL": self.gemini_url,
            "GEMINI_API_KEY": GEMINI_KEY,
            "GEMINI_CALLS_PER_MINUTE": "6000",
        }

    @property
    def environment(self) -> dict[str, str]:
        """What a person's shell gets from `env`: the connections, the cluster and the sample stores."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            **self.connections,
            "SAMPLE_SHOPIFY_URL": self.shopify_url,
            "SAMPLE_ROASTIFY_URL": self.roastify_url,
            "SAMPLE_GEMINI_URL": self.gemini_url,
            "SAMPLE_WHATSAPP_URL": self.whatsapp_url,
            "SAMPLE_GRAPH_URL": self.graph_url,
            **({"GATEWAY_URL": self.gateway_url} if self.options.operator else {}),
        }

    @property
    def children(self) -> tuple[Child, ...]:
        """The processes that run now, in the order of their start."""
        warden = [] if self._warden is None else [self._warden]
        return (*warden, *(child for part in self._running for child in part.processes()))

    @property
    def faults(self) -> Faults:
        """What tests can break here; LocalError unless the options say `faults`."""
        if self._faults is None:
            self._faults = Faults(self._parts, changed=lambda: self._record(self._phase))
        return self._faults

    def cluster(self) -> ControlPlane | None:
        """Return the control plane, or None when an existing cluster is used."""
        return None if self.options.context else self._parts.control_plane

    async def start(self) -> None:
        """Start everything and wait until it is ready; whatever goes wrong, nothing is left running."""
        self.state.create()
        await self._lock.take()
        try:
            ensure_space(self.state.path)
            await end_strays(self.state)
            self._choices = self.state.read_choices() or Choices()
            self.state.clear_failure()
            # At once: data that is made with a password nobody remembers could never be opened again.
            self.state.write_choices(self._choices)
            await asyncio.to_thread(remove_orphaned_postgres)
            self._parts = make_parts(self.state, self._choices, self.options)
            self._record("starting")
            if self.options.context:
                write_private(self.kubeconfig, await read_context(self.options.context))
            await self._ensure_binaries()
            await self._start_warden()
            await self._start_servers()
            await self._start_cluster()
            self._choices = self._parts.with_ports(self._choices)
            self.state.write_choices(self._choices)
            await self._install()
            self._check_children()
            self._record("running")
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything in order: pods, cluster, servers; nothing happens when nothing runs."""
        if not self._lock.is_held:
            return
        try:
            if self._faults is not None:
                self._faults.heal_links()  # else nothing can be stopped in order
            with contextlib.suppress(OSError):  # a full disk must not keep anything from being stopped
                self._record("stopping")
            while self._running:
                part = self._running[-1]
                self._progress(part.name, "stopping")
                await part.stop()
                self._running.pop()
                if isinstance(part, ProcessNode):
                    await end_pod_processes(self.state)
            await self._dismiss_warden()
            self._faults = None
            self.state.remove_run()
        finally:
            self._lock.release()

    async def wait_for_failure(self) -> PartError:
        """Wait until one of the processes ends by itself, and say which and how."""
        endings = {asyncio.create_task(child.wait()): child for child in self.children}
        try:
            done, _ = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
            return endings[done.pop()].failure()
        finally:
            for ending in endings:
                ending.cancel()
            await asyncio.gather(*endings, return_exceptions=True)

    def owns_state_folder(self) -> bool:
        """Whether the state folder is still there and still this installation's."""
        with contextlib.suppress(LocalError):
            choices = self.state.read_choices()
            return choices is not None and choices.installation == self._choices.installation
        return False

    def lost_state_folder(self) -> bool:
        """Whether the state folder is removed, or being removed, and not another installation's by now."""
        with contextlib.suppress(LocalError):
            return self.state.read_choices() is None
        return False

    async def _ensure_binaries(self) -> None:
        """Build what is not in the cache, before anything runs: the first time takes minutes."""
        await ensure_all_binaries(self._progress, with_kubernetes=not self.options.context)

    async def _start_warden(self) -> None:
        self._warden = await start_child(
            "warden",
            [sys.executable, "-m", "import_local.warden", self.state.path, str(self._holder.pid)],
            log_path=self.state.logs / "warden.log",
            environment=base_environment(),
            stdin=asyncio.subprocess.PIPE,
            dies_with_parent=False,
        )
        self._record(self._phase)

    async def _dismiss_warden(self) -> None:
        if self._warden is None:
            return
        stdin = self._warden.process.stdin
        if stdin is not None and self._warden.process.returncode is None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has just ended by itself
                stdin.write(ALL_STOPPED)
                await stdin.drain()
            stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._warden.wait(), 5)
        await self._warden.stop()
        self._warden = None

    async def _start_servers(self) -> None:
        """Start what has no part in Kubernetes and, at the same time, the control plane."""
        links = self._parts.links
        if links is not None:
            await self._start(links, links.start())
        starts = [
            self._start(self._parts.postgres, self._parts.postgres.start()),
            self._start(self._parts.valkey, self._parts.valkey.start()),
            self._start(self._parts.object_store, self._parts.object_store.start(self._progress)),
            self._start(self._parts.samples, self._parts.samples.start()),
        ]
        if not self.options.context:
            starts.append(
                self._start(self._parts.control_plane, self._parts.control_plane.start(self._progress))
            )
        try:
            async with asyncio.TaskGroup() as group:
                for start in starts:
                    group.create_task(start)
        except* LocalError as errors:
            raise _first(errors) from None
        if not self.embedding_model.exists():
            await asyncio.to_thread(_make_model, self.embedding_model)
        await self._parts.postgres.create_database(DATABASE)
        await self._parts.object_store.create_bucket(BUCKET)
        self._parts.point_links()

    async def _start(self, part: Part, starting: Awaitable[None]) -> None:
        self._progress(part.name, "starting")
        await starting
        self._running.append(part)
        self._record(self._phase)
        self._progress(part.name, "ready")

    async def _start_cluster(self) -> None:
        control_plane = self.cluster()
        if control_plane is not None:
            write_private(self.kubeconfig, control_plane.kubeconfig.read_text())
        self._progress("cluster", "applying definitions and connection settings")
        self._choose_gateway_ports()
        await prepare_cluster(self.kubeconfig, self._secrets(), self._gateway_ports)
        if sys.platform != "linux":
            self._progress(self._parts.node.name, "left out: pods as processes need Linux")
            return
        await self._start(self._parts.node, self._parts.node.start(self.kubeconfig, control_plane))

    async def _install(self) -> None:
        if self.options.operator:
            self._progress("operator and gateway", "starting")
            overlay = "faults" if self.options.faults else "local"
            await install(self.kubeconfig, self._gateway_ports, overlay=overlay)
            self._progress("operator and gateway", "ready")
        programs = sysconfig.get_path("scripts")
        self.state.write_env(self.environment, programs=programs)

    @property
    def _gateway_ports(self) -> GatewayPorts:
        return GatewayPorts(self._choices.gateway_port, self._choices.admission_port)

    def _choose_gateway_ports(self) -> None:
        """Those of the last start where they are still free: its pods are restarted at the same addresses."""
        http = free_port(self._choices.gateway_port or None)
        admission = free_port(self._choices.admission_port or None)
        while admission == http:
            admission = free_port()
        self._choices = replace(self._choices, gateway_port=http, admission_port=admission)

    def _secrets(self) -> dict[str, dict[str, str]]:
        links = self._parts.links
        if links is None:
            return {CONNECTION_SECRET: self.connections}
        return {
            CONNECTION_SECRET: lead_through(links, "operator", self.connections),
            WORKER_CONNECTION_SECRET: lead_through(links, "workers", self.connections),
        }

    def _check_children(self) -> None:
        for child in self.children:
            if child.process.returncode is not None:
                raise child.failure()

    def _record(self, phase: Phase) -> None:
        self._phase = phase
        if self.state.path.exists():
            children = [
                ProcessRecord(child.name, child.pid, child.started_at, str(child.log_path))
                for child in self.children
            ]
            self.state.write_run(Run(self._holder, phase, self._since, tuple(children)))


def _make_model(folder: Path) -> None:
    # Half a second to import, and only the first start needs it.
    from import_local.embedding_model import provide_embedding_model

    provide_embedding_model(folder)


def _first(errors: BaseExceptionGroup[LocalError]) -> LocalError:
    """Return one error of a group: parts that start at the same time mostly fail for the same reason."""
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise ValueError("an exception group is never empty")
