"""What the kubelet keeps on disk of each pod and of each start of a container.

STATE/pods/UID/pod.json                     the pod's identity and address
STATE/pods/UID/volumes/NAME/                its volumes
STATE/pods/UID/containers/NAME/NUMBER/      one folder per start ("attempt"), see shim.py
"""

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from import_local.kubelet.processes import ProcessId, is_alive
from import_local.kubelet.status import Terminated

KEPT_ATTEMPTS = 2
KILLED_CODE = 137
START_ERROR_CODE = 128


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file so that it appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def make_folder(path: Path) -> Path:
    """Make a folder, and its parents, that only this user may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a container; `number` counts from 0 and equals the restart count."""

    folder: Path
    uid: str
    container: str
    number: int

    @property
    def container_id(self) -> str:
        """Return the id that the pod's status shows."""
        return f"process://{self.uid}-{self.container}-{self.number}"

    def read_process(self, name: str) -> ProcessId | None:
        """Return the recorded process, `shim` or `child`; None while there is none."""
        with suppress(FileNotFoundError):
            return ProcessId.parse((self.folder / name).read_text(encoding="utf-8"))
        return None

    def is_running(self) -> bool:
        """Tell whether the container's process or its parent is alive."""
        return any(
            process is not None and is_alive(process)
            for process in (self.read_process("shim"), self.read_process("child"))
        )

    def give_up(self) -> bool:
        """Forbid a start that has not happened yet; False when it has happened."""
        marker = self.folder / ".given-up"
        marker.write_text("0 0", encoding="utf-8")
        try:
            (self.folder / "shim").hardlink_to(marker)
        except FileExistsError:
            return self.read_process("shim") == ProcessId(0, "0")
        return True

    def set_reason(self, reason: str, message: str = "") -> None:
        """Record why the kubelet is about to kill the container; the first reason stays."""
        if not (self.folder / "reason").exists():
            write_file(self.folder / "reason", json.dumps([reason, message]).encode())

    def get_start_time(self) -> int:
        """Return when the process was started, in UNIX nanoseconds."""
        for name in ("child", "shim"):
            with suppress(FileNotFoundError):
                return (self.folder / name).stat().st_mtime_ns
        return time.time_ns()

    def has_ended(self) -> bool:
        """Tell whether the exit status has been recorded."""
        return (self.folder / "exit").exists()

    def read_end(self) -> Terminated:
        """Return how the container ended, which it must have done."""
        started = self.get_start_time()
        try:
            text = (self.folder / "exit").read_text(encoding="utf-8")
            code_text, finished_text, message = text.split(" ", 2)
            code, finished = int(code_text), int(finished_text)
        except FileNotFoundError:
            code, finished = KILLED_CODE, time.time_ns()
            message = "the process that kept the exit status was killed"
            if self.read_process("child") is None:
                code, message = START_ERROR_CODE, self._read_shim_error()
            write_file(self.folder / "exit", f"{code} {finished} {message}".encode())
        reason = "Completed" if code == 0 else "Error"
        if code == START_ERROR_CODE and message:
            reason = "StartError"
        with suppress(FileNotFoundError):
            reason_set, message_set = json.loads((self.folder / "reason").read_text(encoding="utf-8"))
            reason, message = reason_set or reason, message_set or message
        return Terminated(code, reason, message, started, finished, self.container_id)

    def _read_shim_error(self) -> str:
        with suppress(FileNotFoundError):
            text = (self.folder / "shim.err").read_text(encoding="utf-8", errors="replace").strip()
            return text[-500:] or "it could not be started"
        return "it could not be started"


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A pod that this node has taken on."""

    folder: Path
    uid: str
    namespace: str
    name: str
    address: str
    created: int

    def save(self) -> None:
        """Write the record to disk."""
        make_folder(self.folder)
        fields = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_file(self.folder / "pod.json", json.dumps(fields).encode())

    def list_attempts(self, container: str) -> list[Attempt]:
        """Return a container's attempts, the oldest first."""
        folder = self.folder / "containers" / container
        with suppress(FileNotFoundError):
            numbers = sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())
            return [Attempt(folder / str(number), self.uid, container, number) for number in numbers]
        return []

    def add_attempt(self, container: str, number: int) -> Attempt:
        """Make the folder of a new attempt, and forget those too old to be asked for."""
        for old in self.list_attempts(container):
            if old.number <= number - KEPT_ATTEMPTS:
                shutil.rmtree(old.folder)
        folder = make_folder(self.folder / "containers" / container / str(number))
        return Attempt(folder, self.uid, container, number)

    def list_all_attempts(self) -> list[Attempt]:
        """Return the attempts of all containers."""
        with suppress(FileNotFoundError):
            names = sorted(entry.name for entry in (self.folder / "containers").iterdir())
            return [attempt for name in names for attempt in self.list_attempts(name)]
        return []

    def remove(self) -> None:
        """Forget the pod; nothing of it may run any more."""
        # The identity goes last: an interrupted removal is continued by the next kubelet.
        for entry in list(self.folder.iterdir()):
            if entry.name != "pod.json":
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        shutil.rmtree(self.folder)


def read_records(state: Path) -> list[PodRecord]:
    """Return all pods recorded in a state folder; a folder without identity holds nothing and is removed."""
    records = []
    for folder in sorted(make_folder(state / "pods").iterdir()):
        try:
            fields = json.loads((folder / "pod.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            shutil.rmtree(folder)
            continue
        records.append(PodRecord(folder=folder, **fields))
    return records
