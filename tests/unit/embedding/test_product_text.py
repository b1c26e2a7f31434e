"""What of a product is given to the model."""

from import_core.domain.embedding import (
    IMAGES_TRIED,
    LONGEST_DESCRIPTION,
    LONGEST_TEXT,
    images_to_try,
    product_text,
)
from import_core.domain.steps import StepImage, StepProduct


def product(**values: object) -> StepProduct:
    return StepProduct("p-1", "acme", "hash", **{"title": "Red mug", **values})  # type: ignore[arg-type]


def test_the_most_telling_comes_first() -> None:
    text = product_text(
        product(
            description="<p>Holds <b>300&nbsp;ml</b>.</p><p>Dishwasher&amp;oven.</p>",
            vendor="Keramik",
            product_type="Mugs",
            tags=("sale", "kitchen"),
        )
    )
    assert text == "Red mug. Keramik. Mugs. sale, kitchen. Holds 300 ml . Dishwasher&oven"


def test_what_is_missing_leaves_no_trace() -> None:
    assert product_text(product(description="  <br> ", vendor=" ", tags=())) == "Red mug"
    assert not product_text(product(title=" . ", description="<style>a{}</style>"))


def test_long_texts_are_cut_before_they_are_read() -> None:
    assert len(product_text(product(description="word " * 100_000))) == LONGEST_TEXT
    assert "end" not in product_text(product(description="<b>" * LONGEST_DESCRIPTION + "end"))


def test_first_images_by_position() -> None:
    images = tuple(StepImage(f"images/{at}", "image/png", 10, 10, position=at) for at in (4, 0, 3, 1, 2))
    assert [image.position for image in images_to_try(product(images=images))] == list(range(IMAGES_TRIED))
