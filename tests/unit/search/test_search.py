"""What a query means, which words a product has, how hits are merged, and who is visible."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.adapters.search.opensearch import get_query
from import_core.domain.search import (
    CANDIDATES,
    LONGEST_QUERY,
    MOST_HITS,
    MOST_WORDS,
    RANK_CONSTANT,
    Backend,
    Ranking,
    Standing,
    cache_entry,
    fold,
    fuse,
    is_visible,
    parse_query,
    search_text,
)
from import_core.domain.steps import StepProduct

IDS = st.lists(st.sampled_from("abcdefgh"), max_size=8)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Café-Crème  GRANDE", "cafe creme grande"),
        ("T-Shirt, 100 % cotton!", "t shirt 100 cotton"),
        ("STRASSE straße", "strasse strasse"),
        ("Ёлка йод", "елка иод"),
        ("ﬁne ２０ ½", "fine 20 1 2"),
        ("हिन्दी", "हिन्दी"),
        ("日本語 テキスト", "日本語 テキスト"),
        ("snake_case \0 \x1b[31m", "snake case 31m"),
        ("", ""),
    ],
)
def test_words_are_folded(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text(max_size=60))
def test_folding_twice_changes_nothing(text: str) -> None:
    once = fold(text)
    assert fold(once) == once
    assert "  " not in once
    assert once == once.strip()


@pytest.mark.parametrize(
    ("raw", "text", "unfinished"),
    [
        ("Red  SHIRT", "red shirt", True),
        ('"Red Shirt" cotton', '"red shirt" cotton', True),
        ('cotton "red shirt"', 'cotton "red shirt"', False),
        ("shirt -blue", "shirt -blue", False),
        ("shirt -or", 'shirt -"or"', False),
        ('shirt -"dark blue"', 'shirt -"dark blue"', False),
        ("t-shirt", "t shirt", True),
        ("shirt or trousers", "shirt or trousers", True),
        ("or shirt or or", "shirt", False),
        ('"or" shirt', '"or" shirt', True),
        ("either-or shoes", 'either "or" shoes', True),
        ("0:OR", '0 "or"', False),
        ("ab", "ab", False),
        ("shirt.", "shirt", False),
        ("shirt !!", "shirt", True),
        ('"unclosed phrase', '"unclosed phrase"', False),
        ("- -- \" '' !", "", False),
        ("", "", False),
    ],
)
def test_query_is_read_as_on_the_web(raw: str, text: str, unfinished: bool) -> None:
    query = parse_query(raw)
    assert (query.text, query.unfinished) == (text, unfinished)


@pytest.mark.parametrize(
    ("raw", "alternatives"),
    [
        ("shirt or trousers", True),
        ('"red shirt" or "truth or dare"', True),
        ('shirt "truth or dare"', False),
        ('shirt hat -"blue or red"', False),
        ('red "or" shirt', False),
        ("shirt -or", False),
        ("either-or shoes", False),
        ("or shirt or", False),
    ],
)
def test_only_an_or_between_parts_asks_for_alternatives(raw: str, alternatives: bool) -> None:
    query = parse_query(raw)
    assert query.alternatives is alternatives
    assert parse_query(query.text).alternatives is alternatives
    assert (get_query("acme", query)["bool"].get("minimum_should_match") == 1) is alternatives


def test_parts_of_a_query() -> None:
    query = parse_query('Blue t-shirt "round neck" -wool or')
    assert query.words == ("blue", "t", "shirt")
    assert query.phrases == ("round neck",)
    assert query.excluded == ("wool",)
    assert query.wanted == "blue t shirt round neck"


@given(st.text(max_size=400))
def test_any_query_can_be_read_and_is_bounded(raw: str) -> None:
    query = parse_query(raw)
    assert len(query.text.split()) <= 2 * MOST_WORDS
    assert parse_query(raw) == query
    if len(query.text) <= LONGEST_QUERY:
        assert parse_query(query.text).text == query.text


def test_only_so_many_words_count() -> None:
    assert len(parse_query(" ".join(["ab"] * 80)).words) == MOST_WORDS


def test_words_of_a_product() -> None:
    product = StepProduct(
        *("p", "acme", "hash", "Crème Brûlée"),
        description="<p>With <i>sugar</i></p>",
        price=Decimal(1),
        vendor="Acme",
        product_type="Dessert",
        tags=("Sweet", "French-food"),
    )
    words = search_text(product)
    assert (words.title, words.labels, words.tags, words.description) == (
        *("creme brulee", "acme dessert", "sweet french food", "with sugar"),
    )
    assert len(search_text(StepProduct("p", "c", "h", "t", description="a " * 90_000)).description) <= 10_000


def test_merging_by_reciprocal_rank() -> None:
    merged = fuse(
        [
            Ranking(Backend.TEXT, [("a", 9.0), ("b", 5.0)]),
            Ranking(Backend.VECTORS, [("b", 0.9), ("c", 0.8), ("b", 0.1)]),
        ]
    )
    assert [one.product_id for one in merged] == ["b", "a", "c"]
    assert merged[0].score == pytest.approx(1 / (RANK_CONSTANT + 2) + 1 / (RANK_CONSTANT + 1))
    assert (merged[0].text_score, merged[0].similarity) == (5.0, 0.9)
    assert (merged[1].text_score, merged[1].similarity) == (9.0, None)


@given(IDS, IDS)
def test_merging_keeps_everybody_once_and_the_order_of_one_ranking(
    first: list[str], second: list[str]
) -> None:
    text = Ranking(Backend.TEXT, [(one, 1.0) for one in first])
    vectors = Ranking(Backend.VECTORS, [(one, 1.0) for one in second])
    merged = [one.product_id for one in fuse([text, vectors])]
    assert sorted(merged) == sorted(set(first) | set(second))
    assert merged == [one.product_id for one in fuse([vectors, text])]
    assert [one.product_id for one in fuse([text])] == list(dict.fromkeys(first))


def test_weights_say_whose_word_counts() -> None:
    rankings = [Ranking(Backend.TEXT, [("a", 1.0)]), Ranking(Backend.VECTORS, [("b", 1.0)])]
    assert fuse(rankings)[0].product_id == "a", "equal ones by their ids"
    assert fuse(rankings, weights={Backend.TEXT: 1.0, Backend.VECTORS: 2.0})[0].product_id == "b"


@pytest.mark.parametrize(
    ("standing", "visible"),
    [
        (Standing("ACTIVE", "h1", "h1", None), True),
        (Standing(None, "h1", "h1", "approved"), True),
        (Standing("ACTIVE", "h2", "h1", "approved"), False),
        (Standing("ACTIVE", "h1", None, "approved"), False),
        (Standing("Archived", "h1", "h1", None), False),
        (Standing("archived", None, "h1", None), False),
        (Standing("ACTIVE", None, None, None), False),
        (Standing("ACTIVE", "h1", "h1", "rejected"), False),
        (Standing("ACTIVE", "h1", "h1", "flagged"), False),
        (Standing("ACTIVE", "h1", "h1", "a word of tomorrow"), False),
    ],
)
def test_who_is_visible(standing: Standing, visible: bool) -> None:
    assert is_visible(standing) is visible


def test_an_answer_is_kept_for_one_company_version_query_and_set_of_indexes() -> None:
    def key(company: str = "acme", version: int = 1, raw: str = "Red shirt", *backends: str) -> str:
        return cache_entry(company, version, parse_query(raw), backends=backends, slots=1000).key

    assert key() == key(raw="red   SHIRT")
    others = [
        key("other"),
        key(version=2),
        key(raw="red shirts"),
        key(raw="red shirt."),
        key("acme", 1, "Red shirt", "text"),
    ]
    assert len({key(), *others}) == len(others) + 1


def test_a_new_version_takes_the_place_of_the_old_one_and_places_are_bounded() -> None:
    entries = [
        cache_entry("acme", version, parse_query(f"word{number}"), backends=(), slots=7)
        for version in (1, 2)
        for number in range(50)
    ]
    assert {entry.slot for entry in entries} <= set(range(7))
    assert [entry.slot for entry in entries[:50]] == [entry.slot for entry in entries[50:]]


def test_no_page_goes_beyond_the_candidates() -> None:
    assert MOST_HITS <= CANDIDATES
