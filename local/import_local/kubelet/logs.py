"""Reads container logs as `kubectl logs` asks for them; see shim.py for the files."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from import_local.kubelet.notifier import FolderNotifier

READ_SIZE = 65536


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What part of a log is wanted, and how. `since` is an RFC 3339 time in UTC."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: str = ""
    limit: int | None = None


def parse_options(query: Mapping[str, str], now: datetime) -> LogOptions:
    """Read the query of a containerLogs request (PodLogOptions); raises ValueError naming the field."""

    def number(name: str) -> int | None:
        if name not in query:
            return None
        if not query[name].isdigit():
            raise ValueError(f"{name} must be a whole number that is not negative")
        return int(query[name])

    since = query.get("sinceTime", "")
    seconds = number("sinceSeconds")
    if since:
        since = format_moment(datetime.fromisoformat(since))
    elif seconds is not None:
        since = format_moment(now - timedelta(seconds=seconds))
    return LogOptions(
        follow=query.get("follow") == "true",
        previous=query.get("previous") == "true",
        timestamps=query.get("timestamps") == "true",
        tail=number("tailLines"),
        since=since,
        limit=number("limitBytes"),
    )


def format_moment(moment: datetime) -> str:
    """Return a time in the form of the log's own, so that they compare as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def format_line(line: bytes, options: LogOptions) -> bytes:
    """Return one stored line as it is shown, or nothing when it is too old or not a line."""
    parts = line.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 4 or (options.since and parts[0].decode() < options.since):
        return b""
    text = parts[3] + (b"" if parts[2] == b"P" else b"\n")
    return parts[0] + b" " + text if options.timestamps else text


def read_lines(paths: Iterable[Path]) -> Iterator[bytes]:
    """Yield the stored lines of the files that exist, in their order."""
    for path in paths:
        with suppress(FileNotFoundError), path.open("rb") as file:
            yield from file


def read_stored(folder: Path, options: LogOptions) -> bytes:
    """Return what an attempt has logged so far."""
    lines: Iterable[bytes] = read_lines((folder / "log.1", folder / "log"))
    if options.tail is not None:
        lines = deque(lines, maxlen=options.tail)
    return b"".join(format_line(line, options) for line in lines)


def read_last_lines(folder: Path, size: int) -> str:
    """Return the end of an attempt's log, at most `size` bytes, for its termination message."""
    text = read_stored(folder, LogOptions(tail=80))
    return text[-size:].decode(errors="replace")


async def stream_log(folder: Path, options: LogOptions, notifier: FolderNotifier) -> AsyncIterator[bytes]:
    """Yield a log in pieces; when it follows, until the container has ended."""
    remaining = options.limit
    async for piece in _stream(folder, options, notifier):
        if remaining is None:
            yield piece
            continue
        yield piece[:remaining]
        remaining -= len(piece)
        if remaining <= 0:
            return


async def _stream(folder: Path, options: LogOptions, notifier: FolderNotifier) -> AsyncIterator[bytes]:
    if not options.follow:
        yield await asyncio.to_thread(read_stored, folder, options)
        return
    with notifier.watch(folder) as changed:
        follower = LogFollower(folder)
        try:
            # Stored lines end where the follower begins: it is opened, and placed, first.
            first = await asyncio.to_thread(follower.read_first, options)
            if first:
                yield first
            while True:
                changed.clear()
                ended = follower.has_ended()
                lines = follower.read_new()
                piece = b"".join(format_line(line, options) for line in lines)
                if piece:
                    yield piece
                elif ended:
                    return
                else:
                    await changed.wait()
        finally:
            follower.close()


class LogFollower:
    """Reads a growing log across its rotations."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self._rest = b""

    def read_first(self, options: LogOptions) -> bytes:
        """Return the stored lines, and stand behind them."""
        old = list(read_lines((self._folder / "log.1",)))
        lines = deque(old, maxlen=options.tail)
        lines.extend(self.read_new())
        return b"".join(format_line(line, options) for line in lines)

    def read_new(self) -> list[bytes]:
        """Return the complete lines that came since the last call."""
        data = [self._rest]
        while True:
            if self._file is None and not self._open():
                break
            data.append(self._read_all())
            if not self._is_rotated():
                break
            data.append(self._read_all())
            self.close()
        lines = b"".join(data).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        return lines

    def has_ended(self) -> bool:
        """Tell whether the container has ended, or its folder was removed."""
        return (self._folder / "exit").exists() or not self._folder.exists()

    def close(self) -> None:
        """Close the file that is being read."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> bool:
        try:
            self._file = os.open(self._folder / "log", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        return True

    def _read_all(self) -> bytes:
        pieces = []
        while self._file is not None and (piece := os.read(self._file, READ_SIZE)):
            pieces.append(piece)
        return b"".join(pieces)

    def _is_rotated(self) -> bool:
        if self._file is None:
            return False
        try:
            return (self._folder / "log").stat().st_ino != os.fstat(self._file).st_ino
        except FileNotFoundError:
            return False
