"""An S3 server that checks signatures: versitygw over a folder, built once from a pinned Go module."""

import asyncio
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx2

from import_local.binaries import OBJECT_STORE, ensure_binaries
from import_local.folders import ensure_folder
from import_local.parts.one_process import OneProcessPart
from import_local.ports import LOOPBACK, free_port
from import_local.processes import base_environment, start_child, wait_until_ready
from import_local.progress import Progress, silent

REGION = "us-east-1"
_HEALTH_PATH = "/healthz"


@dataclass(frozen=True)
class Bucket:
    """Everything an S3 client needs to reach one bucket."""

    endpoint_url: str
    name: str
    access_key_id: str
    secret_access_key: str
    region: str


class ObjectStoreServer(OneProcessPart):
    """One S3 server; a bucket is a folder below `folder/buckets`."""

    name = "object-store"

    def __init__(
        self,
        folder: Path,
        *,
        log_path: Path,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        port: int | None = None,
    ) -> None:
        self._folder = folder
        self._log_path = log_path
        self.access_key_id = access_key_id or secrets.token_hex(10)
        self.secret_access_key = secret_access_key or secrets.token_urlsafe(30)
        self.region = REGION
        self.port = port or 0

    @property
    def endpoint_url(self) -> str:
        """Address of the S3 API; buckets are addressed by path."""
        return f"http://{LOOPBACK}:{self.port}"

    async def start(self, progress: Progress = silent) -> None:
        """Build the server when it is not in the cache yet, start it and wait until it answers."""
        binaries = await ensure_binaries(OBJECT_STORE, progress)
        buckets = ensure_folder(self._folder / "buckets")
        self.port = free_port(self.port or None)
        options = ["--port", f"{LOOPBACK}:{self.port}", "--region", REGION, "--health", _HEALTH_PATH]
        self.child = await start_child(
            self.name,
            [
                binaries / "versitygw",
                *options,
                "--keep-alive",
                "--quiet",
                "posix",
                *self._metadata(),
                buckets,
            ],
            log_path=self._log_path,
            environment=base_environment(
                ROOT_ACCESS_KEY=self.access_key_id, ROOT_SECRET_KEY=self.secret_access_key
            ),
            folder=self._folder,
        )
        try:
            await wait_until_ready(self.child, self._answers)
        except BaseException:
            await self.stop()
            raise

    async def create_bucket(self, name: str) -> Bucket:
        """Create a bucket unless it exists; returns how to reach it."""
        await asyncio.to_thread(ensure_folder, self._folder / "buckets" / name)
        return Bucket(self.endpoint_url, name, self.access_key_id, self.secret_access_key, self.region)

    async def delete_bucket(self, name: str) -> None:
        """Delete a bucket with all its objects."""
        for below in ("buckets", "metadata"):
            await asyncio.to_thread(shutil.rmtree, self._folder / below / name, ignore_errors=True)

    def _metadata(self) -> list[str]:
        """Options that say where ETags and content types are kept: in the files' attributes if possible."""
        if _keeps_attributes(self._folder):
            return []
        return ["--sidecar", str(ensure_folder(self._folder / "metadata"))]

    async def _answers(self) -> bool:
        async with httpx2.AsyncClient(trust_env=False, timeout=2) as client:
            try:
                response = await client.get(self.endpoint_url + _HEALTH_PATH)
            except httpx2.TransportError:
                return False
        return response.status_code == 200


def _keeps_attributes(folder: Path) -> bool:
    """Whether the file system of `folder` keeps user attributes (older tmpfs does not)."""
    if not hasattr(os, "setxattr"):
        return False
    with tempfile.NamedTemporaryFile(dir=folder) as probe:
        try:
            os.setxattr(probe.name, "user.probe", b"1")
        except OSError:
            return False
        return True
