"""The kubelet's HTTPS server on 127.0.0.1: container logs for the API server, and health."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from import_local.kubelet.logs import parse_options, stream_log
from import_local.kubelet.notifier import FolderNotifier
from import_local.kubelet.pod_context import HOST_ADDRESS
from import_local.kubelet.records import PodRecord, write_file
from import_local.kubelet.settings import ServerSettings

FindPod = Callable[[str, str], PodRecord | None]


def make_application(find_pod: FindPod, notifier: FolderNotifier) -> Starlette:
    """Return the application; `find_pod` finds a pod's record by namespace and name."""

    async def serve_health(_request: Request) -> Response:
        return PlainTextResponse("ok")

    async def serve_log(request: Request) -> Response:
        namespace, name, container = (request.path_params[key] for key in ("namespace", "pod", "container"))
        try:
            options = parse_options(request.query_params, datetime.now(UTC))
        except ValueError as problem:
            return PlainTextResponse(str(problem), 400)
        record = find_pod(namespace, name)
        if record is None:
            return PlainTextResponse(f'pod "{namespace}/{name}" not found on this node', 404)
        attempts = record.list_attempts(container)
        if options.previous:
            attempts = attempts[:-1]
        if not attempts:
            which = "previous terminated" if options.previous else "started"
            return PlainTextResponse(f'{which} container "{container}" in pod "{name}" not found', 400)
        stream = stream_log(attempts[-1].folder, options, notifier)
        return StreamingResponse(stream, media_type="text/plain")

    async def refuse(_request: Request) -> Response:
        return PlainTextResponse(
            "the process kubelet does not support exec, attach and port-forward: "
            "a pod is a process of this machine, which you can inspect directly",
            501,
        )

    refused = [
        Route(f"/{verb}/{{rest:path}}", refuse, methods=["GET", "POST"])
        for verb in ("exec", "attach", "portForward", "run")
    ]
    log_path = "/containerLogs/{namespace}/{pod}/{container}"
    return Starlette(routes=[Route("/healthz", serve_health), Route(log_path, serve_log), *refused])


class QuietServer(uvicorn.Server):
    """A server that leaves the process's signals to the kubelet."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing with signals."""
        yield


def bind(state: Path, port: int) -> socket.socket:
    """Return a listening socket; port 0 means the one of the last run if it is free, else any."""
    remembered = state / "port"
    candidates = [port]
    if port == 0:
        with suppress(FileNotFoundError, ValueError):
            candidates.insert(0, int(remembered.read_text(encoding="utf-8")))
    listener = None
    for candidate in candidates:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST_ADDRESS, candidate))
            break
        except OSError:
            listener.close()
            if candidate == candidates[-1]:
                raise
    assert listener is not None  # noqa: S101 - there is always a candidate
    # From here on callers wait for the server instead of being refused.
    listener.listen()
    write_file(remembered, str(listener.getsockname()[1]).encode())
    return listener


def make_server(
    application: Starlette, settings: ServerSettings, certificate: Path, key: Path
) -> uvicorn.Server:
    """Return a server that demands a client certificate of the given authority."""
    configuration = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        ssl_ca_certs=str(settings.client_ca),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
        http=make_protocol(settings.client_names),
        timeout_graceful_shutdown=1,
    )
    return QuietServer(configuration)


def make_protocol(client_names: tuple[str, ...]) -> type[Any]:
    """Return an HTTP protocol that drops connections whose certificate has none of the common names."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class NamedClientProtocol(H11Protocol):
        """HTTP for named clients only."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            subject = (transport.get_extra_info("peercert") or {}).get("subject", ())
            names = {value for part in subject for key, value in part if key == "commonName"}
            if client_names and not names & set(client_names):
                transport.abort()

    return NamedClientProtocol
