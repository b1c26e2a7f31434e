"""Errors of the local installation; each message says what happened and what to do next."""

from pathlib import Path


class LocalError(Exception):
    """Base class: something on this machine keeps the local installation from working."""


class PartError(LocalError):
    """A part (a database, a Kubernetes process, …) did not start or ended by itself."""

    def __init__(self, name: str, what: str, log_path: Path | None = None, tail: str = "") -> None:
        self.name = name
        self.log_path = log_path
        message = f"{name} {what}"
        if log_path is not None:
            message += f"; its log is {log_path}"
        if tail:
            message += f", which ends with:\n{tail}"
        super().__init__(message)


class BuildError(LocalError):
    """Binaries could not be built from their pinned Go module."""


class FolderError(LocalError):
    """A folder that is needed is missing, not writable, not private or on a full disk."""


class AlreadyRunningError(LocalError):
    """Another process holds this state folder."""


class ForeignClusterError(LocalError):
    """A kubeconfig does not lead to the cluster that was started here."""
