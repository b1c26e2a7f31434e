"""Failed items: what is kept of their source, and how counters change when they are tried again."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.images import FailedImage, ImageResult, StoredImage, UnchangedImage
from import_core.domain.item_errors import (
    MAX_DOCUMENT_BYTES,
    MAX_DOCUMENT_DEPTH,
    EarlierFailure,
    kept_document,
    recounted,
)
from import_core.domain.jobs import Progress


class TestKeptDocument:
    def test_a_usual_document_is_kept_as_it_is(self) -> None:
        document = {"id": 1, "title": "Röster \\u0000", "tags": ["a", None, True], "price": {"amount": 1.5}}
        assert kept_document(document) == document

    def test_what_no_database_stores_is_replaced(self) -> None:
        document = {
            "a\x00": "b\x00\x00",
            "c": "\ud800x\udc00",
            "d": [math.inf, -math.inf, math.nan],
            "e": "\\\x00",
        }
        assert kept_document(document) == {
            "a\ufffd": "b\ufffd\ufffd",
            "c": "\ufffdx\ufffd",
            "d": [None, None, None],
            "e": "\\\ufffd",
        }

    def test_a_document_above_the_limit_leaves_its_size(self) -> None:
        fits = {"t": "ü" * ((MAX_DOCUMENT_BYTES - 8) // 2)}
        assert kept_document(fits) == fits
        kept = kept_document({"t": "ü" * (MAX_DOCUMENT_BYTES // 2)})
        assert kept["bytes"] == MAX_DOCUMENT_BYTES + 8
        assert str(MAX_DOCUMENT_BYTES) in kept["omitted"]

    @pytest.mark.parametrize("depth", [MAX_DOCUMENT_DEPTH + 1, 100_000])
    def test_a_document_of_endless_depth_is_not_kept(self, depth: int) -> None:
        assert "nested" in kept_document(nested(depth))["omitted"]

    def test_the_deepest_document_is_kept(self) -> None:
        assert kept_document(nested(MAX_DOCUMENT_DEPTH)) == nested(MAX_DOCUMENT_DEPTH)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_whatever_comes_can_be_stored(self, document: Any) -> None:
        stored = json.dumps(kept_document(document), allow_nan=False, ensure_ascii=False)
        assert "\\u0000" not in stored.replace("\\\\", "")
        stored.encode()


def nested(depth: int) -> Any:
    document: Any = []
    for _ in range(depth - 1):
        document = [document]
    return document


def stored(url: str) -> StoredImage:
    return StoredImage(url, 0, None, None, None, "0" * 64, "key", "image/png", 1, 1, 1, {})


def unchanged(url: str) -> UnchangedImage:
    return UnchangedImage(url, 0, None, None, None, None)  # type: ignore[arg-type]


def failed(url: str) -> FailedImage:
    return FailedImage(url, 0, "download", "NotFound", "gone")


PRODUCT = EarlierFailure("p", is_product=True)
IMAGES = EarlierFailure("p", is_product=False, urls=frozenset({"a", "b"}))
DONE = Progress(
    products_total=10,
    products_imported=6,
    products_unchanged=2,
    products_failed=2,
    images_total=20,
    images_imported=10,
    images_unchanged=7,
    images_failed=3,
)


def after(earlier: EarlierFailure, *results: ImageResult, changed: bool = True, known: str = "", before=DONE):
    return recounted(before, earlier, changed=changed, results=results, known_urls=frozenset(known))


class TestRecounted:
    def test_a_product_that_succeeds_moves_and_brings_its_images(self) -> None:
        now = after(PRODUCT, stored("x"), failed("y"), unchanged("z"))
        assert (now.products_imported, now.products_unchanged, now.products_failed) == (7, 2, 1)
        assert (now.images_total, now.images_imported, now.images_unchanged, now.images_failed) == (
            23,
            11,
            8,
            4,
        )

    def test_a_product_whose_row_was_right_is_unchanged(self) -> None:
        now = after(PRODUCT, changed=False)
        assert (now.products_imported, now.products_unchanged, now.products_failed) == (6, 3, 1)

    @pytest.mark.parametrize("changed", [True, False])
    def test_a_product_that_had_been_imported_is_not_counted_twice(self, changed: bool) -> None:
        now = after(IMAGES, stored("a"), stored("b"), unchanged("c"), changed=changed, known="c")
        assert (now.products_imported, now.products_unchanged, now.products_failed) == (6, 2, 2)
        assert (now.images_total, now.images_imported, now.images_unchanged, now.images_failed) == (
            20,
            12,
            7,
            1,
        )

    def test_an_image_that_fails_again_stays_failed(self) -> None:
        assert after(IMAGES, failed("a"), failed("b"), unchanged("c"), known="c") == DONE

    def test_a_failed_image_that_the_source_dropped_is_counted_no_more(self) -> None:
        now = after(IMAGES, stored("a"))
        assert (now.images_total, now.images_imported, now.images_failed) == (19, 11, 1)

    def test_an_image_new_at_the_source_is_counted(self) -> None:
        now = after(IMAGES, failed("a"), failed("b"), stored("new"))
        assert (now.images_total, now.images_imported, now.images_failed) == (21, 11, 3)

    def test_an_image_that_was_counted_and_fails_now_moves(self) -> None:
        now = after(IMAGES, failed("a"), failed("b"), failed("c"), known="c")
        assert (now.images_total, now.images_imported, now.images_failed) == (20, 9, 4)

    def test_counters_that_know_of_no_failure_never_fall_below_zero(self) -> None:
        nothing = Progress(products_total=1, products_imported=1)
        assert after(PRODUCT, before=nothing) == nothing
        assert after(IMAGES, before=nothing) == nothing


OUTCOMES = st.sampled_from([stored, unchanged, failed])


@given(
    before=st.builds(Progress, **{name: st.integers(0, 3) for name in Progress.__dataclass_fields__}),
    is_product=st.booleans(),
    urls=st.frozensets(st.sampled_from("abcd")),
    known=st.frozensets(st.sampled_from("abcdef")),
    outcomes=st.dictionaries(st.sampled_from("abcdefgh"), OUTCOMES),
    changed=st.booleans(),
)
def test_counters_stay_sound_whatever_happens(  # noqa: PLR0917
    before, is_product, urls, known, outcomes, changed
) -> None:
    earlier = EarlierFailure("p", is_product=is_product, urls=urls)
    results = [make(url) for url, make in outcomes.items()]
    now = recounted(before, earlier, changed=changed, results=results, known_urls=known)
    assert now.products_done == before.products_done
    assert min(getattr(now, name) or 0 for name in Progress.__dataclass_fields__) >= 0
    counted = now.images_imported + now.images_unchanged + now.images_failed
    counted_before = before.images_imported + before.images_unchanged + before.images_failed
    assert now.images_total - before.images_total == counted - counted_before
