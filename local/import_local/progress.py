"""How long work (builds, starts, waits) tells a person what it is doing."""

from typing import Protocol


class Progress(Protocol):
    """Called whenever a part has news; never raises, never blocks."""

    def __call__(self, part: str, message: str, /) -> None:
        """Show that `part` is now at `message`."""


def silent(part: str, message: str) -> None:
    """Progress that nobody watches."""
