"""Changes of folders as events: one inotify instance for the whole kubelet (Linux)."""

import asyncio
import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

IN_MODIFY = 0x002
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_IGNORED = 0x8000
EVENT_HEADER = struct.Struct("iIII")


class FolderNotifier:
    """Sets an asyncio event whenever a file in a watched folder appears, is replaced or grows."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._listeners: dict[int, set[asyncio.Event]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """Stop watching."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    @contextmanager
    def watch(self, folder: Path) -> Iterator[asyncio.Event]:
        """Watch a folder; the event is set at each change (and once it is deleted), its user clears it.

        Raises OSError when the folder does not exist or the system's number of watches is exhausted.
        """
        mask = IN_MODIFY | IN_MOVED_TO | IN_CREATE
        number: int = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), mask)
        if number < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(folder))
        event = asyncio.Event()
        self._listeners.setdefault(number, set()).add(event)
        try:
            yield event
        finally:
            listeners = self._listeners.get(number, set())
            listeners.discard(event)
            if number in self._listeners and not listeners:
                del self._listeners[number]
                self._libc.inotify_rm_watch(self._descriptor, number)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            data = os.read(self._descriptor, 65536)
            while data:
                number, mask, _, length = EVENT_HEADER.unpack_from(data)
                data = data[EVENT_HEADER.size + length :]
                for event in self._listeners.get(number, ()):
                    event.set()
                if mask & IN_IGNORED:
                    self._listeners.pop(number, None)
