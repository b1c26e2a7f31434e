"""When a cron expression comes round in a time zone: what a CronJob accepts, and each local time once.

A time that the clock leaps over comes at the end of the leap; one that the clock shows twice comes once, at its
first time. Expressions with a star in minute or hour follow real time instead. So does Debian's cron, and it is
why an expression here never loses or repeats a day's run (docs/decisions/0019-schedules.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

SHORTHANDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_DAYS = "sun mon tue wed thu fri sat"
_FIRST_LOOK = timedelta(minutes=2)
_LONGEST_LOOK = timedelta(days=366 * 9)
"""29 February comes every four years, but for one time in most centuries."""


def _either_case(words: str) -> str:
    return "|".join("".join(f"[{letter.upper()}{letter}]" for letter in word) for word in words.split())


def _field(number: str) -> str:
    element = rf"(\*|\?|({number})(-({number}))?)(/[1-9][0-9]{{0,2}})?"
    return f"{element}(,{element})*"


EXPRESSION_PATTERN = "^({}|{})$".format(
    "|".join(SHORTHANDS),
    " +".join(
        _field(number)
        for number in (
            "[0-5]?[0-9]",
            "[01]?[0-9]|2[0-3]",
            "0?[1-9]|[12][0-9]|3[01]",
            f"0?[1-9]|1[0-2]|{_either_case(_MONTHS)}",
            f"[0-7]|{_either_case(_DAYS)}",
        )
    ),
)
"""What the API server can check: the form, and the numbers' bounds."""


def time_zone(name: str) -> tzinfo:
    """The zone of that name in the IANA database; raises ValueError where there is none."""
    if name in {"UTC", "Etc/UTC"}:
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise ValueError("is no time zone of the IANA database, such as Europe/Berlin") from error


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone. All times in and out are aware; those that come out are in UTC."""

    expression: str
    zone: tzinfo

    @classmethod
    def parse(cls, expression: str, zone: tzinfo = UTC) -> Cron:
        """Read five fields, or a shorthand such as @daily; raises ValueError where it never comes round."""
        cron = cls(SHORTHANDS.get(expression, expression).replace("?", "*"), zone)
        if len(cron.expression.split()) != 5:
            raise ValueError("must have five fields: minute, hour, day of month, month, day of week")
        try:
            next(cron.times(datetime(2000, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ValueError(f"is no cron expression: {str(error).lower()}") from error
        except StopIteration as error:
            raise ValueError("never comes round") from error
        return cron

    def times(self, after: datetime) -> Iterator[datetime]:
        """Its times after that moment, in ascending order."""
        last = after
        for local in CronSim(self.expression, after.astimezone(self.zone)):
            time = local.astimezone(UTC)
            # Several local times may end at the same moment, and those of a repeated hour are past.
            if time > last:
                last = time
                yield time

    def next(self, after: datetime) -> datetime:
        """The first time after that moment."""
        return next(self.times(after))

    def latest(self, *, after: datetime, until: datetime) -> datetime | None:
        """The last time after the one moment and not after the other; its cost does not grow with their distance."""
        look = _FIRST_LOOK
        while after < until:
            start = max(after, until - look)
            found = None
            for time in self.times(start):
                if time > until:
                    break
                found = time
            if found is not None or start == after or look > _LONGEST_LOOK:
                return found
            look *= 4
        return None

    def count(self, *, after: datetime, before: datetime, at_most: int) -> int:
        """How often it comes between two moments, both left out; counted up to `at_most`."""
        count = 0
        for time in islice(self.times(after), at_most):
            if time >= before:
                break
            count += 1
        return count
