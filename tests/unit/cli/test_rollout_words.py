"""What `kubectl imports rollout` reads from a pool, and what it asks for."""

from typing import Any

import pytest

from import_cli.rollout_commands import Word, describe, next_commands, wish_for
from import_cli.sources import UsageError
from import_core.domain.rollout_status import (
    ABORT_ANNOTATION,
    PAUSE_ANNOTATION,
    PROMOTE_ANNOTATION,
    wishes_of,
)


def pool(annotations: dict[str, str] | None = None, **rollout: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "fast", "annotations": annotations or {}},
        "spec": {"rollout": {"steps": [{"percent": 25}, {"percent": 100}]}},
        "status": {"rollout": {"phase": "Progressing", "stableHash": "old", **rollout}},
    }


def test_every_field_is_there_for_programs() -> None:
    document = describe(pool(canaryHash="new", step=1))
    assert (document["phase"], document["stableHash"], document["canaryHash"]) == (
        "Progressing",
        "old",
        "new",
    )
    assert (document["step"], document["steps"], document["failedJobs"]) == (1, 2, None)
    unseen = describe({"metadata": {"name": "fast"}, "spec": {}})
    assert (unseen["phase"], unseen["steps"], unseen["paused"]) == (None, None, False)


def test_a_word_names_the_version_that_is_meant() -> None:
    under_way = pool(canaryHash="new")
    assert wish_for(Word.ABORT, under_way).annotations == {ABORT_ANNOTATION: "new", PROMOTE_ANNOTATION: ""}
    assert wish_for(Word.PROMOTE, under_way).annotations == {PROMOTE_ANNOTATION: "new", ABORT_ANNOTATION: ""}
    assert wish_for(Word.PROMOTE, pool(rolledBackHash="bad")).version == "bad"
    assert wish_for(Word.PAUSE, under_way).annotations == {PAUSE_ANNOTATION: "true"}


def test_what_is_said_twice_changes_nothing() -> None:
    assert wish_for(Word.PAUSE, pool({PAUSE_ANNOTATION: "true"})).annotations == {}
    assert wish_for(Word.RESUME, pool()).annotations == {}
    assert wish_for(Word.RESUME, pool({PAUSE_ANNOTATION: "true"})).annotations == {PAUSE_ANNOTATION: "false"}


@pytest.mark.parametrize("word", [Word.PROMOTE, Word.ABORT])
def test_where_nothing_is_rolled_out_there_is_nothing_to_steer(word: Word) -> None:
    with pytest.raises(UsageError, match="rolls nothing out"):
        wish_for(word, pool())
    with pytest.raises(UsageError, match="not seen by the operator yet"):
        wish_for(word, {"metadata": {"name": "fast"}, "spec": {}})


def test_the_operator_reads_what_the_commands_write() -> None:
    for word, wanted in ((Word.PAUSE, (True, None, None)), (Word.ABORT, (False, None, "new"))):
        written = wishes_of(pool(dict(wish_for(word, pool(canaryHash="new")).annotations)))
        assert (written.paused, written.promote, written.abort) == wanted
    resumed = pool({PAUSE_ANNOTATION: "false"})
    assert not wishes_of(resumed).paused


def test_the_next_command_is_named() -> None:
    (line,) = next_commands(describe(pool(canaryHash="new")), "fast", "shops")
    assert line == "Go back with: kubectl imports rollout abort fast -n shops"
    assert next_commands(describe(pool()), "fast", "imports") == []
