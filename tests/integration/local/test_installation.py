"""The installation as a library: in this process, and in a cluster that somebody else runs."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from import_local.control import delete_data
from import_local.errors import AlreadyRunningError, LocalError, PartError
from import_local.installation import Installation
from import_local.kubectl import run_kubectl
from import_local.part_set import Options
from import_local.parts.control_plane import ControlPlane
from import_local.state import Run, StateFolder

# The operator is not what is tested here, and takes its time to start.
_BARE = Options(durable=False, operator=False)


@pytest_asyncio.fixture(loop_scope="session")
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    yield tmp_path / "state"
    await asyncio.to_thread(delete_data, StateFolder(tmp_path / "state"))


async def test_a_child_that_ends_is_reported_at_once_and_the_rest_can_be_stopped(folder: Path) -> None:
    async with Installation(folder, options=_BARE) as installation:
        assert installation.children[0].name == "warden"
        with pytest.raises(
            AlreadyRunningError, match=f"is in use: .* \\(pid {os.getpid()}\\) is running since"
        ):
            await Installation(folder, options=_BARE).start()
        waiting = asyncio.create_task(installation.wait_for_failure())
        victim = next(child for child in installation.children if child.name == "valkey")
        os.kill(victim.pid, signal.SIGKILL)
        failure = await waiting
        assert isinstance(failure, PartError)
        assert failure.name == "valkey"
        assert str(failure).startswith("valkey was killed by SIGKILL")
        pids = [child.pid for child in installation.children]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert StateFolder(folder).read_run() is None
    await installation.stop()


async def test_a_part_that_cannot_start_leaves_nothing_running(folder: Path) -> None:
    options = Options(durable=False, operator=False, samples=("--no-such-option",))
    installation = Installation(folder, options=options)
    with pytest.raises(PartError, match=r"(?s)samples ended with exit code 2.*No such option"):
        await installation.start()
    assert installation.children == ()
    own = {process.pid for process in psutil.Process().children(recursive=True)}
    # process_iter(["cmdline"]) leaves out processes that end meanwhile.
    named = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or ())
    ]
    assert not [process for process in named if process.pid in own]


async def _start_until(folder: Path, part: str) -> Run:
    """Cancel a start when it says that `part` is starting; returns what ran then."""
    reached = asyncio.Event()

    def progress(name: str, message: str) -> None:
        if name == part:
            reached.set()

    starting = asyncio.create_task(Installation(folder, options=_BARE, progress=progress).start())
    reaching = asyncio.create_task(reached.wait())
    await asyncio.wait({starting, reaching}, return_when=asyncio.FIRST_COMPLETED)
    run = StateFolder(folder).read_run()
    assert run is not None
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    return run


async def test_a_cancelled_start_leaves_nothing_running_and_data_that_the_next_can_use(folder: Path) -> None:
    for _ in range(2):
        run = await _start_until(folder, "kube-controller-manager")
        assert {"warden", "postgres"} <= {record.name for record in run.children}
        assert not [record for record in run.children if record.process() is not None]
        assert StateFolder(folder).read_run() is None


async def test_an_existing_cluster_is_used_as_it_is(
    folder: Path, control_plane_server: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = control_plane_server.kubeconfig
    monkeypatch.setenv("KUBECONFIG", str(theirs))
    options = Options(durable=False, operator=False, context="import-local")
    async with Installation(folder, options=options) as installation:
        assert "kube-apiserver" not in [child.name for child in installation.children]
        assert installation.cluster() is None
        control_plane_server.ensure_own(installation.kubeconfig)
        assert await run_kubectl(theirs, "get", "node", "local", "-o", "name") == "node/local\n"
    await run_kubectl(theirs, "delete", "node", "local")
    await run_kubectl(theirs, "delete", "namespace", "imports")


async def test_an_unknown_context_is_named(
    folder: Path, control_plane: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(control_plane))
    with pytest.raises(LocalError, match="nonesuch"):
        await Installation(folder, options=Options(durable=False, context="nonesuch")).start()
