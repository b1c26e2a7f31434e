"""Peers: programs that users would pick instead, each in an environment of its own outside the work tree.

A peer is `PEER.in` (what is meant), `PEER.txt` (pinned with hashes, by `make lock`) and runner scripts `PEER_….py`,
which run under the peer's own Python, import nothing of this project, and print one JSON object of figures as
their last line. A benchmark of `python -m bench --peers` runs them in turns with our own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import shutil
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from import_local.folders import cache_folder, ensure_folder

HERE = Path(__file__).parent
INSTALL_SECONDS = 900
RUN_SECONDS = 3600


def environment_folder(peer: str) -> Path:
    """Where a peer's environment is: another one for other pins or another Python."""
    pins = (HERE / f"{peer}.txt").read_bytes()
    name = hashlib.sha256(pins + f"{sys.version} {platform.machine()}".encode()).hexdigest()[:12]
    return cache_folder() / f"peer-{peer}-{name}"


async def install(peer: str) -> Path:
    """The Python of a peer's environment, which is made where it is missing; RuntimeError where it can't be."""
    folder = environment_folder(peer)
    python, done = folder / "bin" / "python", folder / ".installed"
    if done.exists():
        return python
    print(f"Installing {peer} into {folder} …", flush=True)
    ensure_folder(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)
    await asyncio.to_thread(venv.create, folder, with_pip=True)
    pins = HERE / f"{peer}.txt"
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    await _run(python, *pip, "--no-deps", "--require-hashes", "-r", pins, seconds=INSTALL_SECONDS)
    done.touch()
    return python


async def run_peer(
    peer: str, script: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run `script` of this folder under the peer's Python; what it printed as its last line, read as JSON."""
    python = await install(peer)
    output = await _run(python, HERE / script, *arguments, seconds=RUN_SECONDS, environment=environment or {})
    figures: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return figures


async def _run(
    program: Path, *arguments: str | Path, seconds: float, environment: Mapping[str, str] | None = None
) -> str:
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "", **(environment or {})},
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(
            f"{program.name} {arguments[0]} failed:\n{errors.decode(errors='replace')[-4000:]}"
        )
    return output.decode()
