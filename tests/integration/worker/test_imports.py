"""Whole imports through a real worker: message, claim, pipeline, end."""

import pytest

from import_core.domain.jobs import JobState


@pytest.mark.parametrize(("kind", "catalogue"), [("shopify", "liquid"), ("roastify", "tiny-12-2")])
async def test_a_sample_catalogue_is_imported(stage, kind: str, catalogue: str) -> None:
    provider = stage.connect(kind, catalogue)
    await stage.submit("job-1", provider)
    async with stage.worker():
        job = await stage.finished("job-1")
    assert (job.state, job.message, job.claimed_by) == (JobState.COMPLETED, None, None)
    count = stage.samples.account(kind, catalogue).catalogue.count()
    assert job.progress.products_total == job.progress.products_imported == count
    assert job.progress.percent == 100
