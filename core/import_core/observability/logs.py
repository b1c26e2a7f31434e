"""Structured logs: one JSON object a line, with secrets kept out."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^/\s:@]*):[^@/\s]+@", re.IGNORECASE)
_SECRET_KEYS = re.compile(r"(token|secret|password|authorization|api_?key|credential)", re.IGNORECASE)
_TOKENS = re.compile(r"\b(shp(?:at|ca|pa|ss)_|rty_(?:live|test)_|Bearer\s+)[A-Za-z0-9._~+/=-]+")


def configure_logs(*, level: str = "INFO", process: str) -> None:
    """Send the logs of this process, libraries included, to standard output as JSON lines."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
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
    # These log every request at INFO, with URLs that may carry tokens.
    for noisy in ("httpx2", "httpcore2", "httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(process=process)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask values under telling keys, passwords in URLs and token shapes; bounds every string."""
    for key, value in event.items():
        if _SECRET_KEYS.search(key):
            event[key] = "[redacted]"
        elif isinstance(value, str):
            event[key] = redact_text(value)
    return event


def redact_text(text: str, *, limit: int = 16_000) -> str:
    """Mask passwords in URLs and tokens of known shapes, and cut at `limit` characters."""
    masked = _URL_PASSWORD.sub(r"\g<head>:[redacted]@", text[:limit])
    return _TOKENS.sub(r"\1[redacted]", masked)


def get_logger(name: str) -> Any:
    """A logger whose calls read `log.info("job.completed", jobId=…, duration=…)`."""
    return structlog.stdlib.get_logger(name)
