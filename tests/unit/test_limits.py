"""Provider limits: Retry-After, delays, Shopify's cost bucket, page sizes, windows."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.limits import (
    LONGEST_RETRY_AFTER,
    CostBucket,
    PageShape,
    call_limit_pause,
    effective_window,
    growing_delay,
    retry_after_seconds,
)

NOW = datetime(2026, 10, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("0", 0.0),
        ("-3", 0.0),
        ("2.0", 2.0),
        (" 17 ", 17.0),
        ("999999999", LONGEST_RETRY_AFTER),
        ("Thu, 01 Oct 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Oct 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Oct 2026 12:00:30 -0000", 30.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=NOW) == seconds


@given(st.text(max_size=40))
def test_retry_after_never_fails_on_what_a_provider_sends(header: str) -> None:
    seconds = retry_after_seconds(header, now=NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER


def test_window_is_scaled_but_its_margin_is_real_time() -> None:
    assert effective_window(60, clock_scale=1, margin=0.5) == 60.5
    assert effective_window(60, clock_scale=60, margin=0.5) == 1.5


@pytest.mark.parametrize(("per_seconds", "scale", "margin"), [(0, 1, 0), (60, 0, 0), (60, 1, -1), (-1, 1, 0)])
def test_window_refuses_values_that_would_grant_without_bound(
    per_seconds: float, scale: float, margin: float
) -> None:
    with pytest.raises(ValueError, match="must"):
        effective_window(per_seconds, clock_scale=scale, margin=margin)


def test_delays_grow_to_their_bound_without_overflow() -> None:
    assert [growing_delay(n, first=0.5, factor=4, longest=30) for n in range(4)] == [0.5, 2, 8, 30]
    assert growing_delay(10_000, first=1, longest=60) == 60
    with pytest.raises(ValueError, match="negative"):
        growing_delay(-1, first=1, longest=60)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0.0),
        ("", 0.0),
        ("many/40", 0.0),
        ("-3/40", 0.0),
        ("5/0", 0.0),
        ("32/40", 0.0),
        ("36/40", 0.0),
        ("38/40", 1.0),
        ("40/40", 2.0),
        ("4000/40", 20.0),
        ("400/400", 2.0),
    ],
)
def test_shopifys_call_limit_says_how_long_to_pause(header: str | None, seconds: float) -> None:
    assert call_limit_pause(header) == seconds


def test_cost_bucket_tells_the_wait_for_a_cost() -> None:
    bucket = CostBucket(maximum=2000, available=100, restore_rate=100)
    assert bucket.wait_for(100) == 0
    assert bucket.wait_for(600) == 5
    assert bucket.wait_for(2001) == math.inf
    assert CostBucket(maximum=10, available=0, restore_rate=0).wait_for(1) == math.inf


@given(
    available=st.floats(0, 2000),
    rate=st.floats(1, 2000),
    cost=st.floats(0, 2000),
)
def test_after_its_wait_a_cost_fits(available: float, rate: float, cost: float) -> None:
    bucket = CostBucket(maximum=2000, available=available, restore_rate=rate)
    assert available + rate * bucket.wait_for(cost) >= cost - 1e-6


def test_a_refused_page_shrinks_straight_to_what_fits() -> None:
    shape = PageShape(products=50, variants=10, media=10)
    smaller = shape.shrunk(cost=4002, ceiling=1000)
    assert smaller == PageShape(products=12, variants=10, media=10)


def test_a_page_refused_without_numbers_halves() -> None:
    shape: PageShape | None = PageShape(products=2, variants=3, media=1)
    shapes = []
    while shape is not None:
        shape = shape.shrunk(cost=None, ceiling=None)
        shapes.append(shape)
    assert shapes == [PageShape(1, 3, 1), PageShape(1, 1, 1), None]


@given(
    products=st.integers(1, 250),
    variants=st.integers(1, 250),
    media=st.integers(1, 250),
    cost=st.floats(0, 1e6) | st.none(),
    ceiling=st.floats(0, 1e4) | st.none(),
)
def test_shrinking_always_gets_smaller_and_never_empty(
    products: int, variants: int, media: int, cost: float | None, ceiling: float | None
) -> None:
    shape = PageShape(products, variants, media)
    smaller = shape.shrunk(cost=cost, ceiling=ceiling)
    if smaller is None:
        assert (products, variants, media) == (1, 1, 1)
    else:
        assert min(smaller.products, smaller.variants, smaller.media) >= 1
        assert (
            smaller.products * smaller.variants * smaller.media
            < shape.products * shape.variants * shape.media
        )
