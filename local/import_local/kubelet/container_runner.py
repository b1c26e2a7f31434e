"""Runs one container of a pod: starts it, watches over it, and starts it again as its policy says."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

from import_local.kubelet.backoff import RestartPolicy, get_init_policy, next_delay, should_restart
from import_local.kubelet.environment import parse_bytes
from import_local.kubelet.errors import ApiError, ApiUnavailableError, ContainerStartError
from import_local.kubelet.logs import read_last_lines
from import_local.kubelet.pod_context import PodContext
from import_local.kubelet.prober import ProbeFailure, ProbeTarget, probe, watch_container
from import_local.kubelet.records import Attempt
from import_local.kubelet.status import ContainerView, Running, Terminated, Waiting

Json = dict[str, Any]

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 10.0
# The node authorizer learns of a pod's references moments after its binding: the first refusals mean nothing.
SILENT_RETRIES = 4
MESSAGE_BYTES = 2048


class ContainerRunner:
    """One container. `view` is what the pod's status shows of it."""

    def __init__(self, context: PodContext, container: Json, view: ContainerView, *, is_init: bool) -> None:
        self._context = context
        self._container = container
        self._runtime = context.services.runtime
        policy: RestartPolicy = context.pod["spec"].get("restartPolicy", "Always")
        self._policy = get_init_policy(policy) if is_init else policy
        self._is_init = is_init
        self._delay: float | None = None
        self._attempt: Attempt | None = None
        self.view = view

    async def run(self) -> Terminated:
        """Run the container until it has ended for good; being cancelled leaves its process running."""
        attempt = await self._find_attempt()
        while True:
            if attempt is None:
                attempt = await self._start()
            ended = await self._supervise(attempt)
            self._show_end(ended)
            if not should_restart(self._policy, ended.exit_code):
                return ended
            settings = self._context.services.settings.back_off
            ran_for = (ended.finished - ended.started) / 1e9
            self._delay = next_delay(self._delay, ran_for, settings)
            await self._back_off(ended, self._delay)
            attempt = None

    async def stop(self, grace: asyncio.Timeout) -> None:
        """End the container: hook, SIGTERM, and SIGKILL once `grace` (entered here) has passed."""
        attempt = self._attempt
        if attempt is None:
            return
        try:
            async with grace:
                await self._run_pre_stop(attempt, grace)
                self._runtime.terminate(attempt)
                ended = await self._runtime.wait(attempt)
        except TimeoutError:
            self._runtime.kill(attempt)
            ended = await self._runtime.wait(attempt)
        self._show_end(ended)

    def restore(self) -> None:
        """Show what the record says of the container, before anything is done about it."""
        attempts = self._context.record.list_attempts(self.view.name)
        for attempt in attempts:
            if attempt.has_ended():
                self.view.last = attempt.read_end()
        if attempts:
            self._show_attempt(attempts[-1])
            if attempts[-1].has_ended():
                self._show_end(attempts[-1].read_end())
            else:
                self._attempt = attempts[-1]
                self._show_running(attempts[-1])

    async def _find_attempt(self) -> Attempt | None:
        attempts = self._context.record.list_attempts(self.view.name)
        if attempts and await self._runtime.resume(attempts[-1]):
            self._attempt = attempts[-1]
            return attempts[-1]
        return None

    def _show_attempt(self, attempt: Attempt) -> None:
        self.view.restarts = attempt.number
        self.view.container_id = attempt.container_id

    def _show_running(self, attempt: Attempt) -> None:
        self.view.state = Running(attempt.get_start_time())
        self.view.started = "startupProbe" not in self._container
        self.view.ready = self.view.started and "readinessProbe" not in self._container and not self._is_init

    def _show_end(self, ended: Terminated) -> None:
        if self._container.get("terminationMessagePolicy") == "FallbackToLogsOnError" and self._attempt:
            ended = self._add_log_message(self._attempt, ended)
        self._attempt = None
        self.view.state = ended
        self.view.started = self.view.ready = False
        if self._is_init:
            self.view.ready = ended.exit_code == 0
        self._context.report()

    def _add_log_message(self, attempt: Attempt, ended: Terminated) -> Terminated:
        if ended.exit_code == 0 or ended.message:
            return ended
        message = read_last_lines(attempt.folder, MESSAGE_BYTES)
        attempt.set_reason("", message)
        return attempt.read_end()

    async def _start(self) -> Attempt:
        retries = 0
        while True:
            try:
                await self._context.prepare_volumes()
                command, environment, folder = await self._context.prepare_command(self._container)
                attempts = self._context.record.list_attempts(self.view.name)
                number = attempts[-1].number + 1 if attempts else 0
                attempt = self._context.record.add_attempt(self.view.name, number)
                self._attempt = attempt
                await finish(self._runtime.start(attempt, command, environment, folder))
            except ContainerStartError as problem:
                self._show_waiting(problem.reason, str(problem))
                await self._wait_for_cure(problem)
            except (ApiError, ApiUnavailableError, OSError) as problem:
                retries += 1
                if retries > SILENT_RETRIES:
                    self._show_waiting("CreateContainerError", str(problem))
                await asyncio.sleep(min(FIRST_RETRY_SECONDS * 2**retries, LAST_RETRY_SECONDS))
            else:
                return attempt

    def _show_waiting(self, reason: str, message: str) -> None:
        if isinstance(self.view.state, Terminated):
            self.view.last = self.view.state
        self.view.state = Waiting(reason, message)
        self._context.report()

    async def _wait_for_cure(self, problem: ContainerStartError) -> None:
        self._context.updated.clear()
        cures: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._context.updated.wait())]
        if problem.wait_for:
            cures.append(
                asyncio.ensure_future(self._context.services.references.wait_for_change(*problem.wait_for))
            )
        try:
            await asyncio.wait(cures, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for cure in cures:
                cure.cancel()

    async def _supervise(self, attempt: Attempt) -> Terminated:
        is_shown = self.view.container_id == attempt.container_id
        # Also of one that has ended by now: it counts as a restart like any other.
        self._show_attempt(attempt)
        if isinstance(self.view.state, Terminated) and not is_shown:
            self.view.last = self.view.state
        if attempt.has_ended():
            return attempt.read_end()
        self._attempt = attempt
        self._show_running(attempt)
        self._context.report()
        target = self._get_target(attempt)
        if target is None:
            return await self._runtime.wait(attempt)
        limit = ((self._container.get("resources") or {}).get("limits") or {}).get("memory")
        with ExitStack() as stack:
            watcher = self._context.services.memory
            stack.enter_context(watcher.watch(attempt, parse_bytes(limit) if limit else None))
            end = asyncio.create_task(self._runtime.wait(attempt))
            stack.callback(end.cancel)
            probes = asyncio.create_task(watch_container(target, self._set_readiness))
            stack.callback(probes.cancel)
            await asyncio.wait({end, probes}, return_when=asyncio.FIRST_COMPLETED)
            if not end.done() and (failure := probes.result()) is not None:
                await self._end_unhealthy(attempt, failure)
            return await end

    async def _end_unhealthy(self, attempt: Attempt, failure: ProbeFailure) -> None:
        seconds = failure.grace
        if seconds is None:
            seconds = float(self._context.pod["spec"].get("terminationGracePeriodSeconds") or 0)
        self.view.ready = False
        attempt.set_reason("", f"{failure.kind} probe failed: {failure.message}")
        await self.stop(asyncio.timeout(seconds))

    def _set_readiness(self, started: bool, ready: bool) -> None:
        if not self._is_init and (self.view.started, self.view.ready) != (started, ready):
            self.view.started, self.view.ready = started, ready
            self._context.report()

    def _get_target(self, attempt: Attempt) -> ProbeTarget | None:
        process = attempt.read_process("child")
        if process is None:
            return None
        record = self._context.record
        folder = record.folder / "home"
        return ProbeTarget(record.address, self._container, process, folder, self._context.services.probes)

    async def _run_pre_stop(self, attempt: Attempt, grace: asyncio.Timeout) -> None:
        hook = (self._container.get("lifecycle") or {}).get("preStop")
        target = self._get_target(attempt)
        if hook and target:
            # A hook that fails, or takes all of the grace period, doesn't keep the container from its end.
            deadline = grace.when() or 0.0
            await probe(hook, target, timeout=deadline - asyncio.get_running_loop().time())

    async def _back_off(self, ended: Terminated, delay: float) -> None:
        remaining = ended.finished / 1e9 + delay - time.time()
        if remaining <= 0:
            return
        self.view.last = ended
        message = f"back-off {delay:g}s restarting failed container={self.view.name}"
        self._show_waiting("CrashLoopBackOff", message)
        await asyncio.sleep(remaining)


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Await what must not be left half done: being cancelled takes effect after its end."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def make_runners(
    context: PodContext, report: Callable[[], None]
) -> tuple[list[ContainerRunner], list[ContainerRunner]]:
    """Return the runners of a pod's init containers and of its containers, as the record knows them."""
    spec = context.pod["spec"]
    init = [
        ContainerRunner(context, container, view, is_init=True)
        for container, view in zip(spec.get("initContainers") or (), context.view.init, strict=True)
    ]
    main = [
        ContainerRunner(context, container, view, is_init=False)
        for container, view in zip(spec["containers"], context.view.main, strict=True)
    ]
    for runner in (*init, *main):
        runner.restore()
    report()
    return init, main
