"""The strict mocks refuse what Pulumi's own let pass: this is what the other tests of infra/ stand on."""

import pulumi
import pulumi_aws as aws
import pytest
from mocks import StrictInputError, run

CONFIG = {"aws:region": "eu-central-1"}


def subnet_group(name="group", **inputs):
    return aws.elasticache.SubnetGroup(name, **{"subnet_ids": ["subnet-0a"], **inputs})


def bucket_encryption(**default):
    return aws.s3.BucketServerSideEncryptionConfiguration(
        "encryption", bucket="b", rules=[{"applyServerSideEncryptionByDefault": default}]
    )


REFUSED = {
    "a string for a list": (
        lambda: subnet_group(subnet_ids="subnet-0a"),
        r"subnetIds must be a list, not 'subnet-0a'",
    ),
    "a number in a list of strings": (
        lambda: subnet_group(subnet_ids=[7]),
        r"subnetIds\[0\] must be str, not 7",
    ),
    "a number in a map of strings": (
        lambda: subnet_group(tags={"Name": 7}),
        r"tags\['Name'\] must be str, not 7",
    ),
    "a string for a number": (
        lambda: aws.cloudwatch.LogGroup("logs", retention_in_days="thirty"),
        r"retentionInDays must be int",
    ),
    "a string for a boolean": (
        lambda: aws.ec2.Vpc("vpc", enable_dns_support="yes"),
        r"enableDnsSupport must be bool",
    ),
    "a boolean for a number": (
        lambda: aws.cloudwatch.LogGroup("logs", retention_in_days=True),
        r"retentionInDays must be int",
    ),
    "a nested key that is missing": (
        lambda: bucket_encryption(kmsMasterKeyId="k"),
        r"rules\[0\]\.applyServerSideEncryptionByDefault\.sseAlgorithm is required and missing",
    ),
    "a nested key that is unknown": (
        lambda: bucket_encryption(sseAlgorithm="aws:kms", keyId="k"),
        r"rules\[0\]\.applyServerSideEncryptionByDefault\.keyId is unknown",
    ),
    "a nested value of a wrong type": (
        lambda: bucket_encryption(sseAlgorithm=7),
        r"applyServerSideEncryptionByDefault\.sseAlgorithm must be str",
    ),
    "an object for a list of objects": (
        lambda: aws.s3.BucketServerSideEncryptionConfiguration("encryption", bucket="b", rules={"a": 1}),
        r"rules must be a list",
    ),
    "a wrong type out of an output": (
        lambda: subnet_group(subnet_ids=pulumi.Output.from_input("subnet-0a")),
        r"subnetIds must be a list",
    ),
    "two resources of one name": (
        lambda: (subnet_group(), subnet_group()),
        r"two resources have the URN .*::group",
    ),
    "a data source that nobody has answered": (
        lambda: pulumi.export("ami", aws.ec2.get_ami_output(owners=["amazon"]).id),
        r"getAmi",
    ),
}


@pytest.mark.parametrize(("function", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])
def test_what_aws_would_refuse_fails_the_program(function, message, preview):
    if preview and "out of an output" in message:
        pytest.skip("unknown in a preview")
    with pytest.raises((StrictInputError, AssertionError), match=message):
        run(function, config=CONFIG, preview=preview)


def test_a_missing_required_input_is_refused_too():
    """The SDK checks the first level itself."""
    with pytest.raises(TypeError, match="subnet_ids"):
        run(lambda: aws.elasticache.SubnetGroup("group"), config=CONFIG)


def test_what_is_right_passes():
    program = run(lambda: (subnet_group(), bucket_encryption(sseAlgorithm="aws:kms")), config=CONFIG)
    assert program.one("SubnetGroup").outputs["name"].startswith("group-")


def test_outputs_are_unknown_in_a_preview():
    seen = []

    def program():
        vpc = aws.ec2.Vpc("vpc", cidr_block="10.0.0.0/16")
        vpc.arn.apply(seen.append)
        vpc.cidr_block.apply(seen.append)
        pulumi.export("arn", vpc.arn)

    run(program, config=CONFIG, preview=True)
    assert seen == ["10.0.0.0/16"]
    run(program, config=CONFIG)
    assert sorted(seen)[1:] == [
        "10.0.0.0/16",
        next(value for value in seen if value.startswith("arn:aws:ec2:")),
    ]


def test_secrets_stay_marked_through_outputs():
    def program():
        name = pulumi.Output.concat("a", pulumi.Output.secret("hidden"))
        aws.cloudwatch.LogGroup("open", name="shown")
        aws.cloudwatch.LogGroup("closed", name=name)

    done = run(program, config=CONFIG)
    assert done.one("LogGroup", "open").secret_inputs == frozenset()
    assert done.one("LogGroup", "closed").secret_inputs == {"name"}


def test_one_failed_program_does_not_spoil_the_next():
    with pytest.raises(ZeroDivisionError):
        run(lambda: (subnet_group(), 1 // 0), config=CONFIG)
    assert [each.name for each in run(subnet_group, config=CONFIG).resources] == ["group"]
