"""Structured logs keep secrets out."""

import json
import subprocess
import sys

import pytest

from import_core.observability.logs import redact, redact_text

PLANTED = ("shpat_0123456789abcdef", "rty_live_abcdef0123456789", "hunter2-password")


@pytest.mark.parametrize(
    "text",
    [
        f"GET failed: {PLANTED[0]}",
        f"key {PLANTED[1]} refused",
        f"cannot reach postgresql://imports:{PLANTED[2]}@10.0.0.1:5432/imports",
        f"Authorization: Bearer {PLANTED[0]}",
    ],
)
def test_secrets_in_text_are_masked(text: str) -> None:
    masked = redact_text(text)
    assert "[redacted]" in masked
    assert not any(secret in masked for secret in PLANTED)


def test_values_under_telling_keys_are_masked() -> None:
    event = redact(None, "", {"event": "x", "accessToken": PLANTED[0], "client_secret": "s", "jobId": "j"})
    assert event == {"event": "x", "accessToken": "[redacted]", "client_secret": "[redacted]", "jobId": "j"}


def test_a_line_is_one_json_object_with_level_time_and_stack_trace_and_no_secret() -> None:
    program = f"""
import logging
from import_core.observability.logs import configure_logs, get_logger
configure_logs(process="test")
log = get_logger("t")
log.info("job.completed", jobId="j1", duration=12)
try:
    raise RuntimeError("bad url redis://:{PLANTED[2]}@host/0")
except RuntimeError:
    log.exception("job.failed")
logging.getLogger("library").warning("token {PLANTED[0]}")
logging.getLogger("pyvips").info("VIPS: thumbnailing 47327 bytes of data")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines[:2]] == ["job.completed", "job.failed"]
    assert lines[0]["level"] == "info"
    assert lines[0]["jobId"] == "j1"
    assert lines[0]["timestamp"].endswith("Z")
    assert "RuntimeError" in lines[1]["exception"]
    assert not any(secret in done.stdout for secret in PLANTED)
    assert "VIPS" not in done.stdout, "each image would be some twenty lines"
