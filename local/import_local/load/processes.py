"""Finds the processes of an installation and what each of them uses: memory, open files, connections (Linux)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from import_local.installation import Installation
from import_local.kubelet.processes import is_alive
from import_local.kubelet.records import PodRecord
from import_local.load.timeline import ProcessSample

ROLES = {"import-operator": "operator", "import-gateway": "gateway", "product-imports-workers": "worker"}
"""Of pods, by what their names begin with."""


@dataclass(frozen=True, slots=True)
class ServerPorts:
    """Loopback ports that lead to the databases, links included."""

    postgres: frozenset[int]
    redis: frozenset[int]

    @classmethod
    def of(cls, installation: Installation) -> ServerPorts:
        """Those that a running installation's processes connect to."""
        choices = installation.state.read_choices()
        links = choices.link_ports if choices is not None else {}
        own = [] if choices is None else [("postgres", choices.postgres_port), ("redis", choices.valkey_port)]

        def ending_in(server: str) -> frozenset[int]:
            named = {port for name, port in own if name == server}
            return frozenset(named | {port for name, port in links.items() if name.endswith(f"-{server}")})

        return cls(ending_in("postgres"), ending_in("redis"))


def sample_processes(installation: Installation, ports: ServerPorts) -> tuple[ProcessSample, ...]:
    """All processes of the servers and of the pods. Takes some milliseconds each: call it in a thread."""
    found = []
    for child in installation.children:
        role = child.name.split("-copy")[0]
        found.append(_sample(f"{child.name} {child.pid}", _server_role(role), child.pid, ports))
    for pod, pid in pod_processes(installation.state.kubelet):
        found.append(_sample(f"{pod} {pid}", _pod_role(pod), pid, ports))
    return tuple(each for each in found if each is not None)


def pod_processes(kubelet: Path) -> Iterator[tuple[str, int]]:
    """Name and process id of every pod whose container runs, by the kubelet's own files."""
    for file in sorted((kubelet / "pods").glob("*/pod.json")):
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:  # the pod has just been forgotten
            continue
        for attempt in PodRecord(folder=file.parent, **fields).list_all_attempts():
            process = attempt.read_process("child")
            if process is not None and is_alive(process):
                yield str(fields["name"]), process.pid


def _server_role(name: str) -> str:
    return next((role for role in ("postgres", "valkey") if name.startswith(role)), name)


def _pod_role(pod: str) -> str:
    return next((role for prefix, role in ROLES.items() if pod.startswith(f"{prefix}-")), pod)


def _sample(key: str, role: str, pid: int, ports: ServerPorts) -> ProcessSample | None:
    try:
        process = psutil.Process(pid)
        # PostgreSQL has a process for each connection; what they share would be counted once for each.
        memory = _private_of_tree(process) if role == "postgres" else process.memory_info().rss
        if role not in {"worker", "operator", "gateway"}:
            return ProcessSample(key, role, memory)
        remote = [end.raddr.port for end in process.net_connections("tcp") if end.raddr]
        return ProcessSample(
            key, role, memory, process.num_fds(), _count(remote, ports.postgres), _count(remote, ports.redis)
        )
    except psutil.Error:  # it has just ended
        return None


def _private_of_tree(process: psutil.Process) -> int:
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_full_info().uss
        except psutil.Error:
            continue
    return total


def _count(remote: Collection[int], ports: frozenset[int]) -> int:
    return sum(1 for port in remote if port in ports)
