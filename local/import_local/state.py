"""What a local installation keeps on disk: its choices (ports, passwords), what runs now, and why it ended.

The state folder is private (0700) and holds:

- `lock`: held by the process that runs the installation, as long as it lives
- `choices.json`: ports and secrets, kept over restarts so that addresses stay the same
- `run.json`: the running processes; `failure.txt`: why the last run ended by itself
- `env`: addresses and secrets as shell `export` lines; `logs/`: one file per process
- one folder per part with its data
"""

import json
import os
import secrets
import shutil
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from import_local.credentials import write_private
from import_local.errors import FolderError
from import_local.folders import ensure_folder, runs_as_root
from import_local.parts.control_plane import ControlPlanePorts

Phase = Literal["starting", "running", "stopping"]
# PostgreSQL runs as `nobody` under root, and `nobody` can't reach into a private state folder.
_POSTGRES_OF_ROOT = Path("/var/lib/import-operator")


_OWNER_NOTE = "state-folder"


def remove_orphaned_postgres() -> None:
    """Under root: remove PostgreSQL's data of installations whose state folder is gone."""
    if not runs_as_root() or not _POSTGRES_OF_ROOT.is_dir():
        return
    # A folder with a dot is being made by another start right now.
    for note in _POSTGRES_OF_ROOT.glob(f"[!.]*/{_OWNER_NOTE}"):
        try:
            choices = StateFolder(Path(note.read_text())).read_choices()
        except (
            FileNotFoundError,
            FolderError,
        ):  # just removed by another start, or damaged: a person decides
            continue
        if choices is None or choices.installation != note.parent.name:
            shutil.rmtree(note.parent, ignore_errors=True)


def default_state_folder() -> Path:
    """Return `$IMPORT_LOCAL_STATE`, else `.local` in the project."""
    chosen = os.environ.get("IMPORT_LOCAL_STATE")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[2] / ".local"


@dataclass
class Choices:
    """What was chosen once for this state folder. Ports are 0 until the first start."""

    installation: str = field(default_factory=lambda: uuid.uuid4().hex)
    postgres_port: int = 0
    valkey_port: int = 0
    object_store_port: int = 0
    samples_port: int = 0
    gateway_port: int = 0
    admission_port: int = 0
    link_ports: dict[str, int] = field(default_factory=dict)
    control_plane: ControlPlanePorts = field(default_factory=ControlPlanePorts)
    postgres_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    valkey_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    access_key_id: str = field(default_factory=lambda: secrets.token_hex(10))
    secret_access_key: str = field(default_factory=lambda: secrets.token_urlsafe(30))


@dataclass(frozen=True)
class ProcessRecord:
    """A process that can be told apart from a later one with the same id by its start time."""

    name: str
    pid: int
    started_at: float
    log: str = ""

    @classmethod
    def own(cls, name: str) -> "ProcessRecord":
        """Return the record of the calling process."""
        return cls(name, os.getpid(), psutil.Process().create_time())

    def process(self) -> psutil.Process | None:
        """Return the live process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_at) > 1 or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process


@dataclass(frozen=True)
class Run:
    """What runs in a state folder. `since` is in seconds since the epoch."""

    holder: ProcessRecord
    phase: Phase
    since: float
    children: tuple[ProcessRecord, ...] = ()


class StateFolder:
    """One state folder; all paths below it and the files this module names."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @property
    def lock(self) -> Path:
        """File that the running installation locks."""
        return self.path / "lock"

    @property
    def env(self) -> Path:
        """File to source in a shell."""
        return self.path / "env"

    @property
    def logs(self) -> Path:
        """Folder with one log file per process."""
        return self.path / "logs"

    @property
    def kubelet(self) -> Path:
        """Folder of the process kubelet; it marks each process of a pod with this path."""
        return self.path / "kubelet"

    def postgres(self, choices: Choices) -> Path:
        """Folder of PostgreSQL's data; outside the state folder as root."""
        if runs_as_root():
            return _POSTGRES_OF_ROOT / choices.installation / "postgres"
        return self.path / "postgres"

    def claim_postgres(self, choices: Choices) -> Path:
        """Return the folder of PostgreSQL's data; under root it is created with a note of whose it is."""
        folder = self.postgres(choices)
        owned = folder.parent
        if runs_as_root() and not owned.exists():
            ensure_folder(_POSTGRES_OF_ROOT, mode=0o711)
            draft = ensure_folder(_POSTGRES_OF_ROOT / f".{owned.name}", mode=0o711)
            (draft / _OWNER_NOTE).write_text(str(self.path))
            draft.replace(owned)
        return folder

    def create(self) -> None:
        """Create the folder and its subfolders; FolderError says why that is impossible."""
        ensure_folder(self.path)
        ensure_folder(self.logs)

    def read_choices(self) -> Choices | None:
        """Return the choices of an earlier start, or None before the first."""
        content = _read_json(self.path / "choices.json")
        if content is None:
            return None
        try:
            return Choices(**{**content, "control_plane": ControlPlanePorts(**content["control_plane"])})
        except (KeyError, TypeError) as error:
            raise FolderError(
                f"{self.path / 'choices.json'} was written by another version: stop that installation "
                f"and remove {self.path}"
            ) from error

    def write_choices(self, choices: Choices) -> None:
        """Keep the choices for the next start."""
        write_private(self.path / "choices.json", json.dumps(asdict(choices), indent=1))

    def read_run(self) -> Run | None:
        """Return what ran last here; whether it still does, only the lock and the processes say."""
        content = _read_json(self.path / "run.json")
        if content is None:
            return None
        children = tuple(ProcessRecord(**child) for child in content.pop("children"))
        return Run(holder=ProcessRecord(**content.pop("holder")), children=children, **content)

    def write_run(self, run: Run) -> None:
        """Record what runs now."""
        write_private(self.path / "run.json", json.dumps(asdict(run), indent=1))

    def remove_run(self) -> None:
        """Record that nothing runs any more, and that the addresses in `env` lead nowhere."""
        for name in ("run.json", "env"):
            (self.path / name).unlink(missing_ok=True)

    def read_failure(self) -> str | None:
        """Return why the last run ended by itself, or None if it was stopped or still runs."""
        try:
            return (self.path / "failure.txt").read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write_failure(self, message: str) -> None:
        """Leave the reason of an end that nobody asked for, for the next person who looks."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        write_private(self.path / "failure.txt", f"{stamp} {message}\n")

    def clear_failure(self) -> None:
        """Forget an earlier failure, as a new start does."""
        (self.path / "failure.txt").unlink(missing_ok=True)

    def write_env(self, variables: dict[str, str], *, programs: str) -> None:
        """Write the file to source, readable by its owner only; puts the folder `programs` on the PATH."""
        lines = [f"export {name}={_quote(value)}\n" for name, value in variables.items()]
        lines.append(f'export PATH={_quote(programs)}:"$PATH"\n')
        write_private(self.env, "".join(lines))


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read: {error}; remove it and start again") from error
    if not isinstance(content, dict):
        raise FolderError(f"{path} is damaged: remove it and start again")
    return content


def _quote(value: str) -> str:
    """Quote for a POSIX shell, always, so that the file reads evenly."""
    return "'" + value.replace("'", "'\\''") + "'"
