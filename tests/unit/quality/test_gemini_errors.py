"""What Google's error bodies and answers say, in all shapes that the client hands on."""

import pytest
from google.genai import types

from import_core.adapters.models.gemini import error_document, reply_of, retry_delay
from import_core.domain.judging import Reply

RETRY = "type.googleapis.com/google.rpc.RetryInfo"


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        ([{"@type": RETRY, "retryDelay": "34s"}], 34.0),
        ([{"@type": "x/google.rpc.Help"}, {"@type": RETRY, "retryDelay": "0.250s"}], 0.25),
        ([{"@type": RETRY, "retryDelay": "999999s"}], 3600.0),
        ([{"@type": RETRY, "retryDelay": "-1s"}], None),
        ([{"@type": RETRY, "retryDelay": "1m"}], None),
        ([{"@type": RETRY}], None),
        ([{"@type": "x/google.rpc.QuotaFailure", "retryDelay": "3s"}], None),
        (["RetryInfo"], None),
        ("RetryInfo", None),
        (None, None),
    ],
)
def test_how_long_to_wait_is_read_from_its_detail_alone(details: object, seconds: float | None) -> None:
    assert retry_delay({"details": details}) == seconds


@pytest.mark.parametrize(
    "body", [None, [], "Bad Gateway", {"error": "x"}, {"error": {"status": "NOT_FOUND"}}]
)
def test_any_body_is_read(body: object) -> None:
    found = error_document(body)
    assert found == ({"status": "NOT_FOUND"} if isinstance(body, dict) and body["error"] != "x" else {})


def response(**document: object) -> types.GenerateContentResponse:
    return types.GenerateContentResponse.model_validate(document)


def test_answers_are_read_without_their_thoughts() -> None:
    parts = [{"text": "I think", "thought": True}, {"text": "{"}, {"text": "}"}]
    read = reply_of(
        response(
            candidates=[{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
            usageMetadata={"promptTokenCount": 7, "candidatesTokenCount": 2, "thoughtsTokenCount": 3},
        )
    )
    assert read == Reply("{}", "STOP", None, 7, 5)


@pytest.mark.filterwarnings("ignore")
def test_answers_without_content_are_read() -> None:
    blocked = reply_of(response(promptFeedback={"blockReason": "SAFETY"}))
    unsafe = reply_of(response(candidates=[{"finishReason": "SAFETY"}]))
    new = reply_of(
        response(candidates=[{"finishReason": "A_WORD_OF_TOMORROW", "content": {"role": "model"}}])
    )
    none = reply_of(response(promptFeedback={}))
    unspecified = reply_of(response(promptFeedback={"blockReason": "BLOCKED_REASON_UNSPECIFIED"}))
    assert (blocked.block_reason, unsafe.finish_reason, new.finish_reason) == (
        "SAFETY",
        "SAFETY",
        "A_WORD_OF_TOMORROW",
    )
    assert (none, unspecified) == (Reply(), Reply())
