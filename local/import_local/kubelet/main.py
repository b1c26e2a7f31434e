"""The command line of the process kubelet."""

import argparse
import asyncio
import ipaddress
import logging
import signal
import sys
from pathlib import Path

import structlog

from import_local.kubelet.addresses import get_node_network
from import_local.kubelet.agent import run_kubelet
from import_local.kubelet.api import read_cluster_authority
from import_local.kubelet.backoff import BackOffSettings
from import_local.kubelet.cleanup import clean_up
from import_local.kubelet.errors import KubeletError
from import_local.kubelet.records import make_folder, write_file
from import_local.kubelet.settings import (
    DEFAULT_CAPACITY,
    ImageTable,
    ServerSettings,
    Settings,
    parse_image,
    read_images,
)

DESCRIPTION = """\
A small Kubernetes node agent: registers a Node and runs each container of the pods bound to it as a
process of this machine, without root and without containers. Images stand for commands."""

EXAMPLES = """\
examples:
  # a node whose pods may use two images
  python -m import_local.kubelet --kubeconfig admin.kubeconfig --state .local/kubelet --node-name local \\
      --image 'import-worker:*=python -m import_worker' --image 'import-operator:*=python -m import_operator'

  # restart crashed containers at once, as tests want it
  python -m import_local.kubelet --kubeconfig FILE --state DIR --node-name local --crash-backoff 0

  # end everything that a dead kubelet left running
  python -m import_local.kubelet cleanup --state .local/kubelet

Stopped by SIGTERM or SIGINT it leaves the pods running; the next one with the same --state takes them on."""


def parse_pair(text: str) -> tuple[str, str]:
    """Read "name=value"."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the kubelet's own options."""
    parser = argparse.ArgumentParser(
        prog="python -m import_local.kubelet",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--kubeconfig", type=Path, required=True, metavar="FILE", help="how to reach the API server")
    add("--state", type=Path, required=True, metavar="DIR", help="folder for pods, logs and process ids")
    add("--node-name", required=True, metavar="NAME", help="name of the Node to register")
    add("--image", action="append", default=[], metavar="PATTERN=COMMAND", help="what an image stands for")
    add("--images", type=Path, metavar="FILE", help="JSON object of patterns and commands; after --image")
    add(
        "--label",
        action="append",
        default=[],
        type=parse_pair,
        metavar="NAME=VALUE",
        help="label of the Node",
    )
    capacity = ", ".join(f"{name}={amount}" for name, amount in DEFAULT_CAPACITY.items())
    add(
        "--capacity",
        action="append",
        default=[],
        type=parse_pair,
        metavar="NAME=AMOUNT",
        help=f"what the Node offers to the scheduler (default: {capacity})",
    )
    add(
        "--crash-backoff",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="first delay; 0: none (default: 10)",
    )
    add("--crash-backoff-limit", type=float, default=300.0, metavar="SECONDS", help="longest (default: 300)")
    add("--pass-env", action="append", default=[], metavar="NAME", help="variable that containers inherit")
    add(
        "--log-bytes",
        type=int,
        default=20 * 1024**2,
        metavar="N",
        help="log kept per start (default: 20 MiB)",
    )
    add(
        "--pod-network",
        type=ipaddress.IPv4Network,
        metavar="CIDR",
        help="default: a /20 out of 127.64.0.0/10",
    )
    add("--port", type=int, default=0, help="of the HTTPS server on 127.0.0.1 (default: any free one)")
    add(
        "--client-ca",
        type=Path,
        metavar="FILE",
        help="whose client certificates it takes (default: the cluster's)",
    )
    add(
        "--client-name",
        action="append",
        default=[],
        metavar="CN",
        help="take only these certificates of the CA",
    )
    add("--tls-cert", type=Path, metavar="FILE", help="its own certificate (default: self-signed)")
    add("--tls-key", type=Path, metavar="FILE", help="the key of --tls-cert")
    add("--stop-pods", action="store_true", help="end the pods' processes when stopped")
    add(
        "--stop-grace",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="bound of their grace then (default: 10)",
    )
    return parser


def make_settings(options: argparse.Namespace) -> Settings:
    """Turn options into settings; raises KubeletError."""
    state = make_folder(options.state.resolve())
    entries = [parse_image(text) for text in options.image]
    if options.images:
        entries += read_images(options.images)
    if (options.tls_cert is None) != (options.tls_key is None):
        raise KubeletError("--tls-cert and --tls-key belong together")
    client_ca = options.client_ca
    if client_ca is None:
        client_ca = state / "client-ca.crt"
        write_file(client_ca, read_cluster_authority(options.kubeconfig))
    server = ServerSettings(
        client_ca, options.port, tuple(options.client_name), options.tls_cert, options.tls_key
    )
    return Settings(
        node_name=options.node_name,
        kubeconfig=options.kubeconfig,
        state=state,
        pod_network=options.pod_network or get_node_network(state),
        server=server,
        images=ImageTable(tuple(entries)),
        labels=dict(options.label),
        capacity=DEFAULT_CAPACITY | dict(options.capacity),
        back_off=BackOffSettings(options.crash_backoff, options.crash_backoff_limit),
        pass_environment=tuple(options.pass_env),
        log_bytes=options.log_bytes,
        stop_pods=options.stop_pods,
        stop_grace=options.stop_grace,
    )


async def serve(settings: Settings) -> None:
    """Run the kubelet until a stop signal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run_kubelet(settings, stop)


def run_cleanup(arguments: list[str]) -> None:
    """Carry out `cleanup`."""
    parser = argparse.ArgumentParser(
        prog="python -m import_local.kubelet cleanup",
        description="End every process that a dead kubelet left running.",
    )
    parser.add_argument("--state", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--grace", type=float, default=10.0, metavar="SECONDS", help="before SIGKILL (default: 10)"
    )
    options = parser.parse_args(arguments)
    count = asyncio.run(clean_up(options.state.resolve(), options.grace))
    print(f"{count} container processes ended")


def configure_logging() -> None:
    """Write one JSON object per line to the standard error stream."""
    # The server warns of each refused `kubectl exec`, whose user gets the message.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the kubelet or its cleanup; return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    configure_logging()
    try:
        if words[:1] == ["cleanup"]:
            run_cleanup(words[1:])
        else:
            asyncio.run(serve(make_settings(make_parser().parse_args(words))))
    except (KubeletError, OSError) as problem:
        print(f"kubelet: {problem}", file=sys.stderr)
        return 1
    return 0
