"""Reads what a folder declares, and reads it again when its files change; secrets come from another folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from import_core.adapters.secret_files import read_credentials
from import_core.domain.declarations import DeclarationsError, Declared, Document, declare
from import_core.domain.steps import StepKind
from import_core.observability.logs import get_logger

log = get_logger(__name__)

ENDINGS = frozenset({".yaml", ".yml"})
LARGEST_FILE = 4 * 1024 * 1024
LOOK_SECONDS = 2.0
"""A change is seen after so long, when something asks."""

Snapshot = tuple[tuple[str, int, int], ...]


class _Loader(yaml.SafeLoader):
    """Reads JSON values only: a time stays text, as in an object's JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class Declarations:
    """The directory of connections for workers, and of connections and schedules for operator and gateway.

    Without `secrets` nobody is asked for a Secret: only workers need them. `unavailable` are the steps that no schedule
    may ask for.
    """

    def __init__(
        self, folder: str, secrets: str = "", *, namespace: str, unavailable: Collection[StepKind] = ()
    ) -> None:
        self.namespace = namespace
        self._unavailable = frozenset(unavailable)
        self._folder = Path(folder)
        self._secrets = Path(secrets) if secrets else None
        self._declared = Declared()
        self._snapshot: Snapshot = ()
        self._looked_at = float("-inf")
        self._lock = asyncio.Lock()

    @property
    def declared(self) -> Declared:
        """What was valid last."""
        return self._declared

    def load(self) -> Declared:
        """Read everything; with `secrets`, every connection's credentials must be there, too.

        Raises DeclarationsError, which names file and field of each problem.
        """
        snapshot = self._look()
        declared = self._declare(snapshot)
        problems = [] if self._secrets is None else list(self._missing_secrets(declared, self._secrets))
        if problems:
            raise DeclarationsError(problems)
        self._declared, self._snapshot, self._looked_at = declared, snapshot, time.monotonic()
        return declared

    async def refresh(self) -> Declared:
        """What is valid now: files that have changed are read again, and what is wrong with them is logged once."""
        async with self._lock:
            if time.monotonic() - self._looked_at >= LOOK_SECONDS:
                await asyncio.to_thread(self._reload_changed)
                self._looked_at = time.monotonic()
        return self._declared

    async def get_provider(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The ImportProvider, or None."""
        if namespace != self.namespace:
            return None
        return (await self.refresh()).providers.get(name)

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The secret's values, as they are now; or None."""
        if namespace != self.namespace or self._secrets is None:
            return None
        return await asyncio.to_thread(read_credentials, self._secrets, name)

    def _reload_changed(self) -> None:
        try:
            snapshot = self._look()
            if snapshot == self._snapshot:
                return
            # Not again before the next change, be it valid or not.
            self._snapshot = snapshot
            self._declared = self._declare(snapshot)
        except DeclarationsError as error:
            log.warning("declarations.invalid", problems=list(error.problems), kept="what was valid before")
        else:
            log.info(
                "declarations.read",
                providers=len(self._declared.providers),
                schedules=len(self._declared.schedules),
            )

    def _declare(self, snapshot: Snapshot) -> Declared:
        return declare(self._documents(snapshot), namespace=self.namespace, unavailable=self._unavailable)

    def _look(self) -> Snapshot:
        try:
            paths = [path for path in self._folder.iterdir() if _is_read(path)]
            states = [(path.name, path.stat()) for path in sorted(paths)]
        except OSError as error:
            raise DeclarationsError([f"{self._folder}: can't be read ({type(error).__name__})"]) from error
        return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)

    def _documents(self, snapshot: Snapshot) -> Iterator[Document]:
        for name, _, size in snapshot:
            if size > LARGEST_FILE:
                raise DeclarationsError([f"{name}: is larger than {LARGEST_FILE} bytes"])
            try:
                text = (self._folder / name).read_text(encoding="utf-8")
                bodies = [*yaml.load_all(text, _Loader)]
            except (OSError, UnicodeDecodeError) as error:
                raise DeclarationsError([f"{name}: can't be read ({type(error).__name__})"]) from error
            except yaml.YAMLError as error:
                # Not the parser's text: it quotes what it could not read.
                mark = getattr(error, "problem_mark", None)
                where = f"line {mark.line + 1}: " if mark is not None else ""
                raise DeclarationsError([f"{name}: {where}is not YAML"]) from error
            yield from (Document(name, body) for body in bodies if body is not None)

    @staticmethod
    def _missing_secrets(declared: Declared, secrets: Path) -> Iterator[str]:
        for name, body in declared.providers.items():
            secret = body["spec"]["credentialsSecretRef"]["name"]
            if read_credentials(secrets, secret) is None:
                yield (
                    f"{declared.files[name]}: spec.credentialsSecretRef.name: there is no file {secret}.KEY in"
                    " CREDENTIALS_PATH that can be read"
                )


def _is_read(path: Path) -> bool:
    return path.suffix in ENDINGS and not path.name.startswith(".") and path.is_file()
