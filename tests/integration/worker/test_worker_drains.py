"""A real worker process that is asked to drain: it finishes what it holds, takes nothing more, and comes back."""

from eventually import eventually

from import_core.adapters.postgres.draining import DrainStore
from import_core.domain.jobs import JobState

CATALOGUE = "tiny-40-1"
POD = "pod-uid-1"


async def drained(stage) -> None:
    async def look() -> bool:
        return (await DrainStore(stage.database).roster([POD]))[POD].drained

    await eventually(look, seconds=60, what="the worker has drained")


async def answered(stage, workers: int) -> None:
    async def look() -> bool:
        rows = await stage.rows("SELECT 1 FROM imports.worker WHERE drained_request IS NOT NULL")
        return len(rows) == workers

    await eventually(look, seconds=60, what=f"{workers} processes have answered")


async def test_a_busy_worker_finishes_takes_nothing_more_and_comes_back(
    stage, start_process, images_may_come
) -> None:
    store = DrainStore(stage.database)
    worker = await start_process(POD_UID=POD)
    provider = stage.connect("shopify", CATALOGUE)
    await stage.submit("job-1", provider)
    await stage.until("job-1", lambda job: job.state is JobState.IN_PROGRESS)
    await store.ask("imports", [POD])

    async def heard() -> bool:
        return "worker.draining" in [event["event"] for event in worker.events()]

    await eventually(heard, what="the worker has heard of it")
    await stage.submit("job-2", provider)
    assert (await worker.get("/readyz"))[0] == 200, "ready while it has a job: others would be stopped first"
    assert not (await store.roster([POD]))[POD].drained
    images_may_come.set()
    await drained(stage)
    job = await stage.job("job-1")
    assert (job.state, job.attempt, job.deaths) == (JobState.COMPLETED, 0, 0)
    assert await worker.get("/readyz") == (503, '{"ready":false,"reason":"drained"}')
    job = await stage.job("job-2")
    assert (job.state, job.attempt) == (JobState.PENDING, 0)

    await store.take_back([POD])
    assert (await stage.finished("job-2")).state is JobState.COMPLETED
    assert (await worker.get("/readyz"))[0] == 200
    # The whole way again, from idle.
    await store.ask("imports", [POD])
    await drained(stage)
    worker.process.terminate()
    assert await worker.ended() == 0


async def test_a_process_that_starts_in_a_pod_that_drains_takes_nothing(stage, start_process) -> None:
    store = DrainStore(stage.database)
    await store.ask("imports", [POD])
    worker = await start_process(POD_UID=POD)
    await stage.submit("job-1", stage.connect("shopify", CATALOGUE))
    await answered(stage, 1)
    assert (await stage.job("job-1")).state is JobState.PENDING
    worker.process.kill()
    await worker.ended()
    again = await start_process(POD_UID=POD)
    await answered(stage, 2)
    assert (await stage.job("job-1")).state is JobState.PENDING
    await store.take_back([POD])
    assert (await stage.finished("job-1")).state is JobState.COMPLETED
    assert "worker.taken_back" in [event["event"] for event in again.events()]
