"""Who may do what: each process has a role of its own, which nobody else can take and which allows no more."""

import json

import pytest
from cluster_world import CONTEXT, KEY, program, settings, statements
from fabricated import ACCOUNT, REGION
from infra.identity import Identity, IdentityArgs, log_shipper_policy

CLUSTER = f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/imports-test"
GROUP = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/imports-test/application"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:platform-AbCdEf"


def make(log_shipper: bool = True, **values):
    return Identity(
        CONTEXT,
        IdentityArgs(
            settings=settings("identity", **values),
            region=REGION,
            account_id=ACCOUNT,
            cluster_name="imports-test",
            cluster_arn=CLUSTER,
            bucket_arn="arn:aws:s3:::imports-test-images",
            key_arn=KEY,
            log_group_arns=[GROUP] if log_shipper else [],
        ),
    )


def test_every_process_has_a_role_that_only_its_own_pods_take():
    done = program(make)
    roles = {each.inputs["name"]: each for each in done.of("aws:iam/role:Role")}
    assert set(roles) == {
        f"imports-test-identity-{name}" for name in ("operator", "worker", "gateway", "log-shipper")
    }
    for association in done.of("aws:eks/podIdentityAssociation:PodIdentityAssociation"):
        role = next(each for each in roles.values() if each.outputs["arn"] == association.inputs["roleArn"])
        (trust,) = statements(role.inputs["assumeRolePolicy"])
        assert trust["Principal"] == {"Service": "pods.eks.amazonaws.com"}
        assert trust["Condition"]["ArnEquals"] == {"aws:SourceArn": CLUSTER}
        tags = trust["Condition"]["StringEquals"]
        assert tags["aws:RequestTag/kubernetes-service-account"] == association.inputs["serviceAccount"]
        assert tags["aws:RequestTag/kubernetes-namespace"] == association.inputs["namespace"]


def test_workers_read_and_write_images_and_nothing_else():
    rights = program(make).one("aws:iam/rolePolicy:RolePolicy", "imports-test-identity-worker-bucket")
    objects, listing, key = statements(rights.inputs["policy"])
    assert objects["Action"] == ["s3:GetObject", "s3:PutObject"]
    assert objects["Resource"] == ["arn:aws:s3:::imports-test-images/images/*"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["images/*"]}}
    assert key["Resource"] == [KEY]
    assert key["Condition"] == {"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}}


def test_operator_and_gateway_have_no_rights_until_they_are_given_secrets():
    assert _policies(program(make)) == {"worker-bucket", "log-shipper-logs"}
    done = program(lambda: make(gateway_secret_arns=[SECRET], key_arns=[KEY.replace("1111", "2222")]))
    assert _policies(done) == {"worker-bucket", "log-shipper-logs", "gateway-secrets"}
    reading, opening = statements(
        done.one("aws:iam/rolePolicy:RolePolicy", "imports-test-identity-gateway-secrets").inputs["policy"]
    )
    assert reading["Resource"] == [SECRET]
    assert opening["Resource"] == [KEY.replace("1111", "2222")]


def _policies(done):
    return {
        each.name.removeprefix("imports-test-identity-") for each in done.of("aws:iam/rolePolicy:RolePolicy")
    }


def test_the_log_shipper_makes_no_groups():
    making, writing = statements(log_shipper_policy([GROUP, f"{GROUP}2:*"]))
    assert "logs:CreateLogGroup" not in making["Action"] + writing["Action"]
    assert writing["Resource"] == [f"{GROUP}:log-stream:*", f"{GROUP}2:log-stream:*"]


def test_without_a_log_shipper_there_is_no_role_for_it():
    roles = program(lambda: make(log_shipper=False)).of("aws:iam/role:Role")
    assert not [each for each in roles if "log-shipper" in each.name]


@pytest.mark.parametrize("preview", [False, True])
def test_no_right_is_given_over_everything(preview):
    done = program(make, preview=preview)
    assert done.of("aws:iam/rolePolicy:RolePolicy")
    for each in done.of("aws:iam/rolePolicy:RolePolicy"):
        if not preview:
            for statement in json.loads(each.inputs["policy"])["Statement"]:
                assert "*" not in statement["Resource"]
                assert not [
                    action for action in statement["Action"] if action.endswith(":*") or action == "*"
                ]
