"""The cluster: private, encrypted, logged; its nodes in the workers' group; or an existing one, untouched."""

import json

import pytest
from cluster_world import CONTEXT, KEY, make_cluster, program, settings, statements
from infra.automatic_nodes import service_pool, worker_pool
from infra.capacity import nodes_for_workers
from infra.configuration import ConfigurationError
from infra.node_groups import autoscaler_policy
from mocks import UNKNOWN, StrictInputError


def test_the_cluster_is_private_encrypted_and_logged():
    made = program(make_cluster).one("aws:eks/cluster:Cluster").inputs
    assert made["vpcConfig"]["endpointPrivateAccess"] is True
    assert made["vpcConfig"]["endpointPublicAccess"] is False
    assert made["encryptionConfig"] == {"provider": {"keyArn": KEY}, "resources": ["secrets"]}
    assert set(made["enabledClusterLogTypes"]) == {
        "api",
        "audit",
        "authenticator",
        "controllerManager",
        "scheduler",
    }
    assert made["deletionProtection"] is True
    assert made["accessConfig"]["authenticationMode"] == "API"


def test_the_control_plane_s_log_group_is_there_first_with_its_retention():
    done = program(make_cluster)
    group = done.one("aws:cloudwatch/logGroup:LogGroup")
    assert group.inputs["name"] == "/aws/eks/imports-test/cluster"
    assert group.inputs["retentionInDays"] == 90
    assert group.inputs["kmsKeyId"] == KEY
    assert group.urn in done.one("aws:eks/cluster:Cluster").dependencies


def test_auto_mode_is_whole_and_its_nodes_are_in_the_workers_group():
    done = program(make_cluster)
    cluster = done.one("aws:eks/cluster:Cluster")
    # AWS takes all three or none.
    assert cluster.inputs["computeConfig"] == {"enabled": True}
    assert cluster.inputs["storageConfig"]["blockStorage"]["enabled"] is True
    assert cluster.inputs["kubernetesNetworkConfig"]["elasticLoadBalancing"]["enabled"] is True
    node_class = done.one("kubernetes:eks.amazonaws.com/v1:NodeClass").inputs
    assert [each["id"] for each in node_class["spec"]["securityGroupSelectorTerms"]] == [
        cluster.outputs["vpcConfig"]["clusterSecurityGroupId"],
        "sg-0a",
    ]
    assert node_class["spec"]["subnetSelectorTerms"] == [{"id": "subnet-0a"}, {"id": "subnet-0b"}]
    entry = done.one("aws:eks/accessEntry:AccessEntry")
    assert entry.inputs["type"] == "EC2"
    assert node_class["spec"]["role"] == "imports-test-nodes"


def test_network_policies_are_enforced_on_both_kinds_of_nodes():
    automatic = program(make_cluster)
    switch = automatic.one("kubernetes:core/v1:ConfigMap").inputs
    assert switch["metadata"]["name"] == "amazon-vpc-cni"
    assert switch["data"] == {"enable-network-policy-controller": "true"}
    groups = program(lambda: make_cluster(nodes="groups"))
    network = groups.one("aws:eks/addon:Addon", "imports-test-nodes-vpc-cni").inputs
    assert json.loads(network["configurationValues"]) == {"enableNetworkPolicy": "true"}


def test_only_workers_may_be_on_spot_and_only_when_told():
    assert _capacity(worker_pool(settings("cluster"), 50)) == ["on-demand"]
    spot = settings("cluster", spot_workers=True)
    assert _capacity(worker_pool(spot, 50)) == ["spot", "on-demand"]
    assert _capacity(service_pool(spot)) == ["on-demand"]
    groups = program(lambda: make_cluster(nodes="groups", spot_workers=True)).of(
        "aws:eks/nodeGroup:NodeGroup"
    )
    assert {each.name.rsplit("-", 1)[1]: each.inputs["capacityType"] for each in groups} == {
        "services": "ON_DEMAND",
        "workers": "SPOT",
    }


def _capacity(pool):
    requirements = {each["key"]: each["values"] for each in pool["template"]["spec"]["requirements"]}
    return requirements["karpenter.sh/capacity-type"]


def test_nobody_empties_a_worker_s_node_and_no_other_pod_lands_there():
    pool = worker_pool(settings("cluster"), 50)
    assert pool["disruption"]["consolidationPolicy"] == "WhenEmpty"
    assert pool["template"]["spec"]["taints"] == [
        {"key": "imports.avnz.io/nodes", "value": "workers", "effect": "NoSchedule"}
    ]


def test_node_groups_hold_all_workers_and_have_what_auto_mode_would_bring():
    done = program(lambda: make_cluster(nodes="groups"))
    workers = done.one("aws:eks/nodeGroup:NodeGroup", "imports-test-nodes-workers").inputs
    assert workers["scalingConfig"]["maxSize"] == nodes_for_workers(50, ["m7i.2xlarge"]) == 17
    assert workers["taints"][0]["effect"] == "NO_SCHEDULE"
    assert {each.inputs["addonName"] for each in done.of("aws:eks/addon:Addon")} == {
        "kube-proxy",
        "vpc-cni",
        "eks-pod-identity-agent",
        "coredns",
        "aws-ebs-csi-driver",
    }
    assert done.one("aws:eks/cluster:Cluster").inputs["computeConfig"] == {"enabled": False}
    assert not done.of("kubernetes:karpenter.sh/v1:NodePool")
    assert done.one("kubernetes:helm.sh/v3:Release").inputs["chart"] == "cluster-autoscaler"


def test_nodes_of_groups_are_encrypted_and_give_pods_no_identity():
    template = (
        program(lambda: make_cluster(nodes="groups")).one("aws:ec2/launchTemplate:LaunchTemplate").inputs
    )
    assert template["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpTokens": "required",
        "httpPutResponseHopLimit": 1,
    }
    assert all(each["ebs"]["encrypted"] == "true" for each in template["blockDeviceMappings"])


def test_the_autoscaler_changes_this_cluster_s_groups_only():
    reading, _, changing = statements(autoscaler_policy("eu-central-1", "123456789012", "imports-test"))
    assert all(action.split(":")[1].startswith(("Describe", "Get")) for action in reading["Action"])
    assert "imports-test" in str(changing["Condition"])
    assert changing["Resource"] != ["*"]


@pytest.mark.parametrize("nodes", ["automatic", "groups"])
def test_it_can_be_previewed_before_anything_exists(nodes):
    done = program(lambda: make_cluster(nodes=nodes), preview=True)
    assert done.one("pulumi:providers:kubernetes").inputs["kubeconfig"] == UNKNOWN


def test_an_existing_cluster_is_asked_and_nothing_is_made_of_it():
    clusters = []
    done = program(lambda: clusters.append(make_cluster(existing_name="platform")))
    assert {each.type for each in done.resources if each.custom} == {"pulumi:providers:kubernetes"}
    assert clusters[0].nodes == []
    assert ("aws:eks/getCluster:getCluster", {"name": "platform"}) in done.calls
    provider = done.one("pulumi:providers:kubernetes").inputs
    kubeconfig = json.loads(provider["kubeconfig"])
    assert kubeconfig["users"][0]["user"]["exec"]["args"][:4] == [
        "eks",
        "get-token",
        "--cluster-name",
        "platform",
    ]


def test_administrators_get_an_entry_and_the_provider_waits_for_it():
    arn = "arn:aws:iam::123456789012:role/platform-engineers"
    done = program(lambda: make_cluster(admin_arns=[arn]))
    association = next(
        each
        for each in done.of("aws:eks/accessPolicyAssociation:AccessPolicyAssociation")
        if each.inputs["principalArn"] == arn
    )
    assert association.urn in done.one("pulumi:providers:kubernetes").dependencies


def test_a_public_address_is_for_named_networks_only():
    made = program(lambda: make_cluster(public_access_cidr_blocks=["203.0.113.0/24"]))
    network = made.one("aws:eks/cluster:Cluster").inputs["vpcConfig"]
    assert network["endpointPublicAccess"] is True
    assert network["publicAccessCidrs"] == ["203.0.113.0/24"]
    with pytest.raises(
        ConfigurationError, match=r"public_access_cidr_blocks: 0\.0\.0\.0/0 lets nearly everybody in"
    ):
        settings("cluster", public_access_cidr_blocks=["0.0.0.0/0"])


def test_everything_is_tagged():
    for each in program(lambda: make_cluster(nodes="groups")).resources:
        if "tags" in each.inputs:
            assert each.inputs["tags"]["Team"] == "catalogue"
            assert each.inputs["tags"]["Environment"] == CONTEXT.environment


def test_a_wrong_type_is_refused_by_the_mocks():
    with pytest.raises((StrictInputError, TypeError)):
        program(lambda: make_cluster(max_workers="fifty"))
