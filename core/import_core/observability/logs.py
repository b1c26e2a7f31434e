"""Structured logs: one JSON object a line, with secrets kept out and every job's lines tied together."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, MutableMapping
from types import TracebackType
from typing import Any

import structlog

from import_core.observability.redaction import hide_environment, redact, redact_text

Correlate = Callable[[str], str | None]
_correlations: list[Correlate] = []


def configure_logs(*, level: str = "INFO", process: str) -> None:
    """Send the logs of this process, libraries and its last words included, to standard output as JSON lines."""
    hide_environment()
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        correlate,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These log every request at INFO, with URLs that may carry tokens, and pyvips some twenty lines for each image.
    for noisy in ("httpx2", "httpcore2", "httpx", "httpcore", "uvicorn.access", "pyvips"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _log_crash
    threading.excepthook = _log_thread_crash
    structlog.contextvars.bind_contextvars(process=process)


def correlate_by(lookup: Correlate) -> None:
    """Have lines that name a job and no correlation id bear the one that `lookup` knows of it."""
    _correlations[:] = [lookup]


def correlate(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: a job without a correlation id of its own is found by its id."""
    job_id = event.get("jobId")
    if isinstance(job_id, str) and "correlationId" not in event:
        asked = _correlations[0](job_id) if _correlations else None
        event["correlationId"] = asked or job_id
    return event


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends the process is a line like all others, and not a text with whatever the error says."""
    if issubclass(kind, KeyboardInterrupt):
        return
    get_logger(__name__).critical("process.crashed", error=kind.__name__, exc_info=(kind, error, trace))


def _log_thread_crash(details: threading.ExceptHookArgs) -> None:
    thread = details.thread.name if details.thread else None
    error = details.exc_value or details.exc_type()
    get_logger(__name__).error(
        "thread.crashed", thread=thread, error=details.exc_type.__name__, exc_info=error
    )


def get_logger(name: str) -> Any:
    """A logger whose calls read `log.info("job.completed", jobId=…, duration=…)`."""
    return structlog.stdlib.get_logger(name)


__all__ = ["configure_logs", "correlate", "correlate_by", "get_logger", "redact", "redact_text"]
