"""Only another holder of the Lease ends a leader; a refusal of the API server is an outage like any other."""

from typing import Any

import pytest

from import_core.domain.errors import (
    ImportOperatorError,
    KubernetesUnavailableError,
    ObjectForbiddenError,
    ObjectRefusedError,
)
from import_operator.loops.lead import Leadership, SupersededError


class LeaseServer:
    """One Lease, kept in memory; `failure` is what every call raises."""

    def __init__(self) -> None:
        self.body: dict[str, Any] | None = None
        self.failure: ImportOperatorError | None = None

    async def get(self, *_: Any) -> dict[str, Any] | None:
        if self.failure:
            raise self.failure
        return self.body

    async def create(self, _kind: Any, _namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        self.body = {**body, "metadata": {**body["metadata"], "uid": "1"}}
        return self.body

    async def replace(self, _kind: Any, _namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        self.body = body
        return body


@pytest.mark.parametrize(
    "failure", [ObjectForbiddenError("no"), ObjectRefusedError("no"), KubernetesUnavailableError("away")]
)
async def test_a_leader_goes_on_while_the_api_server_refuses(failure: ImportOperatorError) -> None:
    server = LeaseServer()
    leadership = Leadership(server, namespace="imports", name="lease", identity="me")  # type: ignore[arg-type]
    await leadership.acquire()
    server.failure = failure
    await leadership._round_or_wait()
    assert leadership.leading
    server.failure = None
    await leadership._round_or_wait()
    assert leadership.leading


async def test_a_leader_ends_when_another_holds_the_lease() -> None:
    server = LeaseServer()
    leadership = Leadership(server, namespace="imports", name="lease", identity="me")  # type: ignore[arg-type]
    await leadership.acquire()
    assert server.body is not None
    server.body["spec"]["holderIdentity"] = "another"
    with pytest.raises(SupersededError):
        await leadership._round_or_wait()
