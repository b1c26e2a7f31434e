"""Rollouts by a real operator where no node runs the pods: how they begin, what is kept of them, and how they end."""

import json
from typing import Any

from eventually import eventually
from operator_world import Cluster, Operators

from import_core.adapters.kube.resources import DEPLOYMENT, WORKER_POOL

Json = dict[str, Any]
HASH_LABEL = "imports.avnz.io/template-hash"


async def rollout(cluster: Cluster) -> Json:
    return dict((await cluster.status("fast", WORKER_POOL)).get("rollout") or {})


async def deployments(cluster: Cluster) -> dict[str, Json]:
    found = await cluster.kubectl("get", "deployments", "-o", "json")
    return {item["metadata"]["name"]: item for item in json.loads(found)["items"]}


async def revisions(cluster: Cluster) -> set[str]:
    found = await cluster.kubectl("get", "controllerrevisions", "-o", "name")
    return {line.rsplit("/", 1)[1] for line in found.split()}


async def set_image(cluster: Cluster, image: str) -> None:
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]
    await cluster.kubectl("patch", WORKER_POOL.plural, "fast", "--type=json", "-p", json.dumps(patch))


async def in_phase(cluster: Cluster, phase: str) -> Json:
    async def look() -> Json | None:
        seen = await rollout(cluster)
        return seen if seen.get("phase") == phase else None

    return dict(await eventually(look, what=f"the rollout {phase}"))


async def not_rolled_out(cluster: Cluster, reason: str) -> str:
    """Wait until the condition says why; returns its message."""

    async def look() -> str | None:
        condition = await cluster.condition(WORKER_POOL, "fast", "RolledOut", "False")
        return str(condition["message"]) if condition["reason"] == reason else None

    return str(await eventually(look, what=f"RolledOut False for {reason}"))


async def replicas(cluster: Cluster, **wanted: int) -> None:
    """Wait until exactly these Deployments ask for so many; `_` in a name stands for `-`."""
    expected = {name.replace("_", "-"): count for name, count in wanted.items()}

    async def look() -> bool:
        seen = await deployments(cluster)
        return {name: body["spec"]["replicas"] for name, body in seen.items()} == expected

    await eventually(look, what=f"replicas {expected}")


async def test_a_rollout_outlives_its_operator_and_goes_back(cluster: Cluster, operators: Operators) -> None:
    first = await operators.leading()
    await cluster.pool("fast", scaling={"minReplicas": 3, "maxReplicas": 9})
    stable = (await in_phase(cluster, "UpToDate"))["stableHash"]
    await replicas(cluster, fast_workers=3)
    await set_image(cluster, "import-worker:2")
    begun = await in_phase(cluster, "Progressing")
    new = f"fast-workers-{begun['canaryHash']}"
    assert (begun["stableHash"], begun["step"], begun["workers"]) == (stable, 0, 3)
    await replicas(cluster, **{"fast_workers": 3, new: 2})
    await not_rolled_out(cluster, "WorkersStarting")
    both = await deployments(cluster)
    images = {name: body["spec"]["template"]["spec"]["containers"][0]["image"] for name, body in both.items()}
    assert images == {"fast-workers": "import-worker:dev", new: "import-worker:2"}
    first.kill()
    await first.process.wait()

    # The next leader has less patience with workers that never get ready.
    await operators.leading(ROLLOUT_READY_SECONDS="3")
    ended = await in_phase(cluster, "RolledBack")
    assert (ended["reason"], ended["rolledBackHash"]) == ("WorkersNotReady", begun["canaryHash"])
    assert ended["startedAt"] == begun["startedAt"]
    await replicas(cluster, fast_workers=3)

    async def dropped() -> bool:
        return await revisions(cluster) == {f"fast-workers-{stable}"}

    # After the Deployment that was made of it.
    await eventually(dropped, what="the bad template dropped")
    assert "within 3 s" in await not_rolled_out(cluster, "RolledBackWorkersNotReady")

    async def told() -> bool:
        return "RolledBack" in await cluster.kubectl("get", "events.events.k8s.io", "-o", "json")

    await eventually(told, what="an Event")

    # The good template is kept although the spec has the bad one: other changes of the pool reach it.
    await cluster.kubectl(
        *("patch", WORKER_POOL.plural, "fast", "--type=merge", "-p", '{"spec":{"concurrency":7}}')
    )
    await cluster.kubectl("delete", DEPLOYMENT.plural, "fast-workers")

    async def made_again() -> bool:
        body = (await deployments(cluster)).get("fast-workers")
        if body is None:
            return False
        (container,) = body["spec"]["template"]["spec"]["containers"]
        variables = {item["name"]: item.get("value") for item in container["env"]}
        return bool(container["image"] == "import-worker:dev" and variables["IMPORT_CONCURRENCY"] == "7")

    await eventually(made_again, what="the good version made again")
    assert (await rollout(cluster))["phase"] == "RolledBack", "it is not tried again"


async def test_a_person_pauses_aborts_and_changes_the_template(
    cluster: Cluster, operators: Operators
) -> None:
    await operators.leading()
    await cluster.pool("fast", scaling={"minReplicas": 1, "maxReplicas": 9}, rollout={"initialReplicas": 1})
    await in_phase(cluster, "UpToDate")
    await replicas(cluster, fast_workers=1)
    annotate = ("annotate", f"{WORKER_POOL.plural}/fast", "--overwrite")
    await cluster.kubectl(*annotate, "imports.avnz.io/rollout-paused=true")
    await set_image(cluster, "import-worker:2")
    await in_phase(cluster, "Paused")
    await replicas(cluster, fast_workers=1)
    await cluster.kubectl(*annotate, "imports.avnz.io/rollout-paused-")
    second = await in_phase(cluster, "Progressing")
    await replicas(cluster, **{"fast_workers": 1, f"fast-workers-{second['canaryHash']}": 1})
    # Scaling goes on meanwhile; the new version's share follows.
    await cluster.kubectl("scale", f"{WORKER_POOL.plural}/fast", "--replicas=4")
    await replicas(cluster, **{"fast_workers": 4, f"fast-workers-{second['canaryHash']}": 1})
    await set_image(cluster, "import-worker:3")

    async def third() -> Json | None:
        seen = await rollout(cluster)
        return seen if seen.get("canaryHash") not in {None, second["canaryHash"]} else None

    now = await eventually(third, what="the next rollout")
    await replicas(cluster, **{"fast_workers": 4, f"fast-workers-{now['canaryHash']}": 1})
    await cluster.kubectl(*annotate, f"imports.avnz.io/rollout-abort={now['canaryHash']}")
    assert (await in_phase(cluster, "RolledBack"))["reason"] == "Aborted"
    await replicas(cluster, fast_workers=4)
