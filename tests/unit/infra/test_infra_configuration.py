"""Errors of the configuration name the key and the fix; the example files are right, with and without Pulumi."""

import pytest
from infra.configuration import ConfigurationError, parse_configuration, read_stack_file
from mocks import ROOT, run_program

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:a"
WRONG = {
    "no environment": ({}, "import-operator:environment: Field required. Fix: set it"),
    "unknown environment": (
        {"environment": "prod"},
        "import-operator:environment: .*Fix: use 'dev', 'staging' or",
    ),
    "unknown section": (
        {"rediss": {}},
        "import-operator:rediss: .*Fix: .*known keys: environment, name, .*redis",
    ),
    "unknown key": ({"redis": {"replica": 2}}, r"redis\.replica: .*known keys: engine, .*replicas"),
    "text for a number": (
        {"redis": {"replicas": "2"}},
        r"redis\.replicas: .*Fix: write a whole number without quot",
    ),
    "number for a text": (
        {"redis": {"engine_version": 8.0}},
        r"redis\.engine_version: .*Fix: write it in quotation",
    ),
    "text for a boolean": ({"postgres": {"proxy": "yes"}}, r"postgres\.proxy: .*Fix: write true or false"),
    "text for a list": (
        {"network": {"interface_endpoints": "s3"}},
        r"interface_endpoints: .*Fix: write a list",
    ),
    "text for a section": ({"redis": "small"}, r"import-operator:redis: .*Fix: write nested keys"),
    "out of bounds": ({"redis": {"replicas": 9}}, r"redis\.replicas: .*less than or equal to 5"),
    "wrong form": (
        {"postgres": {"existing_secret_arn": "a"}},
        r"postgres\.existing_secret_arn: .*Fix: .*form",
    ),
    "in a list": ({"network": {"private_subnet_ids": ["x"]}}, r"network\.private_subnet_ids\[0\]: "),
    "VPC without subnets": (
        {"network": {"vpc_id": "vpc-0a"}},
        r"network: .*Fix: list at least two private subnets",
    ),
    "subnets without VPC": ({"network": {"private_subnet_ids": ["subnet-0a"]}}, "Fix: set vpc_id"),
    "host bits": ({"network": {"cidr_block": "10.0.0.1/16"}}, "cidr_block: .*Fix: write a network address"),
    "too small": ({"network": {"cidr_block": "10.0.0.0/24"}}, "cidr_block must be a /16 to /20"),
    "Redis 8": (
        {"redis": {"engine": "redis", "engine_version": "8.0"}},
        'redis: .*Fix: set engine_version: "7.1"',
    ),
    "aliases": (
        {"storage": {"cloudfront_aliases": ["a.b"]}},
        "storage: .*Fix: set cloudfront_certificate_arn",
    ),
    "CloudFront before another's": (
        {"storage": {"existing_bucket": "abc", "cloudfront": True}},
        "cloudfront: false",
    ),
    "shrinking storage": (
        {"postgres": {"max_allocated_storage_gib": 20}},
        "Fix: raise max_allocated_storage_gib",
    ),
    "too few connections": (
        {"postgres": {"instance_class": "db.t4g.micro"}},
        r"50 workers need \d+ connections.*db\.t4g\.micro allows 112\. Fix: choose a larger postgres\.instance_class",
    ),
    "limit below the need": (
        {"postgres": {"max_connections": 100}},
        r"postgres\.max_connections allows 100\. Fix: ",
    ),
    "limit above memory": (
        {"postgres": {"max_connections": 4000}},
        r"more than db\.m7g\.large has memory for",
    ),
    "existing database too small": (
        {"postgres": {"existing_secret_arn": ARN, "existing_max_connections": 100}},
        r"existing_max_connections is 100\. Fix: lower application\.max_workers",
    ),
}


@pytest.mark.parametrize(("values", "message"), WRONG.values(), ids=WRONG)
def test_an_error_names_the_key_and_the_fix(values, message):
    base = {} if "environment" in values or not values else {"environment": "dev"}
    with pytest.raises(ConfigurationError, match=message):
        parse_configuration({**base, **values})


@pytest.mark.parametrize(
    ("values", "fix"),
    [
        ({"postgres": {"deletion_protection": False}}, r"postgres\.deletion_protection: true"),
        ({"postgres": {"multi_az": False}}, r"postgres\.multi_az: true"),
        ({"postgres": {"backup_retention_days": 1}}, r"postgres\.backup_retention_days: 7 or more"),
        ({"redis": {"replicas": 0}}, r"redis\.replicas: 1 or more"),
        ({"storage": {"force_destroy": True}}, r"storage\.force_destroy: false"),
    ],
)
def test_production_refuses_what_could_lose_data(values, fix):
    parse_configuration({"environment": "staging", **values})
    with pytest.raises(ConfigurationError, match=f"Fix: set {fix}"):
        parse_configuration({"environment": "production", **values})


def test_all_wrong_keys_are_named_at_once():
    with pytest.raises(ConfigurationError) as raised:
        parse_configuration(
            {"environment": "dev", "redis": {"replicas": -1, "x": 1}, "postgres": {"proxy": 1}}
        )
    assert len(str(raised.value).splitlines()) == 4


def test_a_secret_is_not_shown():
    with pytest.raises(ConfigurationError) as raised:
        parse_configuration({"environment": "dev", "alarms": {"pagerduty_integration_key": ["s3cret"]}})
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("stack", ["dev", "staging", "production"])
def test_the_example_files_are_right_without_pulumi_too(stack):
    assert read_stack_file(ROOT / f"Pulumi.{stack}.yaml").environment == stack


def test_the_program_stops_at_a_wrong_key_before_it_makes_anything():
    with pytest.raises(ConfigurationError, match=r"import-operator:redis\.replica:"):
        run_program("dev", changes={"redis": {"replica": 1}})


def test_every_key_says_what_it_means():
    from infra.configuration import Configuration

    for name, section in Configuration.model_fields.items():
        fields = getattr(section.annotation, "model_fields", {name: section})
        assert not [key for key, field in fields.items() if not field.description], name
