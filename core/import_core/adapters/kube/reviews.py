"""TokenReview and SubjectAccessReview: the API server says who somebody is, and what he may do."""

from __future__ import annotations

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import (
    GROUP,
    SELF_SUBJECT_ACCESS_REVIEW,
    SUBJECT_ACCESS_REVIEW,
    TOKEN_REVIEW,
)
from import_core.domain.callers import Action, Caller
from import_core.domain.doctor.cluster import Right


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


async def review_right(kube: KubeClient, right: Right, *, namespace: str, own: bool = False) -> bool:
    """Whether RBAC lets the right's ServiceAccount of this namespace use it; `own`: whether it lets us.

    Raises KubernetesUnavailableError, and ObjectForbiddenError where we may not ask.
    """
    resource, _, subresource = right.resource.partition("/")
    attributes = {
        "namespace": "" if right.everywhere else namespace,
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
        "name": right.name,
    }
    spec: dict[str, object] = {
        "resourceAttributes": {key: value for key, value in attributes.items() if value}
    }
    if not own:
        spec["user"] = f"system:serviceaccount:{namespace}:{right.account}"
        spec["groups"] = [
            "system:serviceaccounts",
            f"system:serviceaccounts:{namespace}",
            "system:authenticated",
        ]
    kind = SELF_SUBJECT_ACCESS_REVIEW if own else SUBJECT_ACCESS_REVIEW
    answer = await kube.review(kind, {"spec": spec})
    return (answer.get("status") or {}).get("allowed") is True
