"""The folders of a local installation: cache for built binaries, state for one installation."""

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from import_local.errors import FolderError

# What databases, logs and images of a short tour need; with less, PostgreSQL dies in the middle.
_NEEDED_BYTES = 300 * 1024 * 1024


def cache_folder() -> Path:
    """Folder for built binaries, shared by all installations of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "import-operator"


def readable_cache_folder() -> Path:
    """Cache folder that the user `nobody` can read too; only used as root."""
    return Path("/var/cache/import-operator")


def ensure_folder(path: Path, *, mode: int = 0o700) -> Path:
    """Create a folder with this mode and check that it can be written; FolderError says why not."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
        path.chmod(mode)
        probe = path / f".write-probe-{os.getpid()}"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise FolderError(f"the disk that holds {path} is full: free some space and try again") from error
        raise FolderError(f"the folder {path} cannot be used: {error.strerror or error}") from error
    return path


def ensure_space(path: Path, *, needed_bytes: int = _NEEDED_BYTES) -> None:
    """Raise FolderError when the disk that holds `path` has less than `needed_bytes` left."""
    free = shutil.disk_usage(path).free
    if free < needed_bytes:
        raise FolderError(
            f"the disk that holds {path} is full: {free // 2**20} MiB left, "
            f"{needed_bytes // 2**20} MiB are needed; free some space and try again"
        )


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on the file `path` if nobody else does; yields whether it is held.

    The system gives it back when the process ends, however it ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def runs_as_root() -> bool:
    """Whether this process may and must give up rights for servers that refuse root."""
    return sys.platform != "win32" and os.geteuid() == 0
