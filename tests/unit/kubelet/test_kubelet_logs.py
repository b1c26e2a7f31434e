"""The container log's form, its rotation, and what part of it a caller gets."""

import asyncio
import os
from datetime import UTC, datetime

import pytest

from import_local.kubelet.logs import LogFollower, LogOptions, parse_options, read_stored, stream_log
from import_local.kubelet.notifier import FolderNotifier
from import_local.kubelet.shim import LONGEST_LINE, Log

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def write(folder, *lines, name="log"):
    (folder / name).write_text("".join(f"{line}\n" for line in lines))


def test_stored_lines_have_time_stream_and_mark(tmp_path):
    log = Log(str(tmp_path / "log"), 10_000)
    log.add(b"stdout", b"one\ntw")
    log.add(b"stderr", b"bad\n")
    log.add(b"stdout", b"o\nlast")
    log.finish()
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [line.split(b" ", 1)[1] for line in lines] == [
        b"stdout F one",
        b"stderr F bad",
        b"stdout F two",
        b"stdout F last",
    ]
    stamps = [line.split(b" ", 1)[0].decode() for line in lines]
    assert stamps == sorted(stamps)
    assert all(len(stamp) == len("2026-01-02T03:04:05.123456789Z") for stamp in stamps)


@pytest.mark.parametrize("end", [b"\n", b""])
def test_long_lines_are_stored_in_parts_and_shown_whole(tmp_path, end):
    log = Log(str(tmp_path / "log"), 10**6)
    text = b"x" * (2 * LONGEST_LINE + 5)
    log.add(b"stdout", text + end)
    log.finish()
    assert max(len(line) for line in (tmp_path / "log").read_bytes().splitlines()) < LONGEST_LINE + 60
    assert read_stored(tmp_path, LogOptions()) == text + b"\n"


def test_logs_are_bounded_and_keep_the_newest(tmp_path):
    log = Log(str(tmp_path / "log"), 4000)
    for number in range(1000):
        log.add(b"stdout", b"line %d\n" % number)
    sizes = [(tmp_path / name).stat().st_size for name in ("log", "log.1")]
    assert sum(sizes) <= 4000
    shown = read_stored(tmp_path, LogOptions()).splitlines()
    assert shown[-1] == b"line 999"
    assert len(shown) > 20
    numbers = [int(line.split()[1]) for line in shown]
    assert numbers == list(range(numbers[0], 1000))


def test_tail_since_and_timestamps(tmp_path):
    write(tmp_path, "2026-05-01T11:00:00.000000000Z stdout F old", name="log.1")
    write(
        tmp_path,
        "2026-05-01T11:59:30.000000000Z stdout F a b  c",
        "2026-05-01T11:59:50.500000000Z stderr F new",
        "broken",
    )
    assert read_stored(tmp_path, LogOptions()) == b"old\na b  c\nnew\n"
    assert read_stored(tmp_path, parse_options({"tailLines": "2"}, NOW)) == b"new\n"
    assert read_stored(tmp_path, parse_options({"tailLines": "0"}, NOW)) == b""
    assert read_stored(tmp_path, parse_options({"sinceSeconds": "30"}, NOW)) == b"a b  c\nnew\n"
    assert read_stored(tmp_path, parse_options({"sinceTime": "2026-05-01T11:59:50Z"}, NOW)) == b"new\n"
    stamped = read_stored(tmp_path, parse_options({"timestamps": "true", "sinceSeconds": "15"}, NOW))
    assert stamped == b"2026-05-01T11:59:50.500000000Z new\n"


@pytest.mark.parametrize("query", [{"tailLines": "-1"}, {"limitBytes": "x"}, {"sinceTime": "yesterday"}])
def test_wrong_options_are_refused(query):
    with pytest.raises(ValueError):
        parse_options(query, NOW)


def test_a_follower_survives_rotation_without_losing_or_repeating(tmp_path):
    log = Log(str(tmp_path / "log"), 2000)
    follower = LogFollower(tmp_path)
    seen = []
    for number in range(300):
        log.add(b"stdout", b"line %d\n" % number)
        if number % 7 == 0:
            seen += follower.read_new()
    seen += follower.read_new()
    follower.close()
    assert [int(line.split()[-1]) for line in seen] == list(range(300))


async def test_following_ends_with_the_container(tmp_path):
    notifier = FolderNotifier()
    log = Log(str(tmp_path / "log"), 10_000)
    log.add(b"stdout", b"first\nsecond\n")
    received = []
    half = asyncio.Event()

    async def follow():
        async for piece in stream_log(tmp_path, LogOptions(follow=True, tail=1), notifier):
            received.append(piece)
            half.set()

    task = asyncio.create_task(follow())
    async with asyncio.timeout(10):
        await half.wait()
        log.add(b"stdout", b"third\n")
        os.close(log.file)
        (tmp_path / "exit").write_text("0 0 ")
        await task
    notifier.close()
    assert b"".join(received) == b"second\nthird\n"


async def test_bytes_are_limited(tmp_path):
    notifier = FolderNotifier()
    write(tmp_path, "2026-05-01T11:00:00.000000000Z stdout F 0123456789")
    options = LogOptions(limit=4)
    assert b"".join([piece async for piece in stream_log(tmp_path, options, notifier)]) == b"0123"
    notifier.close()
