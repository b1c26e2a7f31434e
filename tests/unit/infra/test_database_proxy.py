"""What the proxy promises its clients, and the budget of connections, are what the processes count on."""

from infra.connection_budget import SERVICE_POOL, WORKER_POOL
from infra.database_proxy import INIT_QUERY
from mocks import run_program

from import_core.adapters.postgres import sessions
from import_gateway import process as gateway
from import_operator import replica as operator
from import_worker import runner
from import_worker.settings import WorkerSettings


def test_the_proxy_sets_the_limits_that_the_processes_look_for():
    assert INIT_QUERY.split("; ") == [
        f"SET statement_timeout = '{sessions.STATEMENT_TIMEOUT_SECONDS}s'",
        f"SET transaction_timeout = '{sessions.TRANSACTION_TIMEOUT_SECONDS}s'",
        "SET TimeZone = 'UTC'",
    ]
    for group in run_program("production").of("aws:rds/proxyDefaultTargetGroup:ProxyDefaultTargetGroup"):
        assert group.inputs["connectionPoolConfig"]["initQuery"] == INIT_QUERY


def test_the_budget_counts_the_pools_as_they_are():
    concurrency = WorkerSettings.model_fields["concurrency"].default
    assert concurrency + runner.SPARE_CONNECTIONS == WORKER_POOL
    assert operator.DATABASE_CONNECTIONS == gateway.DATABASE_CONNECTIONS == SERVICE_POOL
