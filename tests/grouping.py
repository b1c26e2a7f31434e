"""Which tests run in one process where several run side by side."""

from __future__ import annotations

from pathlib import Path

from xdist.scheduler import LoadScopeScheduling


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Keeps tests that share a session's servers in one process; others run side by side.

    Marks of `--dist loadgroup` do nothing from pytest 9.2 on: xdist 3.8 writes the group into a name that is read no
    more, and each process then starts every server, whole installations included.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """The group of a test by its id: one folder below `tests/integration`, all end-to-end tests, else its file.

    The folders of operator and worker take longest, and every process has what they need by then: their files are
    spread.
    """
    parts = Path(nodeid.partition("::")[0]).parts[1:]
    if parts[0] == "integration" and parts[1] not in {"operator", "worker"}:
        return "/".join(parts[:2])
    return "/".join(parts) if parts[0] in {"integration", "unit"} else parts[0]
