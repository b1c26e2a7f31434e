"""Reads PostgreSQL, S3, Redis and the API server after a scenario, and says in words what is not as promised.

Nothing is asked of the processes that were broken. Each function looks at one promise and returns its
findings; `check` runs them all. docs/reference/guarantees.md names the promises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from bullmq import Queue
from catalogue_comparison import (
    IMAGES,
    PRODUCTS,
    compare_images,
    compare_objects,
    compare_products,
    keys_of,
)

from faults.audit import Audit, read_audit
from faults.expected import BLAMED_SHARE, FINAL_STATES, Expectation, JobRecord
from faults.load import Load
from faults.page_rules import check_items, check_page_counts, check_page_numbers, check_pages
from faults.statuses import History, StatusRecorder, backward_steps, backward_steps_of_two_runs
from faults.step_checker import Steps, check_steps
from faults.world import FaultWorld
from import_core.adapters.redis.queue import QUEUE_PREFIX
from import_core.domain.failures import DEATHS_UNTIL_SUSPECTED
from import_core.domain.jobs import DEFAULT_QUEUE
from import_core.domain.steps import StepKind

LONGEST_REPORT = 40
"""Findings that are written out; more are counted."""

QUEUES = (DEFAULT_QUEUE, *(kind.value for kind in StepKind))
JOBS = """
SELECT j.id, j."objectName", j."companyId", j.status, coalesce(j.attempt, 0), coalesce(j.deaths, 0),
       coalesce(j.dispatch, 0), j."completedAt", j."failureReason", j."errorMessage", c.progress, c.pages
FROM "ProductImportJob" j LEFT JOIN imports.checkpoint c ON c.job_id = j.id
WHERE j."objectName" = ANY(%s) ORDER BY j."objectName"
"""
ORPHANS = """
SELECT 'a claim without a job in progress: ' || k.job_id FROM imports.claim k
LEFT JOIN "ProductImportJob" j ON j.id = k.job_id WHERE j.status IS DISTINCT FROM 'IN_PROGRESS'
UNION ALL
SELECT 'a job in progress without a claim: ' || j.id FROM "ProductImportJob" j
LEFT JOIN imports.claim k ON k.job_id = j.id WHERE j.status = 'IN_PROGRESS' AND k.job_id IS NULL
UNION ALL
SELECT 'a checkpoint without a job: ' || c.job_id FROM imports.checkpoint c
LEFT JOIN "ProductImportJob" j ON j.id = c.job_id WHERE j.id IS NULL
UNION ALL
SELECT DISTINCT 'item errors without a job: ' || e.job_id FROM imports.item_error e
LEFT JOIN "ProductImportJob" j ON j.id = e.job_id WHERE j.id IS NULL
UNION ALL
SELECT DISTINCT 'seen products of a job that does not run: ' || s.job_id FROM imports.seen_product s
LEFT JOIN "ProductImportJob" j ON j.id = s.job_id
WHERE j.status IS NULL OR j.status NOT IN ('PENDING', 'IN_PROGRESS')
"""
ITEM_ERRORS = """
SELECT job_id, external_id, stage, reason, message FROM imports.item_error WHERE job_id = ANY(%s)
"""


@dataclass(frozen=True)
class Checked:
    """What was found: `findings` in words, none when every promise held, and what they were found in."""

    findings: tuple[str, ...]
    audit: Audit
    jobs: tuple[JobRecord, ...]
    steps: Steps

    def assert_clean(self) -> None:
        """Raise AssertionError with all findings, unless there is none."""
        shown = list(self.findings[:LONGEST_REPORT])
        if len(self.findings) > len(shown):
            shown.append(f"… and {len(self.findings) - len(shown)} more")
        assert not self.findings, "\n".join([f"{len(self.findings)} findings:", *shown])


async def check(
    world: FaultWorld, load: Load, recorder: StatusRecorder, expectation: Expectation | None = None
) -> Checked:
    """Look at everything. The scenario must have come to rest: see `Scenario.settle`."""
    expected = expectation or Expectation()
    async with world.database() as connection:
        cursor = await connection.execute(JOBS, (list(load.jobs),))
        jobs = [JobRecord(*row) for row in await cursor.fetchall()]
        audit = await read_audit(
            connection, [job.id for job in jobs], [company.id for company in load.companies]
        )
    completed = [job for job in jobs if job.status == "COMPLETED"]
    complete = {company.id for company in load.companies} & {job.company for job in completed}
    steps = await check_steps(world, load, recorder, expected, completed=completed)
    batches = [batch.job for batch in steps.batches]
    findings = [
        *check_jobs(jobs, load, expected),
        *check_blamed(jobs, audit),
        *check_tries(jobs, audit, expected),
        *check_statuses(jobs, recorder.histories, expected),
        *check_claims(audit),
        *check_states(audit, {job.id for job in jobs if job.name in expected.reopened}),
        *check_pages(audit),
        *check_page_numbers(audit, repeats=expected.commits_repeated),
        *check_page_counts(jobs, audit, load, expected),
        *check_items(audit, {job.id: job.company for job in jobs}),
        *await check_catalogues(world, load, complete),
        *await check_orphans(world, jobs),
        *await check_queue(world, {job.id: job.name for job in (*jobs, *batches)}),
        *steps.findings,
        *check_tries(batches, steps.audit, expected),
        *check_claims(steps.audit),
        *check_states(steps.audit),
    ]
    return Checked(tuple(findings), audit, tuple(jobs), steps)


def check_jobs(jobs: Iterable[JobRecord], load: Load, expected: Expectation) -> Iterator[str]:
    """Every job that was acknowledged has one row, and that row has ended well."""
    rows: dict[str, list[JobRecord]] = {}
    for job in jobs:
        rows.setdefault(job.name, []).append(job)
    for name, company in load.jobs.items():
        found = rows.get(name, [])
        if len(found) != 1:
            yield f"{name} has {len(found)} rows" if found else f"{name} is lost: it has no row"
            continue
        job = found[0]
        if name in expected.cancelled:
            if job.status != "CANCELLED":
                yield f"{name} was deleted and is {job.status}"
        elif job.status == "FAILED" and job.reason == "WorkerKilled" and expected.killed_alone:
            if job.deaths <= DEATHS_UNTIL_SUSPECTED:
                yield f"{name} was blamed after {job.deaths} deaths"
        elif job.status != "COMPLETED":
            yield f"{name} is {job.status} ({job.reason}: {job.message})"
        else:
            yield from _completed(job, company.products, company.images)


def _completed(job: JobRecord, products: int, images: int) -> Iterator[str]:
    if job.completed_at is None:
        yield f"{job.name} is COMPLETED and has no completedAt"
    progress = job.progress or {}
    done = sum(int(progress.get(f"products_{how}") or 0) for how in ("imported", "unchanged"))
    if (progress.get("products_total"), done) != (products, products):
        yield f"{job.name} counts {done} of {progress.get('products_total')} products; the source has {products}"
    stored = sum(int(progress.get(f"images_{how}") or 0) for how in ("imported", "unchanged"))
    if stored != products * images:
        yield f"{job.name} counts {stored} images; the source has {products * images}"
    if job.pages is None or job.pages < 1:
        yield f"{job.name} is COMPLETED without a checkpoint"


def check_blamed(jobs: Collection[JobRecord], audit: Audit) -> Iterator[str]:
    """Few jobs are blamed for their workers' deaths, and each ran alone when the last of them died."""
    blamed = [job for job in jobs if job.status == "FAILED" and job.reason == "WorkerKilled"]
    if len(blamed) > BLAMED_SHARE * len(jobs):
        yield f"{len(blamed)} of {len(jobs)} jobs were blamed for their workers' deaths"
    last = {claim.job_id: claim for claim in audit.claims}
    for job in blamed:
        if job.id not in last or not last[job.id].suspected:
            yield f"{job.name} was blamed although it was not alone on its worker"


def check_tries(jobs: Iterable[JobRecord], audit: Audit, expected: Expectation) -> Iterator[str]:
    """Tries count a job's own failures only, deaths those of its workers only."""
    cut = Counter(claim.job_id for claim in audit.claims if claim.was_cut)
    for job in jobs:
        if job.attempt > expected.most_tries:
            told = [state.message for state in audit.states if state.job_id == job.id and state.message]
            yield f"{job.name} has used up {job.attempt} tries: {'; '.join(told)}"
        if job.deaths > cut[job.id]:
            yield f"{job.name} counts {job.deaths} deaths; {cut[job.id]} of its claims were cut"
        if expected.deaths_counted and job.name not in expected.cancelled and job.deaths < cut[job.id]:
            yield f"{job.name} counts {job.deaths} deaths; {cut[job.id]} of its claims were cut"


def check_statuses(
    jobs: Iterable[JobRecord], histories: Mapping[str, History], expected: Expectation
) -> Iterator[str]:
    """The API server says what the row says, and never said less than before."""
    phases = {"COMPLETED": "Succeeded", "FAILED": "Failed", "CANCELLED": "Cancelled"}
    for job in jobs:
        history = histories.get(job.id)
        if history is None:
            yield f"{job.name}: no object with the row's id {job.id} was seen"
            continue
        if job.name in expected.cancelled:
            continue
        if history.phase != phases.get(job.status):
            yield f"{job.name} is {job.status}; its object says {history.phase or 'nothing'}"
        yield from _status_counters(job, history)
        if job.name in expected.reopened:
            yield from backward_steps_of_two_runs(history)
        else:
            yield from backward_steps(history)


def _status_counters(job: JobRecord, history: History) -> Iterator[str]:
    if job.status != "COMPLETED" or history.phase != "Succeeded":
        return
    shown, counted = history.statuses[-1].get("progress") or {}, job.progress or {}
    for name, counter in (
        ("productsTotal", "products_total"),
        ("productsImported", "products_imported"),
        ("productsUnchanged", "products_unchanged"),
        ("imagesImported", "images_imported"),
    ):
        if int(shown.get(name) or 0) != int(counted.get(counter) or 0):
            yield f"{job.name}: its object shows {name} {shown.get(name)}, the row {counted.get(counter)}"


def check_claims(audit: Audit) -> Iterator[str]:
    """One hand-over is taken by one worker, and no two hold a job at the same time."""
    for (job_id, dispatch), number in Counter((c.job_id, c.dispatch) for c in audit.claims).items():
        if number > 1:
            yield f"hand-over {dispatch} of job {job_id} was claimed {number} times"
    last: dict[str, datetime | None] = {}
    for claim in audit.claims:
        if claim.job_id in last:
            ended = last[claim.job_id]
            if ended is None or ended > claim.taken_at:
                yield f"job {claim.job_id} was claimed while another claim stood"
        last[claim.job_id] = claim.ended_at
    for job_id, ended in last.items():
        if ended is None:
            yield f"job {job_id} is still claimed"


def check_states(audit: Audit, reopened: Collection[str] = ()) -> Iterator[str]:
    """A job ends once, and an end is never taken back, unless somebody asked for it."""
    ends: Counter[str] = Counter()
    for change in audit.states:
        if change.before in FINAL_STATES and change.job_id not in reopened:
            yield f"job {change.job_id} went from {change.before} to {change.after} ({change.writer})"
        ends[change.job_id] += change.after in FINAL_STATES
    for job_id, number in ends.items():
        if number > (2 if job_id in reopened else 1):
            yield f"job {job_id} ended {number} times"


async def check_catalogues(world: FaultWorld, load: Load, complete: set[str]) -> list[str]:
    """Products, image rows and objects of every company are those of its source, each exactly once.

    `complete`: companies of which at least one job has completed; of the others nothing can be said.
    """
    findings: list[str] = []
    for kind in ("shopify", "roastify"):
        companies = [c.id for c in load.companies if c.kind == kind]
        products = await world.rows(PRODUCTS, companies, kind)
        images = await world.rows(IMAGES, companies, kind)
        for company in companies:
            if company not in complete:
                continue
            own_products = [row for row in products if row[0] == company]
            own_images = [row for row in images if row[0] == company]
            wanted = load.wanted[company]
            found = [
                *compare_products(own_products, wanted, kind),
                *compare_images(own_images, wanted, kind),
                *await compare_objects(world.store(), own_images, wanted),
            ]
            stored = set(await world.objects(f"images/{company}"))
            found += [f"object {key} belongs to no image" for key in sorted(stored - keys_of(own_images))]
            findings += [f"{company}: {finding}" for finding in found]
    return findings


async def check_orphans(world: FaultWorld, jobs: Iterable[JobRecord]) -> list[str]:
    """Nothing is left that belongs to nothing, and no product failed."""
    findings = [str(row[0]) for row in await world.rows(ORPHANS)]
    errors = await world.rows(ITEM_ERRORS, [job.id for job in jobs])
    return findings + [
        f"job {row[0]}: product {row[1]} failed in {row[2]}: {row[3]}, {row[4]}" for row in errors
    ]


async def check_queue(world: FaultWorld, names: Mapping[str, str]) -> list[str]:
    """No worker will get a message of these jobs (names by id), and Redis keeps nothing of them for ever.

    A message that its worker could not acknowledge stays active until BullMQ's lock on it has run out; see
    `active_messages`.
    """
    findings = []
    active = set(await active_messages(world, names))
    async with world.redis() as client:
        for queue in QUEUES:
            keys = f"{QUEUE_PREFIX}:{queue}"
            for part in ("wait", "paused"):
                findings += [
                    f"message {message!r} of {names[_job_of(message)]} is left in {part} of {queue}"
                    for message in await client.lrange(f"{keys}:{part}", 0, -1)
                    if _job_of(message) in names
                ]
            for part in ("completed", "failed", "delayed", "prioritized"):
                number = await client.zcard(f"{keys}:{part}")
                if number:
                    findings.append(f"Redis keeps {number} messages in {part} of {queue}")
            async for key in client.scan_iter(f"{keys}:*-*", count=1000):
                message = str(key).removeprefix(f"{keys}:").removesuffix(":lock")
                if _job_of(message) in names and (queue, message) not in active:
                    findings.append(f"key {key!r} is left in Redis")
    return findings


async def active_messages(world: FaultWorld, names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Queues and messages of these jobs that were taken and not acknowledged."""
    async with world.redis() as client:
        return [
            (queue, str(message))
            for queue in QUEUES
            for message in await client.lrange(f"{QUEUE_PREFIX}:{queue}:active", 0, -1)
            if _job_of(message) in names
        ]


async def expire_locks(world: FaultWorld, messages: Iterable[tuple[str, str]]) -> None:
    """Let five minutes pass for BullMQ's locks on these messages, and the two checks that find them stalled."""
    of_queues: dict[str, list[str]] = {}
    for queue, message in messages:
        of_queues.setdefault(queue, []).append(message)
    async with world.redis() as client:
        for queue, found in of_queues.items():
            keys = f"{QUEUE_PREFIX}:{queue}"
            await client.delete(*(f"{keys}:{message}:lock" for message in found))
            backend = Queue(queue, {"connection": client, "prefix": QUEUE_PREFIX}).backend
            for _ in range(2):
                await client.delete(f"{keys}:stalled-check")
                await backend.moveStalledJobsToWait(1, 1)


def _job_of(message: object) -> str:
    return str(message).rpartition("-")[0]
