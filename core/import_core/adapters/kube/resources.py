"""The kinds of Kubernetes objects that are read and written, as lightkube classes of plain dictionaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightkube.core.resource import ApiInfo, GlobalResource, NamespacedResourceG, ResourceDef
from lightkube.generic_resource import Generic

GROUP = "imports.avnz.io"
VERSION = "v1alpha1"

_VERBS = ["delete", "get", "list", "patch", "post", "put", "watch"]
_SUBRESOURCE_VERBS = ["get", "patch", "put"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A namespaced kind; built here and not by lightkube's registry, which would import its typed models."""

    group: str
    version: str
    kind: str
    plural: str
    main: Any
    status: Any
    scale: Any

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version


def _class(name: str, info: ApiInfo) -> Any:
    return type(name, (NamespacedResourceG, Generic), {"_api_info": info})


def _kind(group: str, version: str, kind: str, plural: str) -> Kind:
    definition = ResourceDef(group, version, kind)
    scale = ResourceDef("autoscaling", "v1", "Scale")
    return Kind(
        group,
        version,
        kind,
        plural,
        main=_class(kind, ApiInfo(definition, plural, _VERBS)),
        status=_class(
            f"{kind}Status",
            ApiInfo(definition, plural, _SUBRESOURCE_VERBS, parent=definition, action="status"),
        ),
        scale=_class(
            f"{kind}Scale", ApiInfo(scale, plural, _SUBRESOURCE_VERBS, parent=definition, action="scale")
        ),
    )


IMPORT_JOB = _kind(GROUP, VERSION, "ImportJob", "importjobs")
IMPORT_PROVIDER = _kind(GROUP, VERSION, "ImportProvider", "importproviders")
WORKER_POOL = _kind(GROUP, VERSION, "WorkerPool", "workerpools")
IMPORT_SCHEDULE = _kind(GROUP, VERSION, "ImportSchedule", "importschedules")
DEPLOYMENT = _kind("apps", "v1", "Deployment", "deployments")
CONTROLLER_REVISION = _kind("apps", "v1", "ControllerRevision", "controllerrevisions")
"""A template as it was: what a rollout goes back to."""
POD = _kind("", "v1", "Pod", "pods")
POD_METRICS = _kind("metrics.k8s.io", "v1beta1", "PodMetrics", "pods")
"""Served by an add-on (metrics-server) where the cluster has one; only ever listed."""
SECRET = _kind("", "v1", "Secret", "secrets")
LEASE = _kind("coordination.k8s.io", "v1", "Lease", "leases")
EVENT = _kind("events.k8s.io", "v1", "Event", "events")
NAMESPACE: Any = type(
    "Namespace",
    (GlobalResource, Generic),
    {"_api_info": ApiInfo(ResourceDef("", "v1", "Namespace"), "namespaces", ["get"])},
)
"""Not namespaced: only its identity is read."""
WEBHOOK_CONFIGURATION: Any = type(
    "ValidatingWebhookConfiguration",
    (GlobalResource, Generic),
    {
        "_api_info": ApiInfo(
            ResourceDef("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"),
            "validatingwebhookconfigurations",
            ["get", "patch"],
        )
    },
)
"""Not namespaced: the gateway reads and patches its own."""
NAMESPACE_REFERENCE = _kind("", "v1", "Namespace", "namespaces")
"""What an Event about a namespace refers to."""


def _global_class(group: str, version: str, kind: str, plural: str, verb: str = "post") -> Any:
    return type(
        kind,
        (GlobalResource, Generic),
        {"_api_info": ApiInfo(ResourceDef(group, version, kind), plural, [verb])},
    )


TOKEN_REVIEW: Any = _global_class("authentication.k8s.io", "v1", "TokenReview", "tokenreviews")
SUBJECT_ACCESS_REVIEW: Any = _global_class(
    "authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews"
)
"""Questions to the API server, not objects: only ever created, and never kept."""
SELF_SUBJECT_ACCESS_REVIEW: Any = _global_class(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"
)
"""The same about oneself, which everybody may ask."""
CUSTOM_RESOURCE_DEFINITION: Any = _global_class(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", "get"
)
"""Only read."""
