"""A real Kubernetes control plane as four processes on loopback: etcd, API server, controllers, scheduler.

RBAC is on, anonymous requests are refused, and every connection is TLS with certificates of its own
authority. What it leaves out: DNS, Service addresses (no proxy), and controllers that nothing here needs.
"""

import asyncio
import contextlib
import signal
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx2

from import_local.binaries import ensure_kubernetes
from import_local.credentials import (
    CertificateAuthority,
    KeyPair,
    ensure_signing_key,
    read_cluster,
    write_kubeconfig,
)
from import_local.errors import ForeignClusterError
from import_local.folders import ensure_folder
from import_local.ports import LOOPBACK, free_port
from import_local.processes import Child, base_environment, start_child, wait_until_ready
from import_local.progress import Progress, silent

ADMINISTRATORS = "system:masters"
# How the API server signs in at a kubelet, for `kubectl logs` and `kubectl exec`.
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
_SERVER_NAMES = (
    LOOPBACK,
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "10.96.0.1",
)
_ISSUER = "https://kubernetes.default.svc.cluster.local"
# Fewer controllers: less memory, and a faster start on a small machine.
_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "taint-eviction-controller",
    "ttl-controller",
)


_START_ORDER = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass
class ControlPlanePorts:
    """Loopback ports; 0 means: choose a free one at the start."""

    etcd_client: int = 0
    etcd_peer: int = 0
    api_server: int = 0
    controller_manager: int = 0
    scheduler: int = 0

    def settle(self) -> None:
        """Choose a free port for each that is 0 or taken."""
        taken: set[int] = set()
        for name, port in vars(self).items():
            chosen = free_port(port or None)
            while chosen in taken:
                chosen = free_port()
            taken.add(chosen)
            setattr(self, name, chosen)


class ControlPlane:
    """One cluster with its state in `folder`; `start` may be called again after `stop`.

    `namespace` is the one that the administrator's kubeconfig starts in.
    """

    name = "control-plane"

    def __init__(
        self,
        folder: Path,
        *,
        log_folder: Path,
        ports: ControlPlanePorts | None = None,
        durable: bool = True,
        namespace: str = "default",
    ) -> None:
        self._folder = folder
        self._log_folder = log_folder
        self._durable = durable
        self._namespace = namespace
        self.ports = ports or ControlPlanePorts()
        self.children: list[Child] = []

    @property
    def server(self) -> str:
        """Address of the API server."""
        return f"https://{LOOPBACK}:{self.ports.api_server}"

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the cluster's administrator."""
        return self._folder / "kubeconfigs" / "admin.yaml"

    @property
    def authority(self) -> CertificateAuthority:
        """The authority that the API server and its clients trust."""
        return CertificateAuthority(self._certificates, "cluster")

    @property
    def _certificates(self) -> Path:
        return self._folder / "certificates"

    def kubeconfig_for(self, user: str, *, groups: tuple[str, ...] = (), namespace: str = "default") -> Path:
        """Write a kubeconfig for a user (a client certificate) and return its path.

        The user has only the rights that RBAC gives it or its groups.
        """
        name = user.replace(":", "-").replace("/", "-")
        credentials = self.authority.issue(f"user-{name}", common_name=user, organizations=groups)
        return self._write_kubeconfig(name, user, credentials, namespace)

    def kubeconfig_with_token(self, name: str, token: str, *, namespace: str = "default") -> Path:
        """Write a kubeconfig that signs in with a bearer token, e.g. a service account's; returns its path."""
        return self._write_kubeconfig(name, name, token, namespace)

    async def start(self, progress: Progress = silent) -> None:
        """Start the four processes (about 5 s) and wait until each reports ready."""
        binaries = await ensure_kubernetes(progress)
        for folder in (self._folder, self._certificates, self._folder / "kubeconfigs"):
            ensure_folder(folder)
        self.ports.settle()
        try:
            progress("etcd", "starting")
            await self._start_etcd(binaries)
            progress("kube-apiserver", "starting")
            await self._start_api_server(binaries)
            progress("kube-controller-manager", "starting")
            await asyncio.gather(
                self._start_client(binaries, "kube-controller-manager", self._controller_manager_options()),
                self._start_client(binaries, "kube-scheduler", self._scheduler_options()),
            )
        except BaseException:
            await self.stop()
            raise

    def processes(self) -> list[Child]:
        """Return the processes that run now."""
        return list(self.children)

    async def stop(self) -> None:
        """Stop all processes, clients before servers; nothing happens when they don't run."""
        while self.children:
            await self.children[-1].stop()
            self.children.pop()

    async def kill_api_server(self) -> None:
        """Kill the API server and leave the others; nothing happens when it does not run."""
        for child in self.children:
            if child.name == "kube-apiserver":
                await child.kill()
                self.children.remove(child)
                return

    async def start_api_server(self) -> None:
        """Start a killed API server at its port and wait until it is ready; otherwise nothing happens."""
        if not any(child.name == "kube-apiserver" for child in self.children):
            await self._start_api_server(await ensure_kubernetes())

    def _write_kubeconfig(self, name: str, user: str, credentials: KeyPair | str, namespace: str) -> Path:
        return write_kubeconfig(
            self._folder / "kubeconfigs" / f"{name}.yaml",
            server=self.server,
            authority=self.authority.certificate,
            user=user,
            credentials=credentials,
            namespace=namespace,
        )

    def ensure_own(self, kubeconfig: Path) -> None:
        """Raise ForeignClusterError unless the kubeconfig leads to this cluster (address and authority)."""
        cluster = read_cluster(kubeconfig)
        if cluster != read_cluster(self.kubeconfig):
            raise ForeignClusterError(
                f"{kubeconfig} leads to {cluster.server}, which is not the cluster started here ({self.server})"
            )

    async def _start_etcd(self, binaries: Path) -> None:
        # An authority of its own: no certificate of a cluster user opens the cluster's database.
        authority = CertificateAuthority(self._certificates, "etcd")
        serving = authority.issue("etcd-server", common_name="etcd", hosts=[LOOPBACK, "localhost"])
        authority.issue("etcd-client", common_name="kube-apiserver")
        client_url = f"https://{LOOPBACK}:{self.ports.etcd_client}"
        peer_url = f"https://{LOOPBACK}:{self.ports.etcd_peer}"
        options: dict[str, str | Path] = {
            "name": "local",
            "data-dir": self._folder / "etcd",
            "listen-client-urls": client_url,
            "advertise-client-urls": client_url,
            "listen-peer-urls": peer_url,
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": f"local={peer_url}",
            "cert-file": serving.certificate,
            "key-file": serving.key,
            "trusted-ca-file": authority.certificate,
            "client-cert-auth": "true",
            "peer-cert-file": serving.certificate,
            "peer-key-file": serving.key,
            "peer-trusted-ca-file": authority.certificate,
            "peer-client-cert-auth": "true",
            "auto-compaction-retention": "5m",
            "log-level": "warn",
            "unsafe-no-fsync": "false" if self._durable else "true",
        }
        child = await self._spawn(binaries, "etcd", options)
        client = KeyPair(self._certificates / "etcd-client.crt", self._certificates / "etcd-client.key")
        probe = _HealthProbe(f"{client_url}/health", authority.certificate, client)
        await wait_until_ready(child, probe, timeout=60)

    async def _start_api_server(self, binaries: Path) -> None:
        authority = self.authority
        serving = authority.issue("api-server", common_name="kube-apiserver", hosts=_SERVER_NAMES)
        kubelet_client = authority.issue("kubelet-client", common_name=KUBELET_CLIENT)
        signing = ensure_signing_key(self._certificates, "service-accounts")
        etcd = self._certificates
        options: dict[str, str | Path] = {
            "etcd-servers": f"https://{LOOPBACK}:{self.ports.etcd_client}",
            "etcd-cafile": etcd / "etcd.crt",
            "etcd-certfile": etcd / "etcd-client.crt",
            "etcd-keyfile": etcd / "etcd-client.key",
            "bind-address": LOOPBACK,
            "advertise-address": LOOPBACK,
            "secure-port": str(self.ports.api_server),
            # Endpoints may not be loopback addresses, so the `kubernetes` Service stays without any.
            "endpoint-reconciler-type": "none",
            "service-cluster-ip-range": "10.96.0.0/16",
            "authorization-mode": "RBAC",
            "anonymous-auth": "false",
            "client-ca-file": authority.certificate,
            "tls-cert-file": serving.certificate,
            "tls-private-key-file": serving.key,
            "kubelet-certificate-authority": authority.certificate,
            "kubelet-client-certificate": kubelet_client.certificate,
            "kubelet-client-key": kubelet_client.key,
            "kubelet-preferred-address-types": "InternalIP",
            "service-account-issuer": _ISSUER,
            "service-account-key-file": signing.certificate,
            "service-account-signing-key-file": signing.key,
            "profiling": "false",
        }
        administrator = authority.issue(
            "admin", common_name="import-local-admin", organizations=[ADMINISTRATORS]
        )
        child = await self._spawn(binaries, "kube-apiserver", options)
        probe = _HealthProbe(f"{self.server}/readyz", authority.certificate, administrator)
        await wait_until_ready(child, probe, timeout=120)
        self._write_kubeconfig("admin", "import-local-admin", administrator, self._namespace)

    async def _start_client(self, binaries: Path, name: str, options: dict[str, str | Path]) -> None:
        serving = self.authority.issue(f"{name}-server", common_name=name, hosts=[LOOPBACK, "localhost"])
        options |= {
            "kubeconfig": self.kubeconfig_for(f"system:{name}"),
            "bind-address": LOOPBACK,
            "tls-cert-file": serving.certificate,
            "tls-private-key-file": serving.key,
            "leader-elect": "false",
            "kube-api-qps": "300",
            "kube-api-burst": "600",
            "profiling": "false",
        }
        child = await self._spawn(binaries, name, options)
        probe = _HealthProbe(
            f"https://{LOOPBACK}:{options['secure-port']}/healthz", self.authority.certificate
        )
        await wait_until_ready(child, probe, timeout=60)

    def _controller_manager_options(self) -> dict[str, str | Path]:
        return {
            "secure-port": str(self.ports.controller_manager),
            "controllers": ",".join(_CONTROLLERS),
            "root-ca-file": self.authority.certificate,
            "service-account-private-key-file": self._certificates / "service-accounts.key",
            # Each controller acts with its own bootstrap role, as in a real cluster.
            "use-service-account-credentials": "true",
        }

    def _scheduler_options(self) -> dict[str, str | Path]:
        return {"secure-port": str(self.ports.scheduler)}

    async def _spawn(self, binaries: Path, program: str, options: dict[str, str | Path]) -> Child:
        child = await start_child(
            program,
            [binaries / program, *(f"--{key}={value}" for key, value in options.items())],
            log_path=self._log_folder / f"{program}.log",
            environment=base_environment(),
            folder=self._folder,
            stop_seconds=15,
            # An API server that still waits for its etcd does not heed SIGTERM, and would outlive both.
            death_signal=signal.SIGKILL,
        )
        self.children.append(child)
        self.children.sort(key=lambda started: _START_ORDER.index(started.name))
        return child


class _HealthProbe:
    """Asks a health address whether it answers 200, over TLS that is really checked."""

    def __init__(self, url: str, authority: Path, client: KeyPair | None = None) -> None:
        self._url = url
        self._context = ssl.create_default_context(cafile=str(authority))
        if client is not None:
            self._context.load_cert_chain(client.certificate, client.key)

    async def __call__(self) -> bool:
        async with httpx2.AsyncClient(verify=self._context, trust_env=False, timeout=5) as client:
            with contextlib.suppress(httpx2.TransportError):  # not listening yet
                return (await client.get(self._url)).status_code == 200
        return False
