"""Settings of cluster, application and monitoring that don't fit together are refused with the fix."""

import pytest
from infra.configuration import ConfigurationError, parse_configuration

DIGEST = "@sha256:" + "a" * 64
TAGGED = {name: f"registry.example.com/import-{name}:1.2.3" for name in ("operator", "worker", "gateway")}
BY_DIGEST = {name: image + DIGEST for name, image in TAGGED.items()}


@pytest.mark.parametrize(
    ("environment", "values", "message"),
    [
        (
            "staging",
            {"cluster": {"existing_name": "platform"}},
            r"cluster\.existing_name: .*Fix: set network\.vpc_id",
        ),
        (
            "staging",
            {"application": {"images": TAGGED}, "monitoring": {"prometheus": "none"}},
            r"need prometheus-operator\. Fix: set monitoring\.prometheus: install or existing",
        ),
        ("production", {"application": {"images": TAGGED}}, r"Fix: in production end each with @sha256"),
        (
            "production",
            {"cluster": {"deletion_protection": False}},
            r"Fix: set cluster\.deletion_protection: true",
        ),
        ("dev", {"cluster": {"worker_instance_types": ["t3.large"]}}, r"cluster\.worker_instance_types\[0\]"),
        ("dev", {"logs": {"application_days": 31}}, r"logs\.application_days"),
        ("dev", {"alarms": {"slack_channel": "C1"}}, r"known keys: .*slack_channel_id"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(environment, values, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_configuration({"environment": environment, **values})


@pytest.mark.parametrize(
    ("environment", "values"),
    [
        ("dev", {"application": {"images": TAGGED}, "monitoring": {"prometheus": "none"}}),
        ("staging", {"application": {"images": TAGGED}}),
        ("production", {"application": {"images": BY_DIGEST}}),
        ("production", {"monitoring": {"prometheus": "none"}}),
    ],
)
def test_what_fits_is_taken(environment, values):
    assert parse_configuration({"environment": environment, **values})


def test_secrets_are_in_no_message():
    with pytest.raises(ConfigurationError) as refused:
        parse_configuration(
            {"environment": "dev", "alarms": {"pagerduty_integration_key": "hush", "emails": ["hush-hush"]}}
        )
    assert "hush" not in str(refused.value)
