"""The application: definitions, namespace, connections, and deploy/'s overlay with this installation's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import yaml

from infra.component import Component, Context
from infra.configuration import ApplicationSection
from infra.identity import APPLICATION_NAMESPACE
from infra.manifests import DEPLOY, Changes, address_changes, change, overlay_addresses

DEFINITIONS = DEPLOY.parent / "crds"
CONNECTIONS_SECRET = "import-connections"  # noqa: S105 - the name of a Secret, not one


@dataclass(frozen=True, kw_only=True)
class ApplicationArgs:
    """What the application depends on."""

    settings: ApplicationSection
    kubeconfig: pulumi.Input[str]
    provider: kubernetes.Provider
    connections: Mapping[str, pulumi.Input[str]]
    """Variables of the Secret import-connections: DATABASE_URL, REDIS_URL, S3_BUCKET, AWS_REGION."""
    addresses: Mapping[str, pulumi.Input[str]]
    """Address blocks of this installation, by the roles of an overlay's network-addresses.yaml."""
    monitoring_namespace: str = "monitoring"
    worker_placement: Mapping[str, object] = field(default_factory=dict)
    depends_on: Sequence[pulumi.Resource] = field(default_factory=tuple)
    """Nodes, identities, prometheus-operator's definitions."""


class Application(Component):
    """What `kubectl apply -k deploy/overlays/<environment>` does, with images and addresses of this installation.

    Without images nothing is made but the definitions and the namespace, so that a first run has repositories to
    push to.
    """

    def __init__(
        self, context: Context, args: ApplicationArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "application", opts)
        self._args = args
        definitions = self._make_definitions()
        namespace = kubernetes.core.v1.Namespace(
            self.child_name("namespace"),
            metadata={"name": APPLICATION_NAMESPACE, "labels": restricted_labels()},
            opts=self.child(provider=args.provider, depends_on=list(args.depends_on)),
        )
        secret = kubernetes.core.v1.Secret(
            self.child_name("connections"),
            metadata={"name": CONNECTIONS_SECRET, "namespace": APPLICATION_NAMESPACE},
            string_data={name: pulumi.Output.secret(value) for name, value in args.connections.items()},
            opts=self.child(provider=args.provider, depends_on=[namespace]),
        )
        if args.settings.images:
            self._make_overlay([*definitions, namespace, secret])
        self.register_outputs({})

    def _make_definitions(self) -> list[pulumi.Resource]:
        """Make each definition an object of its own; deleting one would delete every import, so they are kept."""
        made: list[pulumi.Resource] = []
        for path in sorted(DEFINITIONS.glob("*.yaml")):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            made.append(
                kubernetes.apiextensions.v1.CustomResourceDefinition(
                    self.child_name(f"definition-{content['spec']['names']['plural']}"),
                    metadata=content["metadata"],
                    spec=schema_names(content["spec"]),
                    opts=pulumi.ResourceOptions.merge(
                        self.child(provider=self._args.provider),
                        pulumi.ResourceOptions(retain_on_delete=True),
                    ),
                )
            )
        return made

    def _make_overlay(self, needed: list[pulumi.Resource]) -> None:
        args = self._args
        changes = self._changes()

        def transform(resource: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
            if not resource.type_.startswith("kubernetes:") or "kind" not in resource.props:
                return None
            return pulumi.ResourceTransformResult(props=change(resource.props, changes), opts=resource.opts)

        # The namespace is in the overlay too, and there already: this provider takes it over instead of failing.
        provider = kubernetes.Provider(
            self.child_name("overlay"),
            kubeconfig=args.kubeconfig,
            upsert_existing_objects=True,
            opts=self.child(),
        )
        kubernetes.kustomize.v2.Directory(
            self.child_name("overlay"),
            directory=str(DEPLOY / "overlays" / self.context.environment),
            opts=pulumi.ResourceOptions(
                parent=self,
                providers=[provider],
                provider=provider,
                depends_on=[*args.depends_on, *needed],
                transforms=[transform],
            ),
        )

    def _changes(self) -> Changes:
        settings = self._args.settings
        images = settings.images
        named = overlay_addresses(self.context.environment)
        gateway = {"PUBLIC_URL": settings.public_url} if settings.public_url else {}
        return Changes(
            images=images.model_dump() if images else {},
            replicas={"import-operator": settings.operators, "import-gateway": settings.gateways},
            max_workers=settings.max_workers,
            worker_placement=self._args.worker_placement,
            addresses=address_changes(named, self._args.addresses),
            monitoring_namespace=self._args.monitoring_namespace,
            environment={"import-gateway": gateway} if gateway else {},
        )


def schema_names(value: Any) -> Any:
    """Write `x-kubernetes-validations` and its like as the SDK names them: x_kubernetes_validations."""
    if isinstance(value, dict):
        return {
            key.replace("-", "_") if key.startswith("x-kubernetes-") else key: schema_names(inner)
            for key, inner in value.items()
        }
    return [schema_names(inner) for inner in value] if isinstance(value, list) else value


def restricted_labels() -> dict[str, str]:
    """Name the pod security that the namespace asks for; the same as in deploy/base/namespace.yaml."""
    return {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
