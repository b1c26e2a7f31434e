"""The key that everything at rest is encrypted with: made, or an existing one."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.component import Component, Context
from infra.configuration import EncryptionSection


@dataclass(frozen=True, kw_only=True)
class EncryptionArgs:
    """What the key depends on."""

    settings: EncryptionSection
    account_id: pulumi.Input[str]
    region: pulumi.Input[str]


class Encryption(Component):
    """One key for all of the installation; AWS turns its material over every year."""

    key_arn: pulumi.Output[str]
    """ARN of the key."""

    def __init__(
        self, context: Context, args: EncryptionArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "encryption", opts)
        if args.settings.kms_key_arn:
            self.key_arn = pulumi.Output.from_input(args.settings.kms_key_arn)
        else:
            self.key_arn = self._make(args)
        self.register_outputs({"key_arn": self.key_arn})

    def _make(self, args: EncryptionArgs) -> pulumi.Output[str]:
        key = aws.kms.Key(
            self.child_name(),
            description=f"Everything at rest of {self.context.prefix}",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            policy=pulumi.Output.all(args.account_id, args.region).apply(
                lambda values: json.dumps(_key_policy(account_id=values[0], region=values[1]))
            ),
            tags=self.tags(),
            opts=self.child(),
        )
        aws.kms.Alias(
            self.child_name("alias"),
            name=f"alias/{self.context.prefix}",
            target_key_id=key.key_id,
            opts=self.child(),
        )
        return key.arn


def _key_policy(*, account_id: str, region: str) -> dict[str, object]:
    """In a key's policy `*` as resource is the key itself; it cannot be named otherwise."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AccountDecidesByItsPolicies",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{account_id}:root"},
                "Action": "kms:*",
                "Resource": "*",
            },
            {
                "Sid": "LogGroupsOfTheAccount",
                "Effect": "Allow",
                "Principal": {"Service": f"logs.{region}.amazonaws.com"},
                "Action": [
                    "kms:Encrypt",
                    "kms:Decrypt",
                    "kms:ReEncryptFrom",
                    "kms:ReEncryptTo",
                    "kms:GenerateDataKey",
                    "kms:GenerateDataKeyWithoutPlaintext",
                    "kms:DescribeKey",
                ],
                "Resource": "*",
                "Condition": {
                    "ArnLike": {
                        "kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{region}:{account_id}:log-group:*"
                    }
                },
            },
            {
                "Sid": "AlarmsAndBudgetsToEncryptedTopics",
                "Effect": "Allow",
                "Principal": {"Service": ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:SourceAccount": account_id}},
            },
            {
                "Sid": "CloudFrontReadsThumbnails",
                "Effect": "Allow",
                "Principal": {"Service": "cloudfront.amazonaws.com"},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:SourceAccount": account_id}},
            },
        ],
    }
