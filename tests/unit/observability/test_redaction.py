"""A secret planted anywhere in what is logged does not come out."""

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.observability.logs import redact, redact_text
from import_core.observability.redaction import LONGEST_TEXT, MASK, hide_values

SHOPIFY = "shpat_0123456789abcdef0123456789abcdef"
WORD = "correct-horse-battery"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJpbXBvcnRzIn0.c2lnbmF0dXJlLW9mLXRoaXM"


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://api.example/v1/products?api_key={WORD}&page=2 failed",
        f"GET https://api.example/v1/products?page=2&access_token={WORD}",
        f"https://bucket.s3.amazonaws.com/a.jpg?X-Amz-Expires=60&X-Amz-Signature={WORD}",
        f"postgresql://imports:{WORD}@db.internal:5432/imports is away",
        f"redis://:{WORD}@cache.internal:6379/0",
        f"postgresql://imports:p@ss-{WORD}@db.internal/imports",
        f"https://{WORD}@sentry.example/1",
        f"X-Shopify-Access-Token: {WORD}",
        f"{{'x-shopify-access-token': '{WORD}', 'accept': 'application/json'}}",
        f"[(b'Authorization', b'Bearer {WORD}')]",
        f"Authorization: Basic {WORD}",
        f"authorization: {WORD}",
        f'{{"clientSecret": "{WORD}", "grant_type": "client_credentials"}}',
        f"DATABASE_PASSWORD={WORD}",
        f"Credentials(client_secret='{WORD}')",
        f"the answer repeats {SHOPIFY}",
        f"a token of a ServiceAccount: {JWT}",
        "the key AKIAIOSFODNN7EXAMPLE was refused",
        f"-----BEGIN PRIVATE KEY-----\n{WORD}\n-----END PRIVATE KEY-----",
        f"-----BEGIN RSA PRIVATE KEY-----\n{WORD}",
        f"hook xoxb-123-{WORD}",
    ],
)
def test_a_secret_in_a_text_is_masked(text: str) -> None:
    masked = redact_text(text)
    assert MASK in masked
    for secret in (WORD, SHOPIFY, JWT, "IOSFODNN7EXAMPLE"):
        assert secret not in masked, masked


@pytest.mark.parametrize(
    "text",
    [
        "spec.credentialsSecretRef.name: there is no Secret acme in namespace imports",
        "The value of accessToken in the provider's Secret ends in a line break",
        "https://cdn.example/images/1.jpg?width=800 answered 404",
        "mailto:someone@example.com and 10:30@noon",
        "token bucket is empty; 3 tokens are left",
        "Bearer of bad news",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


def test_secrets_in_nested_values_headers_and_bytes_are_masked() -> None:
    event = {
        "event": "call.failed",
        "request": {
            "url": f"https://api.example/?token={WORD}",
            "headers": {"X-Api-Key": WORD, "Accept": "*/*", "Cookie": WORD},
            "attempts": [{"body": f'{{"password": "{WORD}"}}'}, (b"Authorization: Bearer " + WORD.encode(),)],
        },
        "error": ValueError(f"redis://:{WORD}@host/0"),
        "credentials": [WORD],
        "credentials_valid": True,
        "products": 12,
    }
    clean = redact(None, "", dict(event))
    assert WORD not in json.dumps(clean)
    assert clean["request"]["headers"]["Accept"] == "*/*"
    assert (clean["credentials_valid"], clean["products"]) == (True, 12)


def test_a_value_that_is_known_to_be_secret_is_masked_in_any_shape() -> None:
    value = "no/pattern knows+this"
    hide_values([value])
    assert value not in redact_text(f"the provider says: '{value}' is wrong")
    assert "no%2Fpattern" not in redact_text("GET /?k=no%2Fpattern%20knows%2Bthis")
    hide_values(["short"])
    assert redact_text("a short word") == "a short word", "too short to be told from a word"


@given(st.integers(0, 3 * LONGEST_TEXT), st.integers(0, 3 * LONGEST_TEXT))
def test_no_cut_leaves_half_a_secret(before: int, after: int) -> None:
    secret = "hunter2" * 5
    text = "x " * (before // 2) + f"postgresql://imports:{secret}@db/imports" + " y" * (after // 2)
    masked = redact_text(text)
    assert "hunter2" not in masked
    assert len(masked) < LONGEST_TEXT + 200


def test_the_end_of_a_long_stack_trace_stays() -> None:
    text = "Traceback\n" + "  File …\n" * 10_000 + "ValueError: what happened"
    masked = redact_text(text)
    assert masked.startswith("Traceback")
    assert masked.endswith("ValueError: what happened")


@given(st.text(max_size=300))
def test_masking_twice_changes_nothing(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["a", "a.", "token", "token=", "://", "x-", "'token'", "Basic ", "eyJ", "-----BEGIN "]
)
def test_a_text_made_to_be_slow_to_search_is_masked_all_the_same(unit: str) -> None:
    text = unit * (LONGEST_TEXT // len(unit)) + f" password={WORD}"
    assert WORD not in redact_text(text)


PROGRAM = f"""
import asyncio, logging, threading, warnings
from import_core.observability.logs import configure_logs, correlate_by, get_logger
configure_logs(process="test")
log = get_logger("t")
try:
    try:
        raise OSError("postgresql://imports:{WORD}@host/0")
    except OSError as error:
        raise RuntimeError("headers were {{'Authorization': 'Bearer {WORD}'}}") from error
except RuntimeError:
    log.exception("job.failed", request={{"headers": {{"x-api-key": "{WORD}"}}}})
logging.getLogger("library").error("failed: %s", {{"client_secret": "{WORD}"}}, exc_info=ValueError("token={WORD}"))
warnings.warn("https://u:{WORD}@host is old")
thread = threading.Thread(target=lambda: int("password={WORD}"), name="helper")
thread.start(); thread.join()
correlate_by({{"job-1": "request-7"}}.get)
log.info("job.repaired", jobId="job-1")
log.info("job.repaired", jobId="job-2")
log.info("job.repaired", jobId="job-1", correlationId="given")
raise SystemError("redis://:{WORD}@host/0")
"""


def test_whatever_a_process_says_is_json_and_tells_no_secret() -> None:
    """Exceptions with their causes, libraries, warnings, threads, and the error that ends the process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == ""
    assert WORD not in done.stdout
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    by_event = {line["event"]: line for line in lines}
    failed = by_event["job.failed"]
    assert re.search(r"OSError.*direct cause.*RuntimeError", failed["exception"], re.DOTALL)
    assert failed["request"] == {"headers": {"x-api-key": MASK}}
    assert "SystemError" in by_event["process.crashed"]["exception"]
    assert by_event["thread.crashed"]["thread"] == "helper"
    assert {line["level"] for line in lines} == {"error", "warning", "info", "critical"}
    assert all(line["process"] == "test" for line in lines if line["event"] != "thread.crashed")
    repaired = [line["correlationId"] for line in lines if line["event"] == "job.repaired"]
    assert repaired == ["request-7", "job-2", "given"]
