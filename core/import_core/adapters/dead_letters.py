"""All dead letters, those of steps before those of imports: listed, retried and discarded in bounded batches."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from import_core.adapters.postgres.failed_item_choice import ITEMS_EXAMINED
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

GONE = "The import is gone"
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
    """One action under way; `asked`: how many imports were to run again."""

    kind: LetterAction
    by: str
    note: Note
    changed: int = 0
    skipped: int = 0
    why: str | None = None
    asked: int = 0

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

        An import runs again for all that it gave up, so of the last one another ITEMS_EXAMINED that are meant count.
        It ends after IMPORTS_AT_ONCE imports, too, and after a page that is short as enough was looked at for it. What
        was done until an error stays so, and was noted; the same call goes on with the rest, from `next` on.
        """
        action = _Action(kind, by, note)
        left = most
        while left > 0 and action.asked < IMPORTS_AT_ONCE:
            limit = min(BATCH, left)
            letters, after = await self.page(wanted, after=after, limit=limit)
            more = 0
            if kind is LetterAction.RETRY and letters and isinstance(after, ItemPosition):
                more, after = await self._rest_of_import(action, wanted, letters[-1], after)
            await self._batch(action, letters, more=more)
            left -= len(letters) + more
            if after is None or len(letters) < limit:
                break
        if after is not None and await self.page(wanted, after=after, limit=1) == ([], None):
            after = None
        return Acted(action.changed, action.skipped, action.why, after)

    async def _rest_of_import(
        self, action: _Action, wanted: DeadFilter, last: DeadLetter, after: ItemPosition
    ) -> tuple[int, ItemPosition]:
        """What else is meant of the import that a page ends in, and where the list goes on behind that import.

        Looked at before it runs again: nothing of it is a dead letter then. It runs again for all of it, so a page of
        it is counted, however much there is behind that: ITEMS_EXAMINED, as a statement looks at so many of its errors
        whatever is asked of it.
        """
        ends_inside = last.step is DeadStep.IMPORT and last.job_id == after.job_id
        if not ends_inside or after.external_id is None:
            return 0, after
        letters, _ = await self.items.page(
            replace(wanted, job=after.job_id), after=after, limit=ITEMS_EXAMINED
        )
        return len(self._askable(action, letters)), ItemPosition(after.created_at, after.job_id, None)

    async def _batch(self, action: _Action, letters: Sequence[DeadLetter], *, more: int = 0) -> None:
        """Act on a page; `more`: how many others the import of the last one gave up, which a retry is for, too."""
        steps = [letter for letter in letters if letter.step is not DeadStep.IMPORT]
        items = [letter for letter in letters if letter.step is DeadStep.IMPORT]
        if steps:
            state = StepState.DUE if action.kind is LetterAction.RETRY else StepState.DISCARDED
            action.did(steps, await self.steps.change(steps, state, by=action.by))
        if items and action.kind is LetterAction.DISCARD:
            await self._discard_items(action, items)
        elif items:
            await self._retry_items(action, items, more)

    async def _discard_items(self, action: _Action, letters: Sequence[DeadLetter]) -> None:
        """Give them up; those of an import that has begun to run again meanwhile may still be imported, and stay."""
        changed, left = await self.items.discard(letters, by=action.by)
        action.did([letter for letter in letters if letter.job_id not in left], changed)
        if not left:
            return
        imports = await self.items.imports(left)
        for job_id, number in Counter(letter.job_id for letter in letters if letter.job_id in left).items():
            job = imports.get(job_id or "")
            why_not = None if job is None else why_no_letter(job.name, job.state, is_old=job.is_old)
            action.skip(number, GONE if job is None else why_not or f"{job.name} has changed meanwhile")

    async def _retry_items(self, action: _Action, letters: Sequence[DeadLetter], more: int) -> None:
        """Have the imports that gave these up import their failed items again, each once."""
        numbers = Counter(letter.job_id or "" for letter in self._askable(action, letters))
        numbers[letters[-1].job_id or ""] += more
        imports = await self.items.imports(job_id for job_id, number in numbers.items() if number)
        for job_id, number in numbers.items():
            if not number:
                continue
            action.asked += 1
            job = imports.get(job_id)
            why_not = GONE if job is None else await self._run_again(job)
            if why_not is None:
                action.did([letter for letter in letters if letter.job_id == job_id], number)
            else:
                action.skip(number, why_not)

    def _askable(self, action: _Action, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Those that their import can ask the source for; the others are skipped."""
        nameless = [letter for letter in letters if letter.reason == NO_EXTERNAL_ID]
        if nameless:
            name = nameless[0].external_id
            why = f"The source gave {name} no id to ask for it by: retry the whole import"
            action.skip(len(nameless), why)
        return [letter for letter in letters if letter.reason != NO_EXTERNAL_ID]

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
