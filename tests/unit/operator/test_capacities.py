"""What the workers of a queue can take: by how many are ready, of which a neighbour's absence says nothing."""

from typing import Any

from pydantic import SecretStr

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.draining import DrainStore
from import_core.adapters.postgres.jobs import JobStore
from import_operator.draining import Drains
from import_operator.loops.scale import ScaleLoop
from import_operator.loops.tell import TellLoop
from import_operator.settings import OperatorSettings
from import_operator.state import OperatorState

QUEUE = "product-imports"


class Fleet:
    """A pool and its Deployment, as they were last seen."""

    def __init__(self, *, minimum: int = 2, concurrency: int = 5) -> None:
        self.state = OperatorState("imports")
        kube = KubeClient.__new__(KubeClient)  # nothing here calls the API server
        settings = OperatorSettings(
            database_url=SecretStr("postgresql://"), redis_url=SecretStr("redis://"), _env_file=None
        )
        database = Database("postgresql://", application="tests")
        jobs, drains = JobStore(database), Drains(self.state, DrainStore(database), kube)
        tell = TellLoop(kube, namespace="imports", instance="tests")
        self.loop = ScaleLoop(self.state, jobs, kube, tell, settings=settings, drains=drains)
        self.version = 0
        self.state.pools.put(
            {
                "metadata": {
                    "name": "workers",
                    "namespace": "imports",
                    "uid": "pool",
                    "generation": 1,
                    "resourceVersion": "1",
                },
                "spec": {
                    "concurrency": concurrency,
                    "scaling": {"minReplicas": minimum},
                    "template": {"spec": {"containers": [{"name": "worker", "image": "import-worker:dev"}]}},
                },
            }
        )

    def seen(self, *, ready: int, replicas: int) -> int:
        """Jobs that may be handed over once the Deployment looks like this."""
        self.version += 1
        deployment: dict[str, Any] = {
            "metadata": {
                "name": "workers-workers",
                "uid": "deployment",
                "ownerReferences": [{"uid": "pool"}],
                "resourceVersion": str(self.version),
            },
            "spec": {"replicas": replicas},
            "status": {"readyReplicas": ready} if ready else {},
        }
        self.state.deployments.put(deployment)
        return self.loop.capacities()[QUEUE].jobs


async def test_window_follows_ready_workers_and_the_minimum() -> None:
    fleet = Fleet()
    assert fleet.loop.capacities()[QUEUE].jobs == 10, "the minimum, while no Deployment is known"
    assert fleet.seen(ready=0, replicas=2) == 10
    assert fleet.seen(ready=8, replicas=8) == 40


async def test_window_stays_when_all_workers_turn_unready_at_once() -> None:
    fleet = Fleet()
    fleet.seen(ready=8, replicas=8)
    assert fleet.seen(ready=3, replicas=8) == 40
    assert fleet.seen(ready=0, replicas=8) == 40


async def test_window_falls_with_the_replicas() -> None:
    fleet = Fleet()
    fleet.seen(ready=8, replicas=8)
    assert fleet.seen(ready=8, replicas=3) == 15
    assert fleet.seen(ready=0, replicas=0) == 10
