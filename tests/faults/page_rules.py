"""The checker's rules for pages: who wrote them, in which order, how many, and what came with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from faults.audit import Audit, PageRecord
from faults.expected import FINAL_STATES, Expectation, JobRecord
from faults.load import Load


def check_pages(audit: Audit) -> Iterator[str]:
    """Each page is written under a claim that stands, by its holder, and counters only grow."""
    before: dict[str, tuple[int, int]] = {}
    for page in audit.pages:
        if page.claim_id is None:
            yield f"{page.writer} wrote page {page.pages} of job {page.job_id}, which nobody held"
        elif page.writer != f"import-worker {page.pod}"[:63]:
            yield f"{page.writer} wrote page {page.pages} of job {page.job_id}, which {page.pod} held"
        now = (page.pages, _products_done(page.progress))
        earlier = before.get(page.job_id, (0, 0))
        if now[0] < earlier[0] or now[1] < earlier[1]:
            yield f"job {page.job_id} went back from (pages, products) {earlier} to {now}"
        elif now[0] == earlier[0] and now[1] > earlier[1]:
            yield f"job {page.job_id} counts {now[1]} products at page {now[0]}, before they were committed"
        before[page.job_id] = now


def first_runs(audit: Audit) -> list[PageRecord]:
    """The pages that were written before their job was reopened, if it was."""
    reopened: dict[str, datetime] = {}
    for change in audit.states:
        if change.before in FINAL_STATES:
            reopened.setdefault(change.job_id, change.at)
    return [page for page in audit.pages if page.job_id not in reopened or page.at < reopened[page.job_id]]


def check_page_numbers(audit: Audit, *, repeats: bool = False) -> Iterator[str]:
    """The pages of a job are numbered one after the other, also over claims, and none is written twice.

    `repeats`: the claim that wrote a page may write it once more, as it was.
    """
    before: dict[str, PageRecord] = {}
    for page in first_runs(audit):
        last = before.get(page.job_id)
        same = last is not None and (last.pages, last.claim_id, last.progress) == (
            page.pages,
            page.claim_id,
            page.progress,
        )
        if page.pages != (last.pages if last else 0) + 1 and not (repeats and same):
            yield f"job {page.job_id} wrote page {page.pages} after page {last.pages if last else 0}"
        before[page.job_id] = page


def check_page_counts(
    jobs: Iterable[JobRecord], audit: Audit, load: Load, expected: Expectation
) -> Iterator[str]:
    """A job has as many pages as its catalogue, however many claims wrote them; more only with short pages."""
    written = Counter(job_id for job_id, _ in {(page.job_id, page.pages) for page in first_runs(audit)})
    for job in jobs:
        if job.status != "COMPLETED" or job.name not in load.jobs:
            continue
        pages = load.jobs[job.name].pages
        if job.pages != written[job.id] and job.name not in expected.reopened:
            yield f"{job.name} counts {job.pages} pages; {written[job.id]} were written"
        elif written[job.id] < pages or (written[job.id] > pages and not expected.short_pages):
            yield f"{job.name} has {written[job.id]} pages; its catalogue has {pages}"


def _products_done(progress: Mapping[str, Any]) -> int:
    return sum(int(progress.get(f"products_{how}") or 0) for how in ("imported", "unchanged", "failed"))


def check_items(audit: Audit, companies: Mapping[str, str]) -> Iterator[str]:
    """Each product and image row is written once, in the transaction of a page of a job of its company.

    `companies`: whose each job is, by the job's id.
    """
    owners = {page.transaction: companies.get(page.job_id) for page in audit.pages}
    for item in audit.items:
        if item.transaction not in owners:
            yield f"{item.writer} wrote {item.entity} {item.id} ({item.operation}) outside of any page"
        elif item.company != owners[item.transaction]:
            yield f"{item.entity} {item.id} of {item.company} was written by a job of {owners[item.transaction]}"
        if item.operation != "INSERT":
            yield f"{item.entity} {item.id} of {item.company} was written again: {item.operation} by {item.writer}"
