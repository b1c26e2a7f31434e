"""A whole worker behind a pooler in transaction mode: an import of its own, and none of its sessions bound."""

from pydantic import SecretStr
from transaction_pooler import TransactionPooler

from import_core.domain.jobs import JobState


async def test_an_import_through_a_pooler_binds_no_session(stage) -> None:
    stage.connect("shopify", "generated-20-2")
    server = stage.settings.database_url.get_secret_value()
    limits = "SET statement_timeout = '10s'; SET transaction_timeout = '15s'"
    async with TransactionPooler(server, size=2, init_query=limits) as pooler:
        addresses = {"database_url": SecretStr(pooler.url), "database_direct_url": SecretStr(server)}
        async with stage.worker(**addresses):
            await stage.submit("job-1", "acme-shopify-generated-20-2", removed={"action": "Archive"})
            job = await stage.finished("job-1")
        assert (job.state, job.progress.products_imported) == (JobState.COMPLETED, 20)
        assert pooler.pins == []
        assert pooler.names == {"import-worker local"}
