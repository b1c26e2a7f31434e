"""Descriptions in HTML, as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.markup import plain_text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("no markup", "no markup"),
        ("<p>Soft&nbsp;<b>cotton</b></p><style>p {color: red}</style>", "Soft cotton"),
        ("<script>if (a < b) alert('x')</script><!-- note -->3 < 5 &amp; more", "3 < 5 & more"),
        ("end<br/>of <unclosed", "end of"),
        ("<div>One<br/>two</div><template>no</template><p>three &lt;4", "One two three <4"),
        ("5 < 6 and 7 > 3 & so on", "5 < 6 and 7 > 3 & so on"),
        ("<title>not shown</title>\n <h1>shown</h1>", "shown"),
    ],
)
def test_markup_is_taken_away_and_what_is_not_shown_with_it(markup: str, text: str) -> None:
    assert plain_text(markup) == text


@given(st.text(alphabet="<>/!-&ascript \"'=;\n\u00a0", max_size=200) | st.text(max_size=500))
def test_any_description_gives_one_line(markup: str) -> None:
    text = plain_text(markup)
    assert text == " ".join(text.split())


@pytest.mark.parametrize("hostile", ["<script", "<!--", "<a <", "</", "&#", "<" * 7])
def test_hostile_descriptions_are_read(hostile: str) -> None:
    """Reading is linear: a description of this size would else take hours."""
    assert len(plain_text(hostile * 100_000)) <= 2 * len(hostile) * 100_000
