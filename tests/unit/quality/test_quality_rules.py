"""The rules: each bound from both sides, what rejects and what flags, and what is left for a model or a person."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.quality import (
    DecidedBy,
    Finding,
    QualityRules,
    Verdict,
    decide_by_rules,
    reasons_of,
    result_of,
)
from import_core.domain.steps import StepImage, StepProduct
from import_core.domain.words import WordList

RULES = QualityRules(banned=WordList(["bomb"]), maximum_prices={"JPY": Decimal(150_000_000)})
GOOD = StepProduct(
    product_id="p1",
    company_id="acme",
    content_hash="h1",
    title="Stoneware mug, 350 ml",
    description="Glazed by hand.",
    price=Decimal("19.90"),
    currency="EUR",
    images=(StepImage("images/acme/a.jpg", "image/jpeg", 800, 600),),
)


def codes(product: StepProduct, rules: QualityRules = RULES) -> list[str]:
    return [reason.code for reason in decide_by_rules(product, rules, has_model=True).reasons]


def with_image(width: int, height: int) -> StepProduct:
    return replace(GOOD, images=(StepImage("k", "image/png", width, height),))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"price": None}, ["PriceMissing"]),
        ({"price": Decimal(0)}, ["PriceNotPositive"]),
        ({"price": Decimal(-3)}, ["PriceNotPositive"]),
        ({"price": Decimal("0.001")}, ["PriceTooLow"]),
        ({"price": Decimal("0.01")}, []),
        ({"price": Decimal(1_000_000)}, []),
        ({"price": Decimal("1000000.01")}, ["PriceTooHigh"]),
        ({"price": Decimal("1e40")}, ["PriceTooHigh"]),
        ({"price": Decimal("NaN")}, ["PriceTooHigh"]),
        ({"price": Decimal("Infinity")}, ["PriceTooHigh"]),
        ({"price": Decimal("-Infinity")}, ["PriceNotPositive"]),
        ({"price": Decimal(2_000_000), "currency": "jpy"}, []),
        ({"price": Decimal(2_000_000), "currency": None}, ["PriceTooHigh"]),
        ({"title": ""}, ["TitleMissing"]),
        ({"title": " \n\u200b"}, ["TitleMissing"]),
        ({"title": "!!!"}, ["TitleMissing"]),
        ({"title": "Ab"}, ["TitleTooShort"]),
        ({"title": "茶碗蒸"}, []),
        ({"title": "a" * 200}, []),
        ({"title": "a" * 201}, ["TitleTooLong"]),
        ({"title": "BUY THIS NOW"}, ["TitleAllCapitals"]),
        ({"title": "USB HUB"}, []),
        ({"title": "КУПИТЕ СЕЙЧАС"}, ["TitleAllCapitals"]),
        ({"title": "茶碗蒸茶碗蒸茶碗蒸"}, []),
        ({"description": None}, []),
        ({"description": "a" * 10_001}, ["TextTooLong"]),
        ({"vendor": "a" * 501}, ["TextTooLong"]),
        ({"tags": tuple("a" for _ in range(101))}, ["TextTooLong"]),
        ({"images": ()}, ["ImageMissing"]),
        ({"title": "a bomb"}, ["BannedWord"]),
        ({"description": "no bomb"}, ["BannedWord"]),
        ({"vendor": "Bomb Ltd"}, ["BannedWord"]),
        ({"product_type": "bomb"}, ["BannedWord"]),
        ({"tags": ("gift", "bomb")}, ["BannedWord"]),
        ({"tags": ("bo", "mb")}, []),
        ({"images": (StepImage("k", "image/png", 300, 300, alt_text="Bomb"),)}, ["BannedWord"]),
        ({"description": "a" * 60_000 + " bomb"}, ["TextTooLong", "BannedWord"]),
    ],
)
def test_each_finding_has_its_bounds(changes: dict[str, Any], found: list[str]) -> None:
    assert codes(replace(GOOD, **changes)) == found


@pytest.mark.parametrize(
    ("size", "small"), [((200, 200), False), ((199, 4000), True), ((4000, 199), True), ((0, 0), True)]
)
def test_the_best_image_counts_by_its_shorter_side(size: tuple[int, int], small: bool) -> None:
    assert codes(with_image(*size)) == (["ImageTooSmall"] if small else [])
    both = replace(GOOD, images=(*with_image(*size).images, *GOOD.images))
    assert codes(both) == []


def test_reasons_name_their_field() -> None:
    poor = replace(GOOD, title="BOMB FOR SALE", price=Decimal(-1), images=())
    decision = decide_by_rules(poor, RULES, has_model=True)
    assert decision.verdict is Verdict.REJECTED
    messages = {reason.code: reason.message for reason in decision.reasons}
    assert messages == {
        "PriceNotPositive": "The price -1 EUR is not above zero.",
        "TitleAllCapitals": "The title is in capitals only.",
        "ImageMissing": "There is no image.",
        "BannedWord": "The title has the banned word “bomb”.",
    }


def test_which_findings_reject_is_a_setting() -> None:
    missing, shouting = replace(GOOD, price=None), replace(GOOD, title="BUY THIS NOW")
    assert decide_by_rules(missing, RULES, has_model=True).verdict is Verdict.FLAGGED
    strict = replace(RULES, rejecting=frozenset({Finding.PRICE_MISSING}))
    assert decide_by_rules(missing, strict, has_model=True).verdict is Verdict.REJECTED
    assert decide_by_rules(shouting, strict, has_model=True).verdict is Verdict.FLAGGED


def test_what_no_rule_objects_to_is_for_the_model_or_for_a_person() -> None:
    asked = decide_by_rules(GOOD, RULES, has_model=True)
    alone = decide_by_rules(GOOD, RULES, has_model=False)
    trusting = decide_by_rules(GOOD, replace(RULES, approves_alone=True), has_model=False)
    assert (asked.verdict, asked.reasons) == (Verdict.UNDECIDED, ())
    assert (alone.verdict, [reason.code for reason in alone.reasons]) == (Verdict.FLAGGED, ["NotJudged"])
    assert (trusting.verdict, trusting.decided_by) == (Verdict.APPROVED, DecidedBy.RULES)
    assert decide_by_rules(GOOD, replace(RULES, approves_alone=True), has_model=True) == asked


def test_the_fingerprint_tells_rules_apart_and_nothing_else() -> None:
    same = replace(RULES, banned=WordList(["Bomb", "x"])), replace(RULES, banned=WordList(["x", "Bomb"]))
    assert same[0].fingerprint() == same[1].fingerprint()
    others = [
        RULES,
        QualityRules(),
        replace(RULES, minimum_price=Decimal(2)),
        replace(RULES, rejecting=frozenset()),
        replace(RULES, maximum_prices={}),
        replace(RULES, minimum_image_side=201),
        replace(RULES, approves_alone=True),
    ]
    assert len({rules.fingerprint() for rules in others}) == len(others)


@given(
    st.builds(
        StepProduct,
        product_id=st.just("p"),
        company_id=st.just("c"),
        content_hash=st.just("h"),
        title=st.text(max_size=300),
        description=st.none() | st.text(max_size=300),
        price=st.none() | st.decimals(),
        currency=st.none() | st.text(max_size=5),
        tags=st.lists(st.text(max_size=10), max_size=5).map(tuple),
        images=st.lists(
            st.builds(
                StepImage,
                st.text(max_size=5),
                st.just("image/png"),
                st.integers(0, 9000),
                st.integers(0, 9000),
            ),
            max_size=3,
        ).map(tuple),
    )
)
def test_any_product_is_decided_with_bounded_reasons_that_survive_being_kept(product: StepProduct) -> None:
    decision = decide_by_rules(product, RULES, has_model=False)
    assert decision.verdict in {Verdict.REJECTED, Verdict.FLAGGED}
    assert all(reason.code and 0 < len(reason.message) <= 300 for reason in decision.reasons)
    assert reasons_of(result_of(decision)["reasons"]) == decision.reasons
