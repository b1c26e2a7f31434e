"""All dead letters, those of steps before those of imports: listed, retried and discarded in bounded batches."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from import_core.adapters.kube.resources import IMPORT_JOB, Kind
from import_core.adapters.postgres.dead_letters import (
    BATCH,
    NEWEST,
    REASONS_SHOWN,
    DeadLetterStore,
    DeadPosition,
)
from import_core.adapters.postgres.failed_items import (
    NEWEST_ITEM,
    FailedItemStore,
    GivingImport,
    ItemPosition,
)
from import_core.adapters.postgres.pool import Database
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.dead_letters import (
    DeadFilter,
    DeadLetter,
    DeadReasons,
    DeadStep,
    LetterAction,
    why_no_letter,
)
from import_core.domain.errors import ObjectConflictError, ObjectNotFoundError
from import_core.domain.item_errors import NO_EXTERNAL_ID
from import_core.domain.jobs import ObjectReference
from import_core.domain.projection import PHASES
from import_core.domain.reopening import RETRY_ITEMS_ANNOTATION, why_not_again
from import_core.domain.steps import StepState

IMPORTS_AT_ONCE = 100
"""An action ends once it has had the failed items of so many imports imported again: each takes two calls."""

Position = DeadPosition | ItemPosition
"""Where a list goes on: among the steps, or among what imports gave up, which comes after them."""


class Annotating(Protocol):
    """What of `KubeClient` is used; it raises KubernetesUnavailableError."""

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, or None."""

    async def annotate(
        self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str | None], *, uid: str
    ) -> None:
        """Set annotations of the one of that uid."""


@dataclass(frozen=True, slots=True)
class Done:
    """What has just been done, for whoever keeps a record of it."""

    changed: int
    company_ids: Sequence[str]
    job_ids: Sequence[str]
    steps: Sequence[DeadStep]


Note = Callable[[Done], None]
"""Called after each transaction or annotation, so that nothing is done without a record when a later one fails."""


@dataclass(frozen=True, slots=True)
class Acted:
    """What a bounded action has changed.

    `skipped` were meant and could not be acted on, `why` says it of one of them; `next`: where to go on, None: all
    that was meant has been looked at.
    """

    changed: int
    skipped: int = 0
    why: str | None = None
    next: Position | None = None


@dataclass(slots=True)
class _Action:
    """One action under way; `asked` are imports that were to run again, and why they could not, if so."""

    kind: LetterAction
    by: str
    note: Note
    changed: int = 0
    skipped: int = 0
    why: str | None = None
    asked: dict[str, str | None] = field(default_factory=dict)

    def did(self, letters: Sequence[DeadLetter], changed: int) -> None:
        self.changed += changed
        if changed:
            self.note(
                Done(
                    changed,
                    sorted({letter.company_id for letter in letters}),
                    sorted({letter.job_id for letter in letters if letter.job_id is not None}),
                    sorted({letter.step for letter in letters}),
                )
            )

    def skip(self, number: int, why: str) -> None:
        self.skipped += number
        self.why = self.why or why


class DeadLetters:
    """Dead letters of all kinds, as people meet them. `namespace`: where the imports' objects are.

    `kube` is asked for where an import is retried alone: who looks at dead letters needs no API server.

    Methods raise DatabaseUnavailableError, and `act` and `act_on_all` KubernetesUnavailableError where they retry what
    an import gave up.
    """

    def __init__(self, database: Database, kube: Callable[[], Annotating], *, namespace: str) -> None:
        self.steps = DeadLetterStore(database)
        self.items = FailedItemStore(database)
        self._reopening = ReopeningStore(database)
        self._kube = kube
        self._namespace = namespace

    async def page(
        self, wanted: DeadFilter, *, after: Position | None = None, limit: int = BATCH
    ) -> tuple[list[DeadLetter], Position | None]:
        """The next dead letters, and where the page after them begins, if any.

        Steps first, those that died last before others; then what imports gave up, the newest imports first. A page
        may be short, or empty, and not the last.
        """
        letters: list[DeadLetter] = []
        if wanted.step is not DeadStep.IMPORT and not isinstance(after, ItemPosition):
            letters, following = await self.steps.page(wanted, after=after or NEWEST, limit=limit)
            if following is not None or wanted.step is not None:
                return letters, following
            after = None
        elif wanted.step not in {None, DeadStep.IMPORT}:
            return [], None
        place = after if isinstance(after, ItemPosition) else NEWEST_ITEM
        if len(letters) >= limit:
            return letters, place
        items, last = await self.items.page(wanted, after=place, limit=limit - len(letters))
        return letters + items, last

    async def pages(self, wanted: DeadFilter) -> AsyncIterator[list[DeadLetter]]:
        """All that are meant, page by page; none is met twice."""
        letters, after = await self.page(wanted)
        while letters or after is not None:
            if letters:
                yield letters
            if after is None:
                return
            letters, after = await self.page(wanted, after=after)

    async def reasons(self, wanted: DeadFilter) -> DeadReasons:
        """Why those that are meant died: the most frequent reasons first, REASONS_SHOWN at most."""
        found = []
        if wanted.step is not DeadStep.IMPORT:
            found.append(await self.steps.reasons(wanted))
        if wanted.step in {None, DeadStep.IMPORT}:
            found.append(await self.items.reasons(wanted))
        rows = sorted(
            (row for part in found for row in part.reasons),
            key=lambda row: (-row.count, row.step, row.reason),
        )
        return DeadReasons(
            rows[:REASONS_SHOWN],
            sum(part.total for part in found),
            len(rows) > REASONS_SHOWN or any(part.more_reasons for part in found),
            counted_all=all(part.counted_all for part in found),
        )

    async def act(self, kind: LetterAction, letter: DeadLetter, *, by: str, note: Note) -> Acted:
        """Retry or discard one. What is no dead letter any more is left as it is."""
        action = _Action(kind, by, note)
        await self._batch(action, [letter])
        return Acted(action.changed, action.skipped, action.why)

    async def act_on_all(
        self,
        kind: LetterAction,
        wanted: DeadFilter,
        *,
        by: str,
        note: Note,
        most: int,
        after: Position | None = None,
    ) -> Acted:
        """Retry or discard those that are meant, `most` at most, in the order of the list.

        It ends after IMPORTS_AT_ONCE imports, too. What was done until an error stays so, and was noted; the same call
        goes on with the rest, from `next` on.
        """
        action = _Action(kind, by, note)
        left = most
        while left > 0 and len(action.asked) < IMPORTS_AT_ONCE:
            letters, after = await self.page(wanted, after=after, limit=min(BATCH, left))
            await self._batch(action, letters)
            left -= len(letters)
            if after is None:
                break
        if after is not None and await self.page(wanted, after=after, limit=1) == ([], None):
            after = None
        return Acted(action.changed, action.skipped, action.why, after)

    async def _batch(self, action: _Action, letters: Sequence[DeadLetter]) -> None:
        steps = [letter for letter in letters if letter.step is not DeadStep.IMPORT]
        items = [letter for letter in letters if letter.step is DeadStep.IMPORT]
        if steps:
            state = StepState.DUE if action.kind is LetterAction.RETRY else StepState.DISCARDED
            action.did(steps, await self.steps.change(steps, state, by=action.by))
        if items and action.kind is LetterAction.DISCARD:
            action.did(items, await self.items.discard(items, by=action.by))
        elif items:
            await self._retry_items(action, items)

    async def _retry_items(self, action: _Action, letters: Sequence[DeadLetter]) -> None:
        """Have the imports that gave these up import their failed items again, each once."""
        by_job: dict[str, list[DeadLetter]] = {}
        for letter in letters:
            if letter.reason == NO_EXTERNAL_ID:
                action.skip(
                    1, f"The source gave {letter.external_id} no id to ask for it by: retry the whole import"
                )
            else:
                by_job.setdefault(letter.job_id or "", []).append(letter)
        new = [job_id for job_id in by_job if job_id not in action.asked]
        imports = await self.items.imports(new) if new else {}
        for job_id, group in by_job.items():
            if job_id not in action.asked:
                job = imports.get(job_id)
                action.asked[job_id] = "The import is gone" if job is None else await self._run_again(job)
            why_not = action.asked[job_id]
            if why_not is None:
                action.did(group, len(group))
            else:
                action.skip(len(group), why_not)

    async def _run_again(self, job: GivingImport) -> str | None:
        """Have an import import its failed items again; returns why that is not possible, if so."""
        why_not = why_no_letter(job.name, job.state, is_old=job.is_old)
        if why_not is not None:
            return why_not
        token = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(4)}"
        if job.origin is not None:
            return await self._annotate(job, job.origin, token)
        changed = await self._reopening.retry_items({job.id: token})
        return None if changed else f"{job.name} has changed meanwhile"

    async def _annotate(self, job: GivingImport, origin: ObjectReference, token: str) -> str | None:
        if origin.namespace != self._namespace:
            return f"{job.name} belongs to namespace {origin.namespace}: retry it there"
        body = await self._kube().get(IMPORT_JOB, origin.namespace, origin.name)
        metadata = body["metadata"] if body is not None else {}
        gone = metadata.get("uid") != origin.uid
        why_not = why_not_again(job.name, phase=PHASES[job.state].value, object_gone=gone)
        if why_not is not None:
            return why_not
        before = (metadata.get("annotations") or {}).get(RETRY_ITEMS_ANNOTATION)
        if before is not None and before != job.honoured_retry:
            return f"{job.name} was asked to import its failed items again already, and is about to"
        annotations = {RETRY_ITEMS_ANNOTATION: token}
        try:
            await self._kube().annotate(
                IMPORT_JOB, origin.namespace, origin.name, annotations, uid=origin.uid
            )
        except (ObjectNotFoundError, ObjectConflictError):
            return f"The ImportJob {job.name} was deleted meanwhile"
        return None
