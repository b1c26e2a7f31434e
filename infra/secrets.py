"""Passwords and where they are kept: Secrets Manager, encrypted with the installation's key."""

from __future__ import annotations

import json

import pulumi
import pulumi_aws as aws
import pulumi_random as random

from infra.component import Component


def make_password(component: Component, *, version: int) -> pulumi.Output[str]:
    """64 letters and digits, which no URL has to escape; drawn once for each version, encrypted in the state."""
    return random.RandomPassword(
        component.child_name("password"),
        length=64,
        special=False,
        keepers={"version": str(version)},
        opts=component.child(),
    ).result


def keep_secret(
    component: Component,
    *,
    key_arn: pulumi.Input[str],
    description: str,
    values: pulumi.Output[dict[str, object]],
) -> pulumi.Output[str]:
    """The ARN of a secret of a component with these values as JSON; in production a deleted one can be brought back."""
    secret = aws.secretsmanager.Secret(
        component.child_name(),
        description=description,
        kms_key_id=key_arn,
        recovery_window_in_days=30 if component.context.is_production else 0,
        tags=component.tags(),
        opts=component.child(),
    )
    version = aws.secretsmanager.SecretVersion(
        component.child_name(),
        secret_id=secret.id,
        secret_string=pulumi.Output.secret(values.apply(json.dumps)),
        opts=component.child(),
    )
    # Whoever is given the ARN can read a value at once.
    return pulumi.Output.all(secret.arn, version.id).apply(lambda made: made[0])
