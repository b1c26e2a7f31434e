"""What the parts with a single process share: which process runs, and how it is stopped."""

from import_local.processes import Child


class OneProcessPart:
    """A part whose server is one child process; `start` is each part's own."""

    child: Child | None = None

    def processes(self) -> list[Child]:
        """Return the processes that run now."""
        return [self.child] if self.child is not None else []

    async def kill(self) -> None:
        """End the server and all that it started at once; nothing happens when it does not run."""
        if self.child is not None:
            await self.child.kill()
            self.child = None

    async def stop(self) -> None:
        """Stop the server in its own way; nothing happens when it does not run."""
        if self.child is not None:
            await self.child.stop()
            self.child = None
