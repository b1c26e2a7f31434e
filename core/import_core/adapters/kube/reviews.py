"""TokenReview and SubjectAccessReview: the API server says who somebody is, and what he may do."""

from __future__ import annotations

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import GROUP, SUBJECT_ACCESS_REVIEW, TOKEN_REVIEW
from import_core.domain.callers import Action, Caller


async def review_token(kube: KubeClient, token: str, *, audience: str) -> Caller | None:
    """Whose token it is; None where it is nobody's, has expired or was made for others.

    Raises KubernetesUnavailableError, and ObjectForbiddenError where we may not ask.
    """
    answer = await kube.review(TOKEN_REVIEW, {"spec": {"token": token, "audiences": [audience]}})
    status = answer.get("status") or {}
    # An authenticator that knows no audiences says none; its word is not good enough for us.
    if status.get("authenticated") is not True or audience not in (status.get("audiences") or []):
        return None
    user = status.get("user") or {}
    if not user.get("username"):
        return None
    return Caller(
        username=str(user["username"]),
        uid=str(user.get("uid") or ""),
        groups=tuple(user.get("groups") or ()),
        extra={str(name): tuple(values) for name, values in (user.get("extra") or {}).items()},
    )


async def review_access(
    kube: KubeClient, caller: Caller, action: Action, *, namespace: str, name: str = ""
) -> bool:
    """Whether RBAC lets the caller do that to the named object, or to any.

    Raises KubernetesUnavailableError, and ObjectForbiddenError where we may not ask.
    """
    attributes = {
        "namespace": namespace,
        "verb": action.verb,
        "group": GROUP,
        "resource": action.resource,
        "subresource": action.subresource,
        "name": name,
    }
    spec = {
        "user": caller.username,
        "uid": caller.uid,
        "groups": list(caller.groups),
        "extra": {name: list(values) for name, values in caller.extra.items()},
        "resourceAttributes": {key: value for key, value in attributes.items() if value},
    }
    answer = await kube.review(SUBJECT_ACCESS_REVIEW, {"spec": spec})
    return (answer.get("status") or {}).get("allowed") is True
