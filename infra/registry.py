"""Where the images are kept: a repository of ECR for each of the three."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.component import Component, Context
from infra.configuration import RegistrySection

IMAGES = ("operator", "worker", "gateway")


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """What the repositories depend on."""

    settings: RegistrySection
    key_arn: pulumi.Input[str]


class Registry(Component):
    """Tags never change what they mean, and every image is looked through for known weaknesses when it comes."""

    repository_urls: Mapping[str, pulumi.Output[str]]
    """Address to push each image to; empty when images come from elsewhere."""

    def __init__(
        self, context: Context, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "registry", opts)
        names = IMAGES if args.settings.create else ()
        self.repository_urls = {name: self._make(args, name).repository_url for name in names}
        self.register_outputs({"repository_urls": dict(self.repository_urls)})

    def _make(self, args: RegistryArgs, name: str) -> aws.ecr.Repository:
        repository = aws.ecr.Repository(
            self.child_name(name),
            name=f"{self.context.prefix}/import-{name}",
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            encryption_configurations=[
                aws.ecr.RepositoryEncryptionConfigurationArgs(encryption_type="KMS", kms_key=args.key_arn)
            ],
            force_delete=False,
            tags=self.tags(name),
            opts=self.child(),
        )
        aws.ecr.LifecyclePolicy(
            self.child_name(name),
            repository=repository.name,
            policy=json.dumps(
                retention(kept=args.settings.kept_images, untagged_days=args.settings.untagged_days)
            ),
            opts=self.child(),
        )
        return repository


def retention(*, kept: int, untagged_days: int) -> dict[str, object]:
    """Write the rules by which ECR deletes images; the first that fits an image decides."""
    return {
        "rules": [
            {
                "rulePriority": 1,
                "description": "Images that lost their tag, or never had one",
                "selection": {
                    "tagStatus": "untagged",
                    "countType": "sinceImagePushed",
                    "countUnit": "days",
                    "countNumber": untagged_days,
                },
                "action": {"type": "expire"},
            },
            {
                "rulePriority": 2,
                "description": "The newest stay, to go back to",
                "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": kept},
                "action": {"type": "expire"},
            },
        ]
    }
