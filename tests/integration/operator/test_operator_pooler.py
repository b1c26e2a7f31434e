"""An operator behind a pooler in transaction mode: a job's whole way, and none of its sessions bound."""

from operator_world import Cluster, Operators, TakingWorker
from transaction_pooler import TransactionPooler


async def test_a_jobs_way_through_a_pooler_binds_no_session(
    cluster: Cluster, operators: Operators, worker: TakingWorker, database_url: str
) -> None:
    limits = "SET statement_timeout = '10s'; SET transaction_timeout = '15s'"
    async with TransactionPooler(database_url, size=2, init_query=limits) as pooler:
        operator = await operators.leading(DATABASE_URL=pooler.url, DATABASE_DIRECT_URL=database_url)
        await cluster.provider()
        await cluster.pool()
        await cluster.job("autumn")
        claim = await worker.take()
        # The projector hears of it by LISTEN, past the pooler.
        await cluster.phase("autumn", "Running")
        await worker.finish(claim)
        await cluster.phase("autumn", "Succeeded")
        assert await operator.stop() == 0
        assert pooler.pins == []
        assert pooler.names == {"import-operator"}
        assert not operator.logged("database.pooler_without_limits")
