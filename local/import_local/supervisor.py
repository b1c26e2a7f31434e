"""The process behind `import-local up`: runs an installation until it is told to stop or a part of it dies.

Run as `python -m import_local.supervisor STATE_FOLDER [--context NAME] [--no-operator]`, with a pipe as
standard output that gets one JSON object per line: `{"part", "message"}` for news, then `{"ready": true}` or
`{"error"}`.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from import_local.errors import AlreadyRunningError, LocalError
from import_local.installation import Installation
from import_local.part_set import Options

_FOLDER_CHECK_SECONDS = 1.0


class _Reporter:
    """Writes news to whoever started the supervisor; they going away while it starts means: stop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.reader_gone = asyncio.Event()

    def __call__(self, part: str, message: str) -> None:
        self.send({"part": part, "message": message})

    def send(self, content: dict[str, object]) -> None:
        """Write one line, unless nobody reads any more."""
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, (json.dumps(content) + "\n").encode())
        except BrokenPipeError:
            self.reader_gone.set()

    def close(self) -> None:
        """Let the reader go on; what follows is only in the state folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def wait_for_reader_to_go(self) -> None:
        """Return when the other end of the pipe is closed, which the system tells as an error condition."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, self.reader_gone.set)
        try:
            await self.reader_gone.wait()
        finally:
            loop.remove_reader(self._descriptor)


async def run(state_folder: Path, options: Options, descriptor: int) -> int:
    """Start, wait, stop; returns the exit code. Signals ask for a stop, at any moment."""
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    reporter = _Reporter(descriptor)
    installation = Installation(state_folder, progress=reporter, options=options, holder="the supervisor")
    try:
        if not await _start(installation, reporter, told_to_stop):
            reporter.send({"error": "the start was interrupted; everything is stopped again"})
            return 1
    except LocalError as error:
        reporter.send({"error": str(error)})
        if not isinstance(error, AlreadyRunningError) and installation.state.path.exists():
            installation.state.write_failure(f"the start failed: {error}")
        return 1
    reporter.send({"ready": True})
    reporter.close()
    return await _watch(installation, told_to_stop)


async def _start(installation: Installation, reporter: _Reporter, told_to_stop: asyncio.Event) -> bool:
    """Start the installation; False when somebody interrupted it, everything being stopped again."""
    starting = asyncio.create_task(installation.start())
    interruptions = [
        asyncio.create_task(told_to_stop.wait()),
        asyncio.create_task(reporter.wait_for_reader_to_go()),
    ]
    try:
        await asyncio.wait([starting, *interruptions], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled() and (error := starting.exception()) is not None:
            raise error
        return False
    finally:
        for interruption in interruptions:
            interruption.cancel()
        await asyncio.gather(*interruptions, return_exceptions=True)


async def _watch(installation: Installation, told_to_stop: asyncio.Event) -> int:
    """Wait for the order to stop, for the end of a part or of the state folder; then stop everything."""
    failing = asyncio.create_task(installation.wait_for_failure())
    losing_folder = asyncio.create_task(_wait_for_loss_of_folder(installation))
    stopping = asyncio.create_task(told_to_stop.wait())
    reasons = [failing, losing_folder, stopping]
    await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
    state, failure = installation.state, None
    if stopping.done():
        pass
    elif losing_folder.done():
        if installation.lost_state_folder():
            failure = f"{state.path} was removed while the installation ran, so everything was stopped"
    else:
        failure = f"{failing.result()}\nEverything else was stopped."
    for reason in reasons:
        reason.cancel()
    await asyncio.gather(*reasons, return_exceptions=True)
    await installation.stop()
    if failure is None:
        return 0
    state.create()
    state.write_failure(failure)
    print(failure, file=sys.stderr)
    return 1


async def _wait_for_loss_of_folder(installation: Installation) -> None:
    # Removing a whole tree gives no event that all systems have in common; one `stat` per second costs nothing.
    while await asyncio.to_thread(installation.owns_state_folder):  # noqa: ASYNC110
        await asyncio.sleep(_FOLDER_CHECK_SECONDS)


def main() -> int:
    """Run the supervisor with the arguments of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("state_folder", type=Path)
    parser.add_argument("--context")
    parser.add_argument("--no-operator", dest="operator", action="store_false")
    arguments = parser.parse_args()
    options = Options(context=arguments.context, operator=arguments.operator)
    # Children must not inherit the pipe: its end is how the starter learns of this process's end.
    descriptor = os.dup(sys.stdout.fileno())
    os.set_inheritable(descriptor, False)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return asyncio.run(run(arguments.state_folder, options, descriptor))


if __name__ == "__main__":
    sys.exit(main())
