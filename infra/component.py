"""What all components share: type token, names of children, tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi

from infra.configuration import PROJECT


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every component is told: how its resources are named and tagged."""

    prefix: str
    """First part of every name, `imports-production`."""
    environment: str
    extra_tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_production(self) -> bool:
        """Whether what holds data is protected from deletion."""
        return self.environment == "production"


class Component(pulumi.ComponentResource):
    """A part of the installation; its children have it as their parent, its name begins theirs."""

    def __init__(self, context: Context, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        """`name` is the part's name within the installation: `redis` becomes `imports-production-redis`."""
        self.context = context
        self.name = f"{context.prefix}-{name}"
        super().__init__(f"{PROJECT}:infra:{type(self).__name__}", self.name, {}, opts)

    def child_name(self, part: str = "") -> str:
        """The name of a child; without a part, of the one that the component is about."""
        return f"{self.name}-{part}" if part else self.name

    def tags(self, part: str = "") -> dict[str, str]:
        """All tags of a child: explicit ones, so that a reviewer and the tests see them at each resource."""
        return {
            **self.context.extra_tags,
            "Name": self.child_name(part),
            "Project": PROJECT,
            "Environment": self.context.environment,
            "ManagedBy": "pulumi",
        }

    def child(
        self,
        *,
        protect: bool | None = None,
        depends_on: pulumi.Input[list[pulumi.Resource]] | None = None,
        ignore_changes: list[str] | None = None,
        additional_secret_outputs: list[str] | None = None,
        provider: pulumi.ProviderResource | None = None,
    ) -> pulumi.ResourceOptions:
        """The options of a child."""
        return pulumi.ResourceOptions(
            parent=self,
            protect=protect,
            depends_on=depends_on,
            ignore_changes=ignore_changes,
            additional_secret_outputs=additional_secret_outputs,
            provider=provider,
        )
