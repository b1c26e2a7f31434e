"""Whether a host's robots.txt lets a page be read (RFC 9309).

Own code because the standard library's urllib.robotparser takes the first rule that fits and knows no wildcards,
where RFC 9309 (2.2.2, 2.2.3) asks for the longest rule, `*` and `$`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

MAX_BYTES = 512 * 1024
"""More of a robots.txt is not read (RFC 9309, 2.5: at least 500 KiB have to be)."""
MAX_RULES = 5_000
_UNRESERVED = "/?#[]@!$&'()*+,;=:~-._%"
_PRODUCT = re.compile(r"[A-Za-z_-]+")


@dataclass(frozen=True, slots=True)
class RobotsRule:
    """One rule: a path pattern, and whether it opens what it fits."""

    pattern: str
    allows: bool


@dataclass(frozen=True, slots=True)
class Robots:
    """What one user agent may read of a host. The longest rule that fits decides, and of equal ones Allow."""

    rules: tuple[RobotsRule, ...] = ()

    def allows(self, path: str) -> bool:
        """Whether a path, with its query, may be read; /robots.txt always may."""
        asked = _normal(path or "/")
        if asked == "/robots.txt":
            return True
        fitting = [rule for rule in self.rules if _fits(rule.pattern, asked)]
        return max(fitting, key=lambda rule: (len(rule.pattern), rule.allows)).allows if fitting else True


EVERYTHING_ALLOWED = Robots()
"""What a host without a robots.txt says (RFC 9309, 2.3.1.3); one that can't be asked opens nothing (2.3.1.4)."""


def parse_robots(text: str, user_agent: str) -> Robots:
    """The rules for a user agent: those of all groups that name it, else those of `*`. Never fails."""
    product = product_of(user_agent).casefold()
    own: list[RobotsRule] = []
    general: list[RobotsRule] = []
    named = False
    agents: list[str] = []
    in_rules = False
    for line in text.lstrip("\ufeff").splitlines():
        key, separator, value = line.partition("#")[0].partition(":")
        key, value = key.strip().casefold(), value.strip()
        if not separator:
            continue
        if key == "user-agent":
            agents = [*(() if in_rules else agents), value.casefold()]
            named = named or value.casefold() == product
            in_rules = False
        elif key in {"allow", "disallow"}:
            in_rules = True
            rule = RobotsRule(_normal(value), key == "allow")
            if value and product in agents:
                own.append(rule)
            if value and "*" in agents:
                general.append(rule)
    return Robots(tuple((own if named else general)[:MAX_RULES]))


def product_of(user_agent: str) -> str:
    """The product token that robots.txt knows a user agent by: `import-operator` of `import-operator/1 (+…)`."""
    found = _PRODUCT.match(user_agent)
    return found[0] if found else "*"


def _normal(path: str) -> str:
    """Percent-encoded as RFC 9309 2.2.2 compares: ASCII as it is, everything else encoded in capitals."""
    if path.isascii() and "%" not in path:
        return path
    parts = re.split(r"(%2[fF]|%25)", path)
    return "".join(
        part.upper() if index % 2 else quote(unquote_to_bytes(part), safe=_UNRESERVED.replace("%", ""))
        for index, part in enumerate(parts)
    )


def _fits(pattern: str, path: str) -> bool:
    """Whether a pattern with `*` and a closing `$` fits the beginning of a path; in linear steps per star."""
    is_end = pattern.endswith("$")
    first, *rest = (pattern[:-1] if is_end else pattern).split("*")
    if not path.startswith(first):
        return False
    if not rest:
        return not is_end or path == first
    place = len(first)
    *middle, last = rest
    for part in middle:
        found = path.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    if is_end:
        return len(path) - len(last) >= place and path.endswith(last)
    return path.find(last, place) >= 0
