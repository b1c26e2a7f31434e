"""Keeps secrets out of what is logged: by telling keys, by known shapes, and by the values themselves."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, MutableMapping
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import quote, urlsplit

MASK = "[redacted]"
LONGEST_TEXT = 16_000
"""Characters of one string: of a longer one the beginning and the end stay, as a stack trace tells most there."""
DEEPEST = 6
MOST_ITEMS = 100
"""Of one list or dictionary."""
SHORTEST_VALUE = 6
"""A secret that is shorter is also an ordinary word."""
MOST_VALUES = 500
_SLACK = 1_000
"""Characters dropped beside a cut, so that no half of a secret is left that no pattern knows."""
_WORDS = (
    r"(?:tokens?|secrets?|passw(?:or)?d|passphrase|authorization|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credentials?|signature|cookie)"
)
_SECRET_KEY = re.compile(_WORDS, re.IGNORECASE)
_SCHEME = r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]{0,30}://"
_HEADER = r"(?<![\w-])((?:x-[\w-]{0,40})?(?:authorization|(?:api|access|auth)-(?:key|token)|cookie)"
_PEM = r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)"
_PREFIXES = r"shp(?:at|ca|pa|ss)_|rty_(?:live|test)_|gh[pousr]_|xox[abeprs]-|sk_(?:live|test)_"
# All begin where a word does and have bounded parts: no text makes them slow. The group stays.
_PATTERNS = (
    rf"()(?s:{_PEM})",
    # scheme://user:password@host, scheme://token@host
    rf"{_SCHEME}[^/\s:@]{{0,256}}:)[^/\s]{{1,512}}(?=@)",
    rf"{_SCHEME})[^/\s:@]{{16,512}}(?=@)",
    # Authorization: Bearer …, X-Shopify-Access-Token: …
    r"\b((?:Bearer|Basic|Digest)\s{1,3})[A-Za-z0-9._~+/=-]{6,}",
    rf"{_HEADER}[\"']?\s{{0,3}}[:,]\s{{0,3}}b?[\"']?)(?!\[redacted|Bearer|Basic|Digest)[^\s\"',;]{{4,4096}}",
    # name=value in queries, forms and settings; "name": "value" in JSON and what is made of objects
    rf"(?<![\w.-])([\w.-]{{0,60}}?{_WORDS}[\w-]{{0,20}}=[\"']?)(?!\[redacted)[^\s\"'&;,)}}\]]{{1,4096}}",
    rf"([\"'][\w.-]{{0,60}}?{_WORDS}[\w-]{{0,20}}[\"']\s{{0,3}}:\s{{0,3}}b?[\"'])[^\"']{{1,4096}}",
    # Shopify, Roastify, GitHub, Slack and the like; AWS key ids; JSON web tokens
    rf"\b({_PREFIXES})[A-Za-z0-9_-]{{3,}}",
    r"\b((?-i:AKIA|ASIA))(?-i:[A-Z0-9]{12,})\b",
    r"\b()eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{0,1024})?",
)
_HINT = re.compile(
    rf"://|-----BEGIN|Bearer|Basic|Digest|{_WORDS}|auth|{_PREFIXES}|AKIA|ASIA|eyJ", re.IGNORECASE
)
"""What has none of these matches no pattern: most of what is logged is ids, and the patterns cost much more."""
_COMPILED = tuple(re.compile(pattern, re.IGNORECASE) for pattern in _PATTERNS)
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "REDIS_PASSWORD", "GEMINI_API_KEY")
_URL_VARIABLES = ("DATABASE_URL", "DATABASE_DIRECT_URL", "REDIS_URL")

_values: OrderedDict[str, None] = OrderedDict()


def hide_values(values: Iterable[str]) -> None:
    """Mask these wherever they appear from now on; the MOST_VALUES told last are remembered."""
    for value in values:
        for form in {value, value.strip(), quote(value, safe="")}:
            if len(form) >= SHORTEST_VALUE:
                _values[form] = None
                _values.move_to_end(form)
    while len(_values) > MOST_VALUES:
        _values.popitem(last=False)


def hide_environment() -> None:
    """Mask the secrets that a process is started with."""
    for name in (*_SECRET_VARIABLES, *_URL_VARIABLES):
        hide_secret(os.environ.get(name, ""))


def hide_secret(value: str) -> None:
    """Mask a secret: of an address its password, anything else as a whole."""
    if "://" not in value:
        hide_values([value])
        return
    try:
        password = urlsplit(value).password
    except ValueError:
        return
    if password:
        hide_values([password])


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: masks a whole event, whatever is nested in it, and bounds its size."""
    for key, value in event.items():
        if not key.startswith("_"):  # the logging library's own, which are not rendered
            event[key] = _clean(key, value, DEEPEST)
    return event


def redact_text(text: str, *, limit: int = LONGEST_TEXT) -> str:
    """Mask secrets in a text; of one longer than `limit` characters keep the beginning and the end."""
    if len(text) <= limit:
        return _mask(text)
    head, tail = limit * 3 // 4, limit // 4
    before = _mask(text[: head + _SLACK])[:head]
    after = _mask(text[-(tail + _SLACK) :])[-tail:]
    return f"{before}\n[… {len(text) - head - tail} characters left out …]\n{after}"


@lru_cache(maxsize=1_000)
def _is_telling(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _clean(key: str, value: Any, deepest: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _is_telling(key):
        return MASK
    if isinstance(value, int | float):
        return value
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _clean_items(value, deepest - 1) if deepest else "[too deep]"
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode("utf-8", "replace")
    return redact_text(str(value))


def _clean_items(value: Mapping[Any, Any] | Iterable[Any], deepest: int) -> Any:
    if isinstance(value, Mapping):
        items = islice(value.items(), MOST_ITEMS)
        return {redact_text(str(name)): _clean(str(name), item, deepest) for name, item in items}
    return [_clean("", item, deepest) for item in islice(value, MOST_ITEMS)]


def _mask(text: str) -> str:
    for value in list(_values):
        if value in text:
            text = text.replace(value, MASK)
    if not _HINT.search(text):
        return text
    for pattern in _COMPILED:
        text = pattern.sub(rf"\1{MASK}", text)
    return text
