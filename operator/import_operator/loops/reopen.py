"""Runs finished jobs again where an annotation asks for it."""

from __future__ import annotations

from collections.abc import Mapping

from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.adapters.postgres.reopening import ReopeningStore
from import_core.domain.admission import Admission, admit
from import_core.domain.errors import DatabaseUnavailableError, LeaseUncertainError
from import_core.domain.projection import is_final
from import_core.domain.removals import CONFIRM_ANNOTATION
from import_core.domain.reopening import (
    RETRY_ANNOTATION,
    RETRY_ITEMS_ANNOTATION,
    Action,
    HonouredRequests,
    Requests,
    decide_reopening,
    requests_of,
)
from import_core.observability.logs import get_logger
from import_operator import metrics
from import_operator.loops.runner import Loop
from import_operator.loops.tell import TellLoop
from import_operator.state import Body, OperatorState, generation_of, provider_name_of

log = get_logger(__name__)

BATCH = 500
PAUSE_SECONDS = 0.02
TOLD = 10_000
"""Problems are told once per object; so many are remembered."""
NOTES = {
    Action.RETRY: f"{RETRY_ANNOTATION}: runs again from the start",
    Action.RETRY_ITEMS: f"{RETRY_ITEMS_ANNOTATION}: imports the failed items again",
    Action.CONFIRM_REMOVALS: f"{CONFIRM_ANNOTATION}: archives the products that are gone",
}


class ReopenLoop:
    """Takes what the handlers and the comparison with the API server put into `state.to_reopen`."""

    def __init__(self, state: OperatorState, store: ReopeningStore, events: TellLoop) -> None:
        self._state = state
        self._store = store
        self._events = events
        self._told: dict[str, tuple[str, ...]] = {}

    def loop(self) -> Loop:
        """Woken by handlers; a batch collects what comes within PAUSE_SECONDS."""
        return Loop("reopen", self.round, interval=60.0, wake=self._state.to_reopen.wake, pause=PAUSE_SECONDS)

    async def round(self) -> None:
        """Look at one batch. What the database did not take stays in its queue."""
        asked: dict[str, Requests] = {}
        for uid in self._state.to_reopen.take(BATCH):
            body = self._state.jobs.get(uid)
            requests = requests_of(body) if body is not None else None
            if requests:
                asked[uid] = requests
        if not asked:
            return
        try:
            await self._honour_or_leave(asked)
        except (DatabaseUnavailableError, LeaseUncertainError):
            self._state.to_reopen.update(asked)
            raise

    async def _honour_or_leave(self, asked: Mapping[str, Requests]) -> None:
        try:
            await self._honour(asked)
        except (DatabaseUnavailableError, LeaseUncertainError):
            raise
        except Exception as error:
            # Something about one of them; alone each of the others gets through.
            for uid, requests in asked.items():
                if len(asked) > 1:
                    await self._honour_or_leave({uid: requests})
                else:
                    log.exception("job.not_reopened", jobId=uid, exc_info=error)
                    metrics.LOOP_ERRORS.labels("reopen", type(error).__name__).inc()

    async def _honour(self, asked: Mapping[str, Requests]) -> None:
        rows = await self._store.honoured(list(asked))
        wanted: dict[Action, list[str]] = {action: [] for action in Action}
        for uid, requests in asked.items():
            body = self._state.jobs.get(uid)
            if body is None or "deletionTimestamp" in body["metadata"]:
                continue
            action = self._decide(uid, body, requests, rows.get(uid))
            if action is not None:
                wanted[action].append(uid)
        # Its last run may have been asked for and done while nobody looked.
        self._state.to_project.update(rows)
        await self._run_again(Action.RETRY, {uid: asked[uid] for uid in wanted[Action.RETRY]})
        await self._run_again(Action.RETRY_ITEMS, {uid: asked[uid] for uid in wanted[Action.RETRY_ITEMS]})
        await self._confirm({uid: asked[uid] for uid in wanted[Action.CONFIRM_REMOVALS]})

    def _decide(
        self, uid: str, body: Body, requests: Requests, row: HonouredRequests | None
    ) -> Action | None:
        if row is None and not is_final(body):
            self._complain(uid, body, requests.problems)  # not recorded yet
            return None
        decision = decide_reopening(requests, row, generation=generation_of(body))
        self._complain(uid, body, decision.problems)
        return decision.action

    async def _run_again(self, action: Action, asked: Mapping[str, Requests]) -> None:
        """Reopen jobs with their present specs; one whose spec would be refused now waits for a better one."""
        accepted: dict[str, Admission] = {}
        tokens: dict[str, str] = {}
        for uid, requests in asked.items():
            body = self._state.jobs.get(uid)
            token = requests.retry if action is Action.RETRY else requests.retry_items
            if body is None or token is None:
                continue
            admission = admit(
                body,
                self._state.providers.named(provider_name_of(body)),
                unavailable=self._state.unavailable_steps,
            )
            if admission.verdict.refusal is not None:
                name = RETRY_ANNOTATION if action is Action.RETRY else RETRY_ITEMS_ANNOTATION
                self._complain(uid, body, (f"{name}: not run again: {admission.verdict.refusal.message}",))
            else:
                accepted[uid], tokens[uid] = admission, token
        if not tokens:
            return
        reopen = self._store.retry if action is Action.RETRY else self._store.retry_items
        specs = {uid: item.request for uid, item in accepted.items() if item.request is not None}
        reopened = await reopen(tokens, requests=specs)
        for uid in reopened:
            self._state.held.pop(uid, None)
            if self._state.jobs.get(uid) is not None:
                self._state.verdicts[uid] = accepted[uid].verdict
        self._reopened(action, reopened)
        if action is Action.RETRY_ITEMS:
            for uid in tokens.keys() - set(reopened):
                body = self._state.jobs.get(uid)
                if body is not None:
                    self._complain(uid, body, (f"{RETRY_ITEMS_ANNOTATION}: the job has no failed items",))

    async def _confirm(self, asked: Mapping[str, Requests]) -> None:
        generations = {
            uid: requests.confirm_removals
            for uid, requests in asked.items()
            if requests.confirm_removals is not None
        }
        if generations:
            self._reopened(Action.CONFIRM_REMOVALS, await self._store.confirm_removals(generations))

    def _reopened(self, action: Action, job_ids: list[str]) -> None:
        if not job_ids:
            return
        metrics.JOBS_REOPENED.labels(action.value).inc(len(job_ids))
        self._state.to_project.update(job_ids)
        self._state.dispatch_wanted.set()
        for uid in job_ids:
            self._told.pop(uid, None)
            log.info("job.reopened", jobId=uid, action=action.value)
            body = self._state.jobs.get(uid)
            if body is not None:
                self._events.tell(IMPORT_JOB, body, reason=action.value, action="Import", note=NOTES[action])

    def _complain(self, uid: str, body: Body, problems: tuple[str, ...]) -> None:
        """Tell once of annotations that lead to nothing."""
        if not problems or self._told.get(uid) == problems:
            return
        if len(self._told) >= TOLD:
            self._told.pop(next(iter(self._told)))
        self._told[uid] = problems
        for problem in problems:
            log.info("annotation.unusable", jobId=uid, message=problem)
            self._events.tell(
                IMPORT_JOB, body, reason="AnnotationUnusable", action="Import", note=problem, warning=True
            )
