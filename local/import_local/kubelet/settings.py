"""What an operator of the process kubelet can set."""

import fnmatch
import ipaddress
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from import_local.kubelet.backoff import BackOffSettings
from import_local.kubelet.errors import KubeletError

DEFAULT_CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "200", "ephemeral-storage": "100Gi"}


@dataclass(frozen=True, slots=True)
class ImageTable:
    """Which command an image stands for; the first pattern that matches counts."""

    entries: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def find(self, image: str) -> tuple[str, ...] | None:
        """Return the command of an image, or None when no pattern matches it."""
        for pattern, command in self.entries:
            if fnmatch.fnmatchcase(image, pattern):
                return command
        return None


def parse_image(text: str) -> tuple[str, tuple[str, ...]]:
    """Read "pattern=command with arguments"; raises KubeletError."""
    pattern, equals, command = text.partition("=")
    words = tuple(shlex.split(command))
    if not equals or not pattern or not words:
        raise KubeletError(f"--image {text!r} is not of the form PATTERN=COMMAND")
    return pattern, words


def read_images(path: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read a JSON object of patterns and commands (text, or a list of words); raises KubeletError."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise KubeletError(f"cannot read the image table {path}: {problem}") from problem
    if not isinstance(table, dict):
        raise KubeletError(f"the image table {path} must be a JSON object of patterns and commands")
    entries = []
    for pattern, command in table.items():
        words = shlex.split(command) if isinstance(command, str) else command
        if not words or not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise KubeletError(f"the command of {pattern!r} in {path} must be text or a list of words")
        entries.append((pattern, tuple(words)))
    return tuple(entries)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The kubelet's own HTTPS server: whom it trusts, and how it shows itself.

    Port 0 is any free one; without a certificate of its own it makes one.
    """

    client_ca: Path
    port: int = 0
    client_names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one node. Times are seconds, sizes bytes."""

    node_name: str
    kubeconfig: Path
    state: Path
    pod_network: ipaddress.IPv4Network
    server: ServerSettings
    images: ImageTable = ImageTable()
    labels: dict[str, str] = field(default_factory=dict)
    capacity: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_CAPACITY))
    back_off: BackOffSettings = field(default_factory=BackOffSettings)
    pass_environment: tuple[str, ...] = ()
    log_bytes: int = 20 * 1024 * 1024
    lease_seconds: int = 40
    memory_check_interval: float = 1.0
    stop_pods: bool = False
    stop_grace: float = 10.0
