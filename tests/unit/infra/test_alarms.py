"""Alarms for what only AWS sees reach the right people, by topics that CloudWatch can use although encrypted."""

import json

import pytest
from cluster_world import CONTEXT, KEY, program, settings, statements
from fabricated import ACCOUNT, REGION
from infra.alarms import Alarms, AlarmsArgs
from infra.budget import Budget, BudgetArgs
from infra.configuration import ConfigurationError

NODES = ["imports-test-redis-001", "imports-test-redis-002", "imports-test-redis-003"]


def make(database="imports-test-postgres", proxy="imports-test-postgres-proxy", **values):
    return Alarms(
        CONTEXT,
        AlarmsArgs(
            settings=settings("alarms", **values),
            account_id=ACCOUNT,
            region=REGION,
            key_arn=KEY,
            redis_nodes=NODES,
            database_name=database,
            database_proxy_name=proxy,
            database_storage_gib=100,
            database_max_connections=500,
        ),
    )


def _alarms(done):
    return {
        each.inputs["name"].removeprefix("imports-test-alarms-"): each.inputs
        for each in done.of("aws:cloudwatch/metricAlarm:MetricAlarm")
    }


@pytest.mark.parametrize(
    ("name", "metric", "threshold", "seconds"),
    [
        ("redis-cpu-001", "EngineCPUUtilization", 75, 300),
        ("redis-memory-002", "DatabaseMemoryUsagePercentage", 85, 300),
        ("redis-evictions-003", "Evictions", 0, 60),
        ("redis-lag-001", "ReplicationLag", 5, 180),
        ("database-cpu", "CPUUtilization", 80, 600),
        ("database-storage", "FreeStorageSpace", 20 * 1024**3, 300),
        ("database-storage-critical", "FreeStorageSpace", 10 * 1024**3, 300),
        ("database-connections", "DatabaseConnections", 400, 300),
        ("database-proxy-pinned", "DatabaseConnectionsCurrentlySessionPinned", 5, 900),
    ],
)
def test_what_is_alarming(name, metric, threshold, seconds):
    alarm = _alarms(program(make))[name]
    assert alarm["metricName"] == metric
    assert alarm["threshold"] == threshold
    assert alarm["period"] * alarm["evaluationPeriods"] == seconds
    below = metric == "FreeStorageSpace"
    assert alarm["comparisonOperator"] == ("LessThanThreshold" if below else "GreaterThanThreshold")


def test_every_node_of_redis_is_watched_as_any_may_become_the_primary():
    watched = {
        alarm["dimensions"]["CacheClusterId"]
        for alarm in _alarms(program(make)).values()
        if alarm["namespace"] == "AWS/ElastiCache"
    }
    assert watched == set(NODES)


def test_what_stops_imports_wakes_somebody_up_and_the_rest_waits():
    done = program(make)
    topics = {each.name.rsplit("-", 1)[1]: each.outputs["arn"] for each in done.of("aws:sns/topic:Topic")}
    critical = {
        name for name, alarm in _alarms(done).items() if alarm["alarmActions"] == [topics["critical"]]
    }
    assert critical == {
        *(f"redis-{kind}-00{node}" for kind in ("memory", "evictions") for node in (1, 2, 3)),
        "database-storage-critical",
        "database-connections",
    }
    for alarm in _alarms(done).values():
        assert alarm["okActions"] == alarm["alarmActions"]


def test_topics_are_encrypted_and_alarms_and_budgets_of_this_account_alone_publish():
    done = program(make)
    assert all(each.inputs["kmsMasterKeyId"] == KEY for each in done.of("aws:sns/topic:Topic"))
    for each in done.of("aws:sns/topicPolicy:TopicPolicy"):
        alarms, budgets, insecure = statements(each.inputs["policy"])
        assert alarms["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        assert budgets["Principal"] == {"Service": "budgets.amazonaws.com"}
        for statement in (alarms, budgets):
            assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}
        assert insecure["Effect"] == "Deny"


def test_pagerduty_hears_critical_alarms_and_its_key_stays_secret():
    done = program(lambda: make(pagerduty_integration_key="k" * 32))
    subscription = done.one("aws:sns/topicSubscription:TopicSubscription")
    assert subscription.inputs["topic"].endswith("critical")
    assert subscription.inputs["endpoint"] == f"https://events.pagerduty.com/integration/{'k' * 32}/enqueue"
    assert subscription.inputs["endpointAutoConfirms"] is True
    assert "endpoint" in subscription.secret_inputs


def test_slack_hears_everything_and_may_only_read():
    done = program(lambda: make(slack_team_id="T0001", slack_channel_id="C0001"))
    channel = done.one("aws:chatbot/slackChannelConfiguration:SlackChannelConfiguration").inputs
    assert len(channel["snsTopicArns"]) == 2
    assert channel["guardrailPolicyArns"] == ["arn:aws:iam::aws:policy/CloudWatchReadOnlyAccess"]


def test_half_a_slack_channel_is_refused():
    with pytest.raises(
        ConfigurationError, match=r"alarms: Slack needs both names\. Fix: set slack_team_id and"
    ):
        settings("alarms", slack_team_id="T0001")


def test_the_platform_s_own_database_has_the_platform_s_own_alarms():
    assert not [
        name
        for name in _alarms(program(lambda: make(database=None, proxy=None)))
        if name.startswith("database")
    ]


def test_alarms_can_be_previewed():
    assert len(program(make, preview=True).of("aws:cloudwatch/metricAlarm:MetricAlarm")) == 17


def test_the_budget_counts_what_has_our_tags_and_tells_by_topic_and_mail():
    done = program(
        lambda: Budget(
            CONTEXT,
            BudgetArgs(
                settings=settings("budget", monthly_usd=1600, emails=["finance@example.com"]),
                topic_arn=f"arn:aws:sns:{REGION}:{ACCOUNT}:general",
            ),
        )
    )
    made = done.one("aws:budgets/budget:Budget").inputs
    assert made["limitAmount"] == "1600"
    assert [each["tags"] for each in made["filterExpression"]["ands"]] == [
        {"key": "Project", "values": ["import-operator"]},
        {"key": "Environment", "values": ["production"]},
    ]
    assert {each["notificationType"]: each["threshold"] for each in made["notifications"]} == {
        "ACTUAL": 80,
        "FORECASTED": 100,
    }
    assert "finance@example.com" in json.dumps(made["notifications"])
