"""CloudWatch alarms for what only AWS sees, the topics that they go to, and who listens to those."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.alarm_rules import AlarmRule, database_rules, proxy_rules, redis_rules
from infra.component import Component, Context
from infra.configuration import AlarmsSection
from infra.trust import managed_policy, service_trust


@dataclass(frozen=True, kw_only=True)
class AlarmsArgs:
    """What the alarms depend on."""

    settings: AlarmsSection
    account_id: pulumi.Input[str]
    region: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    redis_nodes: Sequence[str]
    """Names of the cache clusters of the replication group; alarms look at each, as any may become the primary."""
    database_name: str | None
    """Identifier of the database; None: it is the platform's, and so are its alarms."""
    database_proxy_name: str | None
    """Name of its proxy; None: there is none, or it is the platform's."""
    database_storage_gib: int
    database_max_connections: int


class Alarms(Component):
    """Two topics: critical wakes somebody up, general can wait for the morning; both encrypted."""

    critical_topic_arn: pulumi.Output[str]
    """Topic of critical alarms."""
    general_topic_arn: pulumi.Output[str]
    """Topic of all other alarms, and of the budget."""
    alarm_arns: list[pulumi.Output[str]]
    """ARNs of all alarms."""

    def __init__(
        self, context: Context, args: AlarmsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "alarms", opts)
        self.critical_topic_arn = self._make_topic(args, "critical")
        self.general_topic_arn = self._make_topic(args, "general")
        self._subscribe(args)
        rules = [rule for node in args.redis_nodes for rule in redis_rules(node, args.settings)]
        if args.database_name:
            rules += database_rules(
                args.database_name,
                args.settings,
                storage_gib=args.database_storage_gib,
                max_connections=args.database_max_connections,
            )
        if args.database_proxy_name:
            rules += proxy_rules(args.database_proxy_name)
        self.alarm_arns = [self._make_alarm(rule).arn for rule in rules]
        self.register_outputs(
            {"critical_topic_arn": self.critical_topic_arn, "general_topic_arn": self.general_topic_arn}
        )

    def _make_topic(self, args: AlarmsArgs, severity: str) -> pulumi.Output[str]:
        topic = aws.sns.Topic(
            self.child_name(severity),
            name=self.child_name(severity),
            display_name=f"Imports {self.context.environment}: {severity}",
            kms_master_key_id=args.key_arn,
            tags=self.tags(severity),
            opts=self.child(),
        )
        policy = aws.sns.TopicPolicy(
            self.child_name(severity),
            arn=topic.arn,
            policy=pulumi.Output.all(topic.arn, args.account_id, args.region).apply(
                lambda values: json.dumps(
                    topic_policy(topic=values[0], account_id=values[1], region=values[2])
                )
            ),
            opts=self.child(),
        )
        # Whoever is given the topic waits for its policy as well: the budget is refused by one without it.
        return pulumi.Output.all(topic.arn, policy.id).apply(lambda values: values[0])

    def _subscribe(self, args: AlarmsArgs) -> None:
        settings = args.settings
        if settings.pagerduty_integration_key:
            key = settings.pagerduty_integration_key.get_secret_value()
            aws.sns.TopicSubscription(
                self.child_name("pagerduty"),
                topic=self.critical_topic_arn,
                protocol="https",
                endpoint=pulumi.Output.secret(f"https://events.pagerduty.com/integration/{key}/enqueue"),
                endpoint_auto_confirms=True,
                opts=self.child(additional_secret_outputs=["endpoint"]),
            )
        for index, email in enumerate(settings.emails, start=1):
            for severity, topic in self._topics():
                aws.sns.TopicSubscription(
                    self.child_name(f"{severity}-email-{index}"),
                    topic=topic,
                    protocol="email",
                    endpoint=email,
                    opts=self.child(),
                )
        if settings.slack_team_id and settings.slack_channel_id:
            self._make_slack(settings.slack_team_id, settings.slack_channel_id)

    def _topics(self) -> list[tuple[str, pulumi.Output[str]]]:
        return [("critical", self.critical_topic_arn), ("general", self.general_topic_arn)]

    def _make_slack(self, team_id: str, channel_id: str) -> None:
        role = aws.iam.Role(
            self.child_name("slack"),
            name=self.child_name("slack"),
            description="Amazon Q Developer in Slack: shows alarms and their metrics",
            assume_role_policy=json.dumps(service_trust("chatbot.amazonaws.com", ["sts:AssumeRole"])),
            tags=self.tags("slack"),
            opts=self.child(),
        )
        reading = managed_policy("CloudWatchReadOnlyAccess")
        aws.iam.RolePolicyAttachment(
            self.child_name("slack"), role=role.name, policy_arn=reading, opts=self.child()
        )
        aws.chatbot.SlackChannelConfiguration(
            self.child_name("slack"),
            configuration_name=self.child_name("slack"),
            iam_role_arn=role.arn,
            slack_team_id=team_id,
            slack_channel_id=channel_id,
            sns_topic_arns=[topic for _, topic in self._topics()],
            # Without a guardrail people in the channel may do whatever an administrator may.
            guardrail_policy_arns=[reading],
            logging_level="ERROR",
            tags=self.tags("slack"),
            opts=self.child(),
        )

    def _make_alarm(self, rule: AlarmRule) -> aws.cloudwatch.MetricAlarm:
        topic = self.critical_topic_arn if rule.critical else self.general_topic_arn
        return aws.cloudwatch.MetricAlarm(
            self.child_name(rule.name),
            name=self.child_name(rule.name),
            alarm_description=rule.description,
            namespace=rule.namespace,
            metric_name=rule.metric,
            dimensions=dict(rule.dimensions),
            statistic=rule.statistic,
            comparison_operator=rule.comparison,
            threshold=rule.threshold,
            period=rule.period_seconds,
            evaluation_periods=rule.periods,
            datapoints_to_alarm=rule.periods,
            treat_missing_data=rule.missing_data,
            alarm_actions=[topic],
            ok_actions=[topic],
            tags=self.tags(rule.name),
            opts=self.child(),
        )


def topic_policy(*, topic: str, account_id: str, region: str) -> dict[str, Any]:
    """Let alarms and budgets of this account publish, and nobody without TLS."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AlarmsOfThisAccount",
                "Effect": "Allow",
                "Principal": {"Service": "cloudwatch.amazonaws.com"},
                "Action": ["sns:Publish"],
                "Resource": [topic],
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": account_id},
                    "ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:{region}:{account_id}:alarm:*"},
                },
            },
            {
                "Sid": "BudgetsOfThisAccount",
                "Effect": "Allow",
                "Principal": {"Service": "budgets.amazonaws.com"},
                "Action": ["sns:Publish"],
                "Resource": [topic],
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": account_id},
                    "ArnLike": {"aws:SourceArn": f"arn:aws:budgets::{account_id}:*"},
                },
            },
            {
                "Sid": "OnlyEncryptedConnections",
                "Effect": "Deny",
                "Principal": {"AWS": "*"},
                "Action": ["sns:Publish"],
                "Resource": [topic],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ],
    }
