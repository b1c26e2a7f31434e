"""A real kubelet process on the real control plane, with a namespace for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from kubelet_node import NODE_ROLE_BINDING, Node, create

from import_local.parts.control_plane import ControlPlane


async def start_node(control_plane: ControlPlane, folder: Path) -> Node:
    """Return a running node with the rights of one."""
    node = Node(control_plane, folder)
    await create(node.api, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", NODE_ROLE_BINDING)
    await node.start()
    return node


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_node(control_plane_server: ControlPlane, servers_folder: Path) -> AsyncIterator[Node]:
    """Run one kubelet for all tests that leave it alone."""
    folder = servers_folder / "kubelet"
    folder.mkdir()
    node = await start_node(control_plane_server, folder)
    yield node
    await node.remove()


@pytest_asyncio.fixture(loop_scope="session")
async def node(shared_node: Node) -> AsyncIterator[Node]:
    """Return the shared node with a namespace of the test's own; no process may be left."""
    await shared_node.enter_namespace()
    yield shared_node
    await shared_node.leave_namespace()
    await shared_node.wait_for_no_process()


@pytest_asyncio.fixture(loop_scope="session")
async def own_node(control_plane_server: ControlPlane, tmp_path: Path) -> AsyncIterator[Node]:
    """Run a kubelet that the test may kill, stop and start; no process may be left."""
    node = await start_node(control_plane_server, tmp_path)
    await node.enter_namespace()
    yield node
    await node.leave_namespace()
    await node.remove()
    assert node.list_processes() == []
