"""A Deployment of many pods on one node, scheduled, scaled and removed by the real controllers."""

from eventually import eventually
from kubelet_node import create

COUNT = 20


def make_deployment(node, replicas):
    container = {
        "name": "main",
        "image": "sleeper:1",
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}},
    }
    template = {
        "metadata": {"labels": {"app": "d"}},
        "spec": {"containers": [container], "nodeSelector": {"kubernetes.io/hostname": node.name}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": node.namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "d"}}, "template": template},
    }


def is_scaled(replicas):
    def check(deployment):
        status = deployment.get("status") or {}
        current = status.get("observedGeneration") == deployment["metadata"]["generation"]
        counts = [status.get(key, 0) for key in ("replicas", "readyReplicas", "updatedReplicas")]
        return current and counts == [replicas] * 3

    return check


async def test_a_deployment_scales_up_and_down(node):
    collection = f"/apis/apps/v1/namespaces/{node.namespace}/deployments"
    await create(node.api, collection, make_deployment(node, COUNT))
    await node.wait(f"{collection}/d", is_scaled(COUNT))
    assert len(node.list_mains()) == COUNT
    pods = (await node.api.request("GET", f"/api/v1/namespaces/{node.namespace}/pods"))["items"]
    assert len({pod["status"]["podIP"] for pod in pods}) == COUNT
    await node.kubectl("scale", "deployment/d", "--replicas=3")
    await node.wait(f"{collection}/d", is_scaled(3))
    for pod in pods:
        name = pod["metadata"]["name"]
        current = await node.kubectl(
            "get", "pod", name, "--ignore-not-found", "-o", "jsonpath={.metadata.deletionTimestamp}"
        )
        if current:
            await node.wait_gone(name)
    assert len(node.list_mains()) == 3
    await node.kubectl("scale", "deployment/d", "--replicas=0")
    await node.wait(f"{collection}/d", is_scaled(0))
    for pod in pods:
        await node.wait_gone(pod["metadata"]["name"])
    assert node.list_processes() == []

    async def nothing_is_kept() -> bool:
        return not list((node.state / "pods").iterdir())

    # A pod's folder goes after its object.
    await eventually(nothing_is_kept, what="the end of the pods' folders")
