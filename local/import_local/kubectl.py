"""kubectl as a child process, always with an explicit kubeconfig: never against the caller's own cluster."""

import asyncio
import os
from pathlib import Path

from import_local.binaries import find_kubectl
from import_local.errors import LocalError
from import_local.processes import base_environment


class KubectlError(LocalError):
    """kubectl said no; the message is what it wrote."""


async def run_kubectl(
    kubeconfig: Path, *arguments: str | Path, stdin: bytes | None = None, timeout: float = 60.0
) -> str:
    """Run kubectl and return its standard output; raises KubectlError with what it says on failure.

    `timeout` in seconds; a kubectl that takes longer is killed, as when the caller is cancelled.
    """
    words = [str(argument) for argument in arguments]
    process = await asyncio.create_subprocess_exec(
        find_kubectl(),
        f"--kubeconfig={kubeconfig}",
        *words,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=base_environment(KUBECACHEDIR=str(kubeconfig.parent / "kubectl-cache")),
    )
    try:
        output, problem = await asyncio.wait_for(process.communicate(stdin), timeout)
    except TimeoutError:
        raise KubectlError(f"`kubectl {' '.join(words)}` took longer than {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise KubectlError(f"`kubectl {' '.join(words)}` failed: {problem.decode(errors='replace').strip()}")
    return output.decode()


async def apply_definitions(kubeconfig: Path, folder: Path) -> list[str]:
    """Apply the custom resource definitions in a folder and wait until they are served; returns their names."""
    files = sorted(await asyncio.to_thread(lambda: list(folder.glob("*.yaml"))))
    if not files:
        return []
    options = [f"--filename={file}" for file in files]
    applied = await run_kubectl(
        kubeconfig, "apply", "--server-side", "--force-conflicts", *options, "-o", "name"
    )
    names = applied.split()
    await run_kubectl(kubeconfig, "wait", "--for=condition=Established", "--timeout=30s", *names)
    return names


async def read_context(context: str) -> str:
    """Return a kubeconfig with nothing but this context of the caller's own configuration."""
    caller = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    options = ("--minify", "--flatten", "--raw", f"--context={context}")
    return await run_kubectl(Path(caller.split(os.pathsep)[0]), "config", "view", *options)
