"""Named points at which a process kills itself, for tests of crash recovery; inert unless it was started so.

A point stands right after a step that another process can see (a commit, an add, a patch, an
acknowledgement) and before the next one: the moments at which a death could lose a job or do it twice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from import_core.domain.errors import InvalidInputError

NAME_VARIABLE = "IMPORT_FAIL_POINT"
MARKER_VARIABLE = "IMPORT_FAIL_POINT_MARKER"

OPERATOR_POINTS: Mapping[str, str] = {
    "record.committed": "jobs are rows, and nobody was told",
    "dispatch.committed": "rows are handed over, and Redis does not know",
    "dispatch.added": "Redis knows of a hand-over, and the dispatcher did not note it",
    "status.patched": "an object's status is written, and the answer was not taken in",
    "claims.ended": "the claims of a worker that is gone have ended, and nobody was told",
    "job.cancelled": "jobs are cancelled, and nobody was told",
}
WORKER_POINTS: Mapping[str, str] = {
    "job.claimed": "a job is claimed, and no work was done",
    "page.images-stored": "a page's images are in the object store, and no row names them",
    "page.committed": "a page and its checkpoint are committed, and the next one has not begun",
    "job.finished": "a job is finished, and its message is not acknowledged",
    "message.acknowledged": "a message is acknowledged",
    "job.released": "a job was given back, and its message is not acknowledged",
}
STEP_POINTS: Mapping[str, str] = {
    "step.taken": "a batch went through its step, and nothing of it is committed",
    "step.ended": "a batch's end is committed, and its message is not acknowledged",
}
"""Of workers that take steps after the import, beside the others."""

_armed: str | None = None
_marker = Path()


def arm_fail_point(points: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Read which of this process's `points` is armed; without the variable none is.

    The marker file is what makes it happen once: while it exists the point does nothing, also in a process
    that was started anew. Raises InvalidInputError naming the variable.
    """
    global _armed, _marker  # noqa: PLW0603 - a point must cost one comparison
    name = environment.get(NAME_VARIABLE, "")
    if not name:
        _armed = None
        return
    if name not in points:
        raise InvalidInputError(NAME_VARIABLE, f"{name!r} is none of this process's: {', '.join(points)}")
    if not environment.get(MARKER_VARIABLE):
        raise InvalidInputError(MARKER_VARIABLE, f"must name a file when {NAME_VARIABLE} is set")
    _armed, _marker = name, Path(environment[MARKER_VARIABLE])


def fail_point(name: str) -> None:
    """Kill this process, as the kernel would, if it was started to die here and nobody has yet."""
    if name == _armed:
        _die_once()


def _die_once() -> None:
    try:
        _marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
