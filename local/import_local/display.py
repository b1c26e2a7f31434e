"""Shows a person what is being started, built or stopped: one line per part, with the seconds it takes."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

_BETWEEN_PLAIN_LINES = 10.0


class ProgressDisplay:
    """Progress for a terminal (lines that change in place), or for a log (a line per news).

    In a log, a part that keeps talking (a build) gets a line every 10 s.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._parts: dict[str, tuple[float, str, float]] = {}  # part → began, message, seconds so far
        self._shown: dict[str, tuple[float, str]] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def __call__(self, part: str, message: str) -> None:
        """Show that `part` is now at `message`."""
        now = time.monotonic()
        began = self._parts[part][0] if part in self._parts else now
        self._parts[part] = (began, message, now - began)
        if self._live is not None:
            self._live.update(self._table())
        elif self._is_due(part, message, now):
            self._shown[part] = (now, message)
            self._console.print(
                f"{part}: {message} ({now - began:.1f} s)", highlight=False, markup=False, soft_wrap=True
            )

    def _is_due(self, part: str, message: str, now: float) -> bool:
        """Whether a log gets this line: the first of a kind at once, repeated ones now and then."""
        last, shown = self._shown.get(part, (float("-inf"), ""))
        return message.partition(":")[0] != shown.partition(":")[0] or now - last > _BETWEEN_PLAIN_LINES

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=24)
        table.add_column()
        table.add_column(justify="right")
        for part, (_, message, seconds) in self._parts.items():
            style = "green" if message.startswith("ready") else None
            table.add_row(part, escape(message), f"{seconds:.1f} s", style=style)
        return table
