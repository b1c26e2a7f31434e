"""What workers of different versions tell each other: messages and checkpoints as they are stored, word for word.

While a rollout goes on, each version takes jobs that the other was given or began. The files in `formats/` are what
earlier versions wrote. They are never changed: a new format is a new file, and the old ones stay readable.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from import_core.adapters.postgres.rows import (
    cursor_from_json,
    cursor_to_json,
    progress_from_json,
    progress_to_json,
)
from import_core.domain.jobs import (
    ITEMS_CHECKPOINT_VERSION,
    MESSAGE_VERSION,
    Checkpoint,
    ItemsPlace,
    Message,
    Progress,
)

FORMATS = Path(__file__).parent / "formats"
CURSOR = {"page": "eyJsYXN0X2lkIjo0Mn0=", "shop": "acme"}
CHECKPOINTS = {
    1: Checkpoint(CURSOR, Progress(250, 90, 8, 2, 400, 390, 6, 4, 100)),
    2: Checkpoint(
        CURSOR,
        Progress(products_imported=3, images_total=9, images_imported=9),
        items=ItemsPlace("2026-11-28T08:00:00Z-1a2b3c4d", "gid-17", ("gid-19", "gid-23")),
    ),
}


def stored(name: str) -> dict[str, Any]:
    return dict(json.loads((FORMATS / f"{name}.json").read_text()))


def test_every_version_has_its_file() -> None:
    names = {path.stem for path in FORMATS.glob("*.json")}
    assert names == {
        *(f"message-{version}" for version in range(1, MESSAGE_VERSION + 1)),
        *(f"checkpoint-{version}" for version in range(1, ITEMS_CHECKPOINT_VERSION + 1)),
    }
    assert set(CHECKPOINTS) == set(range(1, ITEMS_CHECKPOINT_VERSION + 1))


def test_messages_of_earlier_versions_are_read_and_ours_are_theirs() -> None:
    message = Message("0f8fad5b-d9cb-469f-a165-70867728950e", 7)
    assert Message.from_data(stored("message-1")) == message
    assert message.to_data() == stored("message-1")


@pytest.mark.parametrize("version", CHECKPOINTS)
def test_checkpoints_of_earlier_versions_are_read_and_ours_are_theirs(version: int) -> None:
    kept, expected = stored(f"checkpoint-{version}"), CHECKPOINTS[version]
    cursor, items = cursor_from_json(kept["version"], kept["cursor"])
    assert Checkpoint(cursor, progress_from_json(kept["progress"]), items=items) == expected
    written = json.loads(json.dumps(cursor_to_json(expected)))
    assert {
        "version": expected.version,
        "cursor": written,
        "progress": progress_to_json(expected.progress),
    } == kept


def test_counters_of_a_later_version_are_left_out_and_missing_ones_are_zero() -> None:
    later = {**stored("checkpoint-1")["progress"], "videos_total": 5}
    assert progress_from_json(later) == CHECKPOINTS[1].progress
    earlier = {"products_total": 250, "products_imported": 90}
    assert progress_from_json(earlier) == Progress(250, 90)


def test_a_checkpoint_names_the_oldest_version_that_can_read_it() -> None:
    assert CHECKPOINTS[1].version == 1
    assert replace(CHECKPOINTS[2], items=None).version == 1
