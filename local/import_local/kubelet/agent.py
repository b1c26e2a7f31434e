"""The kubelet: follows the pods bound to its node and keeps one worker for each."""

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import structlog

from import_local.kubelet.addresses import AddressPool
from import_local.kubelet.api import KubernetesApi, WatchEvent
from import_local.kubelet.certificates import make_self_signed
from import_local.kubelet.cleanup import end_strays
from import_local.kubelet.lock import StateLock
from import_local.kubelet.memory import MemoryWatcher
from import_local.kubelet.node import NodeAgent
from import_local.kubelet.notifier import FolderNotifier
from import_local.kubelet.pod_context import NodeServices
from import_local.kubelet.pod_worker import PodWorker
from import_local.kubelet.prober import make_client
from import_local.kubelet.records import PodRecord, read_records
from import_local.kubelet.references import ReferenceReader
from import_local.kubelet.runtime import ContainerRuntime
from import_local.kubelet.server import bind, make_application, make_server
from import_local.kubelet.settings import Settings

Json = dict[str, Any]

PARALLEL_PATCHES = 16
RESTART_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class PodKeeper:
    """The pods of the node: a worker for each that the API server or the disk knows."""

    def __init__(self, services: NodeServices, records: Iterable[PodRecord]) -> None:
        self._services = services
        self._settings = services.settings
        self._records = {record.uid: record for record in records}
        addresses = [record.address for record in self._records.values()]
        self._addresses = AddressPool(self._settings.pod_network, addresses)
        self._limit = asyncio.Semaphore(PARALLEL_PATCHES)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def find(self, namespace: str, name: str) -> PodRecord | None:
        """Return the record of a pod by its name, the newest if several have had it."""
        found = [
            record
            for record in self._records.values()
            if (record.namespace, record.name) == (namespace, name)
        ]
        return max(found, key=lambda record: record.created, default=None)

    async def run(self) -> None:
        """Follow the pods of the node for ever; being cancelled leaves all processes running."""
        selector = f"spec.nodeName={self._settings.node_name}"
        try:
            async with aclosing(self._services.api.list_and_watch("/api/v1/pods", selector)) as events:
                async for event in events:
                    self._take(event)
        finally:
            for task in self._tasks.values():
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks.values())

    async def stop_processes(self, longest: float) -> None:
        """End the processes of all pods, which stay bound to this node, within `longest` seconds."""
        await asyncio.gather(*(worker.stop_processes(longest) for worker in self._workers.values()))

    def _take(self, event: WatchEvent) -> None:
        if event.kind == "LIST":
            present = {pod["metadata"]["uid"] for pod in event.items}
            for pod in event.items:
                self._update(pod)
            for uid in (self._records.keys() | self._workers.keys()) - present:
                self._vanish(uid)
        elif event.item is not None and event.kind == "DELETED":
            self._vanish(event.item["metadata"]["uid"])
        elif event.item is not None:
            self._update(event.item)

    def _update(self, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self._workers:
            self._workers[uid].update(pod)
            return
        known = uid in self._records
        if not known:
            self._records[uid] = self._make_record(pod)
        self._start(PodWorker(pod, self._records[uid], self._services, self._limit, known=known))

    def _vanish(self, uid: str) -> None:
        if uid not in self._workers:
            record = self._records[uid]
            pod = make_vanished_pod(record)
            self._start(PodWorker(pod, record, self._services, self._limit, known=True))
        self._workers[uid].vanish()
        if self._tasks[uid].done():
            self._forget(uid)

    def _make_record(self, pod: Json) -> PodRecord:
        metadata = pod["metadata"]
        record = PodRecord(
            folder=self._settings.state / "pods" / metadata["uid"],
            uid=metadata["uid"],
            namespace=metadata["namespace"],
            name=metadata["name"],
            address=self._addresses.take(),
            created=time.time_ns(),
        )
        record.save()
        return record

    def _start(self, worker: PodWorker) -> None:
        uid = worker.record.uid
        self._workers[uid] = worker
        self._tasks[uid] = asyncio.create_task(self._run_worker(worker))

    async def _run_worker(self, worker: PodWorker) -> None:
        uid = worker.record.uid
        while True:
            try:
                await worker.run()
                break
            except Exception:  # one pod's trouble must not end the care of the others; it is logged whole
                logger.exception("pod.worker_failed", uid=uid)
                await asyncio.sleep(RESTART_SECONDS)
                worker = self._workers[uid] = worker.renew()
        del self._records[uid]
        self._addresses.release(worker.record.address)
        if worker.has_vanished:
            self._forget(uid)

    def _forget(self, uid: str) -> None:
        del self._workers[uid]
        del self._tasks[uid]


def make_vanished_pod(record: PodRecord) -> Json:
    """Return a stand-in for a pod that only the disk knows, enough to end its processes."""
    names = dict.fromkeys(attempt.container for attempt in record.list_all_attempts())
    metadata = {
        "uid": record.uid,
        "namespace": record.namespace,
        "name": record.name,
        "resourceVersion": "0",
    }
    return {"metadata": metadata, "spec": {"containers": [{"name": name} for name in names]}}


async def run_kubelet(settings: Settings, stop: asyncio.Event) -> None:
    """Run the node until `stop` is set; raises KubeletError when it cannot.

    Pods keep running, to be taken on by the next kubelet of this state folder, unless the settings say
    that they stop with it.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(StateLock(settings.state))
        records = read_records(settings.state)
        await end_strays(settings.state, records)
        api = KubernetesApi.from_kubeconfig(settings.kubeconfig)
        stack.push_async_callback(api.close)
        notifier = FolderNotifier()
        stack.callback(notifier.close)
        memory = MemoryWatcher(settings.memory_check_interval)
        runtime = ContainerRuntime(notifier, settings.log_bytes)
        probes = await stack.enter_async_context(make_client())
        services = NodeServices(api, settings, runtime, ReferenceReader(api), memory, probes)
        keeper = PodKeeper(services, records)
        listener = bind(settings.state, settings.server.port)
        stack.callback(listener.close)
        certificate, key = settings.server.certificate, settings.server.key
        if certificate is None or key is None:
            certificate, key = make_self_signed(settings.state, settings.node_name)
        server = make_server(make_application(keeper.find, notifier), settings.server, certificate, key)
        node = NodeAgent(api, settings, listener.getsockname()[1])
        await run_until(
            stop,
            node.run(),
            keeper.run(),
            memory.run(),
            server.serve(sockets=[listener]),
        )
        if settings.stop_pods:
            await keeper.stop_processes(settings.stop_grace)


async def run_until(stop: asyncio.Event, *work: Coroutine[Any, Any, None]) -> None:
    """Run endless tasks together until `stop` is set or one of them fails, whose exception is raised."""
    stopping = asyncio.create_task(stop.wait())
    tasks = [asyncio.create_task(item) for item in work]
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (stopping, *tasks):
            task.cancel()
        await asyncio.wait(tasks)
