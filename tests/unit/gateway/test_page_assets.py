"""The page's files hold together, and hold nothing that its Content-Security-Policy would stop."""

import re

import pytest

from import_gateway.page.assets import Asset, is_current, load_assets

VALUES = {"namespace": "<b>&", "audience": '"x"', "heartbeat": "15"}
ASSETS = load_assets(VALUES)
SCRIPTS = sorted(name for name in ASSETS if name.endswith(".js"))
INDEX = ASSETS["index.html"].body.decode()
DOCUMENTS = {name: ASSETS[name].body.decode() for name in ASSETS if name.endswith(".html")}
# Ways from text to markup or code; textContent is the only way in.
UNSAFE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|document\.write|DOMParser|setHTML|srcdoc"
    r"|\beval\b|new Function|setTimeout\(\s*[\"'`]|javascript:|setAttribute\(\"(?:style|on|href|src)"
)


def text(name: str) -> str:
    return ASSETS[name].body.decode()


@pytest.mark.parametrize("name", SCRIPTS)
def test_text_becomes_neither_markup_nor_code(name: str) -> None:
    assert UNSAFE.findall(text(name)) == []


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_nothing_comes_from_elsewhere(name: str) -> None:
    found = set(re.findall(r"https?://[^\s\"'<]+", text(name)))
    assert found <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_no_document_has_an_inline_script_style_or_handler(document: str) -> None:
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", document) == []


def test_what_the_index_shows_of_settings_is_escaped() -> None:
    assert "&lt;b&gt;&amp;" in INDEX
    assert "&quot;x&quot;" in INDEX
    assert "<b>&" not in INDEX


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_module_and_name_that_is_imported_is_there(name: str) -> None:
    for names, module in re.findall(r'import \{([^}]+)\} from "\./([\w.]+)"', text(name)):
        exported = set(re.findall(r"export (?:async )?(?:function\*?|class|const) (\w+)", text(module)))
        wanted = {each.strip() for each in names.split(",")}
        assert wanted <= exported
        assert all(len(re.findall(rf"\b{each}\b", text(name))) > 1 for each in wanted), f"unused in {name}"


def test_every_element_that_scripts_look_for_is_in_a_document() -> None:
    ids = set(re.findall(r'\bid="([\w-]+)"', "".join(DOCUMENTS.values())))
    for name in SCRIPTS:
        looked_for = set(re.findall(r'(?:byId|fromTemplate)\("([\w-]+)"\)', text(name)))
        assert looked_for <= ids, name
    assert set(re.findall(r'(?:href|src)="/page/([\w.-]+)"', "".join(DOCUMENTS.values()))) <= set(ASSETS)


def test_every_label_and_description_leads_somewhere() -> None:
    ids = re.findall(r'\bid="([\w-]+)"', INDEX)
    assert len(ids) == len(set(ids))
    named = re.findall(r'(?:\bfor|aria-labelledby|aria-describedby|\blist)="([\w-]+)"', INDEX)
    assert set(named) <= set(ids)


def test_python_is_not_served() -> None:
    assert {name.rpartition(".")[2] for name in ASSETS} == {"html", "js", "css", "svg"}


def test_a_browser_that_has_the_file_is_told_so() -> None:
    asset = Asset(b"", "text/css", '"tag"')
    assert is_current(asset, '"tag"')
    assert is_current(asset, 'W/"old", W/"tag"')
    assert is_current(asset, "*")
    assert not is_current(asset, '"tag2"')
    assert not is_current(asset, None)


def test_the_tag_follows_the_content() -> None:
    other = load_assets({**VALUES, "namespace": "other"})
    assert other["index.html"].etag != ASSETS["index.html"].etag
    assert other["app.js"].etag == ASSETS["app.js"].etag
