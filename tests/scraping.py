"""Reads what a process tells Prometheus."""

from collections.abc import Iterator

import httpx2
from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraped:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.series: Series = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """The series with exactly these labels; None: there is none."""
        return self.series.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """The sum of all series that have these labels among theirs."""
        return sum(value for _, value in self._matching(name, labels))

    def has(self, name: str, **labels: str) -> bool:
        """Whether any series has these labels among its own."""
        return next(self._matching(name, labels), None) is not None

    def _matching(self, name: str, labels: dict[str, str]) -> Iterator[tuple[str, float]]:
        wanted = labels.items()
        return (
            (n, v) for (n, found), v in self.series.items() if n == name and wanted <= dict(found).items()
        )


async def scrape(url: str) -> Scraped:
    """Ask a process, as Prometheus does."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.get(url)
    assert answer.status_code == 200, answer.text
    return Scraped(answer.text)
