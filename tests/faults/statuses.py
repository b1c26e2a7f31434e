"""Keeps every version of the jobs' statuses that the API server tells, and judges what they say over time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
from e2e.world import FINAL, NAMESPACE
from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError

from import_core.adapters.tasks import end_tasks
from import_local.demo.cluster import ImportJob

RECONNECT_SECONDS = 0.5
COUNTERS = (
    "productsImported",
    "productsUnchanged",
    "productsFailed",
    "imagesImported",
    "imagesFailed",
    "percent",
)

Json = dict[str, Any]
_JOBS: Any = ImportJob


@dataclass(slots=True)
class History:
    """The statuses of one object, in the order in which they were written; `deleted` once it is gone."""

    name: str
    uid: str
    statuses: list[Json] = field(default_factory=list)
    deleted: bool = False

    @property
    def phase(self) -> str:
        """The last phase."""
        return str(self.statuses[-1].get("phase") or "") if self.statuses else ""


class StatusRecorder:
    """The histories of all jobs with the scenario's label. Goes on after the API server was away."""

    def __init__(self, kubeconfig: Path, labels: Mapping[str, str]) -> None:
        self._kubeconfig = kubeconfig
        self._labels: dict[str, Any] = dict(labels)
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.histories: dict[str, History] = {}

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[StatusRecorder]:
        """Record inside the block."""
        self._task = asyncio.create_task(self._record())
        try:
            yield self
        finally:
            await end_tasks([self._task])

    async def until_final(self, number: int, *, seconds: float) -> bool:
        """Wait until so many objects have ended or were deleted; False when they have not in time."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self._ended() >= number)
        except TimeoutError:
            return False
        return True

    def _ended(self) -> int:
        return sum(history.deleted or history.phase in FINAL for history in self.histories.values())

    async def _record(self) -> None:
        client = AsyncClient(config=KubeConfig.from_file(self._kubeconfig), namespace=NAMESPACE)
        try:
            while True:
                try:
                    async for change, body in client.watch(_JOBS, labels=self._labels):
                        await self._take(change, body)
                except (httpx2.HTTPError, ApiError):
                    await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            await client.close()

    async def _take(self, change: str, body: Any) -> None:
        metadata = body["metadata"]
        uid, name = str(metadata["uid"]), str(metadata["name"])
        history = self.histories.setdefault(uid, History(name, uid))
        status = dict(body.get("status") or {})
        async with self._changed:
            if change == "DELETED":
                history.deleted = True
            elif not history.statuses or history.statuses[-1] != status:
                history.statuses.append(status)
            self._changed.notify_all()


def backward_steps(history: History) -> Iterator[str]:
    """Findings in one object's history: an end that was taken back, or a number that fell."""
    for before, after in pairwise(history.statuses):
        ended = before.get("phase") in FINAL
        if ended and after.get("phase") != before.get("phase"):
            yield f"{history.name}: {before.get('phase')} was followed by {after.get('phase')}"
        if before.get("startedAt") and after.get("startedAt") != before["startedAt"]:
            yield f"{history.name}: startedAt changed from {before['startedAt']} to {after.get('startedAt')}"
        if (
            int(after.get("attempts") or 0) < int(before.get("attempts") or 0)
            and after.get("phase") != "Queued"
        ):
            yield f"{history.name}: attempts fell from {before['attempts']} to {after.get('attempts')}"
        yield from _falling_counters(history.name, before, after)


def backward_steps_of_two_runs(history: History) -> Iterator[str]:
    """Findings in the history of an object whose failed items were asked for again, once.

    Up to the end of the first run it is judged as any other. In the second failed items become imported
    ones, so counters may fall there; its end may not be taken back.
    """
    statuses = history.statuses
    again = next(
        (
            number
            for number, (before, after) in enumerate(pairwise(statuses), 1)
            if before.get("phase") in FINAL and after.get("phase") not in FINAL
        ),
        len(statuses),
    )
    yield from backward_steps(History(history.name, history.uid, statuses[:again]))
    second = statuses[again:]
    for before, after in pairwise(second):
        if before.get("phase") in FINAL and after.get("phase") != before.get("phase"):
            yield f"{history.name}: {before.get('phase')} was followed by {after.get('phase')}"


def _falling_counters(name: str, before: Json, after: Json) -> Iterator[str]:
    old, new = before.get("progress") or {}, after.get("progress") or {}
    for counter in COUNTERS:
        if int(new.get(counter) or 0) < int(old.get(counter) or 0):
            yield f"{name}: {counter} fell from {old[counter]} to {new.get(counter)} ({after.get('phase')})"
