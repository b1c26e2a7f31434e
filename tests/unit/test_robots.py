"""robots.txt as RFC 9309 has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.robots import MAX_RULES, Robots, RobotsRule, parse_robots, product_of

AGENT = "import-operator (+https://imports.avnz.io)"


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("", "/c/1", True),
        ("User-agent: *\nDisallow: /", "/c/1", False),
        ("User-agent: *\nDisallow:", "/c/1", True),
        ("User-agent: *\nDisallow: /", "/robots.txt", True),
        ("User-agent: *\nDisallow: /c/", "/p/1", True),
        # The longest rule decides, whatever its place, and of equal ones Allow.
        ("User-agent: *\nDisallow: /c\nAllow: /c/1", "/c/1", True),
        ("User-agent: *\nAllow: /c/1\nDisallow: /c", "/c/2", False),
        ("User-agent: *\nDisallow: /c/1\nAllow: /c/1", "/c/1", True),
        # A group of our own goes before the general one.
        ("User-agent: *\nDisallow: /\n\nUser-agent: import-operator\nAllow: /c/", "/c/1", True),
        ("User-agent: Import-Operator\nDisallow: /c/\nUser-agent: *\nAllow: /", "/c/1", False),
        ("User-agent: import-operator\n\nUser-agent: *\nDisallow: /", "/c/1", False),
        ("User-agent: other\nUser-agent: import-operator\nDisallow: /c", "/c/1", False),
        ("User-agent: import-operator-2\nDisallow: /", "/c/1", True),
        ("User-agent: import-operator\nAllow: /a\nUser-agent: import-operator\nDisallow: /c", "/c/1", False),
        # Wildcards.
        ("User-agent: *\nDisallow: /*/private", "/c/private/1", False),
        ("User-agent: *\nDisallow: /*.pdf$", "/c/1.pdf", False),
        ("User-agent: *\nDisallow: /*.pdf$", "/c/1.pdf?x", True),
        ("User-agent: *\nDisallow: /c$", "/c", False),
        ("User-agent: *\nDisallow: /c$", "/c/1", True),
        ("User-agent: *\nDisallow: /c*", "/c?page=2", False),
        # Encodings are compared as they mean the same.
        ("User-agent: *\nDisallow: /café", "/caf%C3%A9", False),
        ("User-agent: *\nDisallow: /caf%c3%a9", "/café", False),
        ("\ufeffuser-agent : * # all\ndisallow : /c # no\nSitemap: /x", "/c/1", False),
        ("Disallow: /", "/c/1", True),
    ],
)
def test_a_page_may_be_read_or_not(text: str, path: str, allowed: bool) -> None:
    assert parse_robots(text, AGENT).allows(path) is allowed


def test_the_product_is_the_first_word_of_the_user_agent() -> None:
    assert product_of(AGENT) == "import-operator"
    assert product_of("Mozilla/5.0 (X11)") == "Mozilla"
    assert product_of("42") == "*"


@given(st.text(max_size=400), st.text(max_size=50))
def test_nothing_makes_it_fail(text: str, path: str) -> None:
    robots = parse_robots("User-agent: *\n" + text, AGENT)
    assert robots.allows("/" + path) in {True, False}
    assert len(robots.rules) <= MAX_RULES


@given(st.lists(st.sampled_from(["a", "b", "*"]), max_size=12), st.text("ab", max_size=30), st.booleans())
def test_a_pattern_fits_as_a_regular_expression_does(parts: list[str], path: str, is_end: bool) -> None:
    import re

    pattern = "/" + "".join(parts) + ("$" if is_end else "")
    expression = "/" + "".join(".*" if part == "*" else part for part in parts) + ("$" if is_end else "")
    fits = re.match(expression, "/" + path) is not None
    assert Robots((RobotsRule(pattern, False),)).allows("/" + path) is not fits
