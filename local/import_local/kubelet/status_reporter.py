"""Brings one pod's status to the API server: the newest state only, and only when something changed."""

import asyncio
import time
from typing import Any

import structlog

from import_local.kubelet.api import STRATEGIC_MERGE_PATCH, KubernetesApi, pod_path
from import_local.kubelet.errors import ApiError, ApiUnavailableError
from import_local.kubelet.status import PodView, build_status, differs

Json = dict[str, Any]

logger = structlog.get_logger(__name__)

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0
NOT_FOUND, CONFLICT = 404, 409


class StatusReporter:
    """One pod's status. `limit` bounds the patches of all pods under way at once."""

    def __init__(self, api: KubernetesApi, pod: Json, view: PodView, limit: asyncio.Semaphore) -> None:
        self._api = api
        self._view = view
        self._limit = limit
        self._dirty = asyncio.Event()
        self._clean = asyncio.Event()
        self._sent: Json | None = None
        self.pod = pod
        self.gone = False

    def mark(self) -> None:
        """Say that the view has changed."""
        self._clean.clear()
        self._dirty.set()

    def observe(self, pod: Json) -> None:
        """Take in a newer object of the API server; an older one than the last answer is ignored."""
        if int(pod["metadata"]["resourceVersion"]) > int(self.pod["metadata"]["resourceVersion"]):
            self.pod = pod
            # What another client wrote into our fields is put right, once for each of its writes.
            self._sent = None
            self.mark()

    async def run(self) -> None:
        """Report for ever; changes during a patch are reported together by the next one."""
        delay = FIRST_RETRY_SECONDS
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._report()
            except (ApiError, ApiUnavailableError) as problem:
                logger.warning("pod.status_not_sent", uid=self.pod["metadata"]["uid"], error=str(problem))
                self._dirty.set()
                await asyncio.sleep(delay)
                delay = min(2 * delay, LAST_RETRY_SECONDS)
                continue
            delay = FIRST_RETRY_SECONDS
            if not self._dirty.is_set():
                self._clean.set()

    async def flush(self) -> None:
        """Return once the API server has the current state, or no longer has the pod."""
        self.mark()
        await self._clean.wait()

    async def _report(self) -> None:
        wanted = build_status(self._view, self.pod, time.time_ns())
        if self.gone or not differs(self.pod.get("status") or {}, wanted) or wanted == self._sent:
            return
        metadata = self.pod["metadata"]
        # The uid makes the API server refuse to patch a successor of the same name.
        addresses = {key: [{"$patch": "replace"}, *wanted[key]] for key in ("podIPs", "hostIPs")}
        body = {"metadata": {"uid": metadata["uid"]}, "status": wanted | addresses}
        path = pod_path(metadata["namespace"], metadata["name"]) + "/status"
        try:
            async with self._limit:
                answer = await self._api.request("PATCH", path, body=body, content_type=STRATEGIC_MERGE_PATCH)
        except ApiError as problem:
            if problem.status not in {NOT_FOUND, CONFLICT}:
                raise
            self.gone = True
            return
        self.pod = answer
        self._sent = wanted
