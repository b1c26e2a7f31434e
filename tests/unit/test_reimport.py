"""What a re-import lists, and when its end may move the mark."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.jobs import Progress
from import_core.domain.reimport import (
    FullReason,
    Listing,
    Mark,
    Policy,
    ReimportMode,
    decide_listing,
    describe_listing,
    fingerprint_of,
    moves_mark,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MARK = Mark("same", NOW - timedelta(hours=1))
INCREMENTAL = Policy(ReimportMode.INCREMENTAL, full_every=3, overlap_seconds=600)
SETTINGS = {
    "provider_uid": "uid",
    "provider_type": "shopify",
    "base_url": "https://shop.example",
    "mapping": {"title": "title"},
    "images_enabled": True,
    "images_per_product": 20,
    "thumbnails": (256, 1024),
}


def decide(policy=INCREMENTAL, mark=MARK, *, fingerprint="same", filters_by_time=True, now=NOW) -> Listing:
    return decide_listing(policy, mark, fingerprint=fingerprint, filters_by_time=filters_by_time, now=now)


def test_what_changed_since_the_mark_is_listed_with_the_overlap() -> None:
    assert decide() == Listing("same", NOW, since=MARK.listed_at - timedelta(seconds=600))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"policy": Policy()}, FullReason.ASKED),
        ({"filters_by_time": False}, FullReason.NO_TIME_FILTER),
        ({"mark": None}, FullReason.FIRST),
        ({"fingerprint": "other"}, FullReason.CHANGED),
        ({"mark": Mark("same", NOW + timedelta(seconds=1))}, FullReason.CLOCK),
        ({"mark": Mark("same", MARK.listed_at, incrementals=2)}, FullReason.DUE),
    ],
)
def test_a_doubt_of_any_kind_is_a_full_listing(given, reason) -> None:
    listing = decide(**given)
    assert (listing.since, listing.full) == (None, reason)


@given(st.integers(1, 50))
def test_one_run_in_so_many_is_full(full_every: int) -> None:
    policy = Policy(ReimportMode.INCREMENTAL, full_every)
    kinds = [
        decide(policy, Mark("same", MARK.listed_at, incrementals=number)).full for number in range(full_every)
    ]
    assert kinds == [None] * (full_every - 1) + [FullReason.DUE]


@given(
    st.integers(0, 604_800),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_a_run_never_begins_after_the_mark(overlap: int, listed_at: datetime) -> None:
    listing = decide(Policy(ReimportMode.INCREMENTAL, 24, overlap), Mark("same", listed_at))
    assert listing.since is None or listing.since <= listed_at <= listing.begun_at


def test_the_mark_stays_before_what_has_to_be_asked_for_again() -> None:
    listing = decide()
    assert moves_mark(listing, Progress(products_failed=1), fingerprint="same", passing_failures=0)
    assert not moves_mark(listing, Progress(), fingerprint="same", passing_failures=1)
    assert not moves_mark(listing, Progress(products_unlisted=1), fingerprint="same", passing_failures=0)
    assert not moves_mark(listing, Progress(), fingerprint="other", passing_failures=0)


@pytest.mark.parametrize("listing", [decide(), decide(mark=None)])
def test_a_listing_is_read_as_it_was_kept(listing: Listing) -> None:
    assert Listing.from_json(listing.to_json()) == listing


@pytest.mark.parametrize(
    "change",
    [
        {"provider_uid": "another"},
        {"base_url": "https://shop2.example"},
        {"mapping": {"title": "handle"}},
        {"images_enabled": False},
        {"images_per_product": 3},
        {"thumbnails": (256,)},
    ],
)
def test_whatever_decides_on_the_rows_is_part_of_the_fingerprint(change) -> None:
    assert fingerprint_of(**{**SETTINGS, **change}) != fingerprint_of(**SETTINGS)


def test_the_order_of_sizes_and_a_closing_slash_are_no_change() -> None:
    same = {**SETTINGS, "thumbnails": (1024, 256), "base_url": "https://shop.example/"}
    assert fingerprint_of(**same) == fingerprint_of(**SETTINGS)


def test_a_person_is_told_since_when() -> None:
    assert (
        describe_listing(decide(), Progress()) == "nothing changed at the source since 2026-11-01T10:50:00Z"
    )
    told = describe_listing(decide(), Progress(products_unchanged=1))
    assert told == "incremental: only products changed since 2026-11-01T10:50:00Z were read"
    assert describe_listing(decide(mark=None), Progress()) is None
    assert describe_listing(None, Progress()) is None
