"""Keeps a state folder to one kubelet."""

import fcntl
import os
from pathlib import Path
from typing import Self

from import_local.kubelet.errors import KubeletError
from import_local.kubelet.records import make_folder


class StateLock:
    """Keeps a second kubelet from using the same state folder."""

    def __init__(self, state: Path) -> None:
        self._path = make_folder(state) / "lock"
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise KubeletError(f"another kubelet is using the state folder {self._path.parent}") from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
