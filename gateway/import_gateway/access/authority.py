"""Who says whose a token is and what its holder may do: in a cluster the API server."""

from __future__ import annotations

from typing import Protocol

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.reviews import review_access, review_token
from import_core.domain.callers import Action, Caller


class Authority(Protocol):
    """Methods raise KubernetesUnavailableError and ObjectForbiddenError where it can't be asked."""

    async def whose(self, token: str) -> Caller | None:
        """Whose token it is; None: nobody's."""

    async def allows(self, caller: Caller, action: Action, *, namespace: str, name: str) -> bool:
        """Whether the caller may do that."""


class ApiServerAuthority:
    """By TokenReview and SubjectAccessReview."""

    def __init__(self, kube: KubeClient, *, audience: str) -> None:
        self._kube = kube
        self._audience = audience

    async def whose(self, token: str) -> Caller | None:
        """Whose token it is; None: nobody's, expired, or made for others."""
        return await review_token(self._kube, token, audience=self._audience)

    async def allows(self, caller: Caller, action: Action, *, namespace: str, name: str) -> bool:
        """Whether RBAC lets the caller do that."""
        return await review_access(self._kube, caller, action, namespace=namespace, name=name)
