"""Prometheus with our rules, dashboards and routing; keys in Secrets only; or an existing Prometheus."""

import json

import pytest
import yaml
from cluster_world import CONTEXT, program, settings
from fabricated import REGION
from infra.fluent_bit import fluent_bit_values
from infra.monitoring import Monitoring, MonitoringArgs, object_name
from infra.prometheus_values import routing, stack_values
from infra.watch_files import WatchFiles, read_watch_files

FILES = WatchFiles(
    dashboards={"overview": json.dumps({"title": "Imports", "panels": []})},
)


def make(files=FILES, **values):
    import pulumi_kubernetes as kubernetes

    return Monitoring(
        CONTEXT,
        MonitoringArgs(
            settings=settings("monitoring", **values),
            region=REGION,
            cluster_name="imports-test",
            provider=kubernetes.Provider("objects", kubeconfig="{}"),
            volume_provisioner="ebs.csi.eks.amazonaws.com",
            application_log_group="/imports-test/application",
            errors_log_group="/imports-test/errors",
            platform_log_group="/imports-test/platform",
            files=files,
        ),
    )


def _releases(done):
    return {each.inputs["chart"]: each for each in done.of("kubernetes:helm.sh/v3:Release")}


def test_everything_is_installed_by_default():
    done = program(make)
    assert set(_releases(done)) == {"kube-prometheus-stack", "fluent-bit"}
    assert done.one("aws:eks/addon:Addon").inputs["addonName"] == "metrics-server"
    dashboard = done.one("kubernetes:core/v1:ConfigMap").inputs
    assert dashboard["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(dashboard["data"]["overview.json"])["title"] == "Imports"


def test_samples_are_on_encrypted_volumes_and_kept_as_long_as_told():
    done = program(lambda: make(retention_days=20, storage_gib=80))
    assert done.one("kubernetes:storage.k8s.io/v1:StorageClass").inputs["parameters"]["encrypted"] == "true"
    spec = _releases(done)["kube-prometheus-stack"].inputs["values"]["prometheus"]["prometheusSpec"]
    assert spec["retention"] == "20d"
    assert spec["retentionSize"] == "68GB"
    assert spec["storageSpec"]["volumeClaimTemplate"]["spec"]["storageClassName"] == "imports-encrypted"


def test_an_existing_prometheus_gets_dashboards_and_nothing_else():
    done = program(
        lambda: make(
            prometheus="existing", namespace="observability", metrics_server=False, log_shipper=False
        )
    )
    assert {each.type.split(":")[-1] for each in done.resources if each.custom} == {
        "kubernetes",
        "ConfigMap",
    }
    dashboard = done.one("kubernetes:core/v1:ConfigMap").inputs
    assert dashboard["metadata"]["namespace"] == "observability"


def test_no_prometheus_at_all():
    done = program(lambda: make(prometheus="none"))
    assert set(_releases(done)) == {"fluent-bit"}
    assert not done.of("kubernetes:core/v1:ConfigMap")


@pytest.mark.parametrize("prometheus", ["install", "existing", "none"])
def test_it_can_be_previewed(prometheus):
    assert program(lambda: make(prometheus=prometheus), preview=True).resources


def test_keys_are_in_a_secret_and_nowhere_else():
    webhook, key = "https://hooks.slack.com/services/T/B/xyz", "r" * 32
    done = program(lambda: make(slack_webhook_url=webhook, pagerduty_routing_key=key))
    secret = done.one("kubernetes:core/v1:Secret", "imports-test-monitoring-receivers")
    assert secret.inputs["stringData"] == {"pagerduty-routing-key": key, "slack-webhook-url": webhook}
    assert "stringData" in secret.secret_inputs
    others = [each.inputs for each in done.resources if each.urn != secret.urn]
    assert key not in json.dumps(others)
    assert webhook not in json.dumps(others)
    alertmanager = _releases(done)["kube-prometheus-stack"].inputs["values"]["alertmanager"]
    assert alertmanager["alertmanagerSpec"]["secrets"] == ["import-alert-receivers"]


WRITTEN = read_watch_files().alertmanager


def _ways(configuration):
    return {each["name"]: sorted(each.keys() - {"name"}) for each in configuration["receivers"]}


def test_all_receivers_are_told_where_all_keys_are_set():
    everything = settings(
        "monitoring",
        slack_webhook_url="https://hooks.slack.com/x",
        slack_channel="#on-call",
        pagerduty_routing_key="k",
        dead_mans_switch_url="https://switch.example/x",
    )
    configuration = routing(everything, WRITTEN)
    assert _ways(configuration) == {
        "nobody": [],
        "dead-mans-switch": ["webhook_configs"],
        "pagerduty-and-slack": ["pagerduty_configs", "slack_configs"],
        "slack": ["slack_configs"],
    }
    channels = {
        way["channel"] for each in configuration["receivers"] for way in each.get("slack_configs", ())
    }
    assert channels == {"#on-call"}
    assert configuration["route"] == WRITTEN["route"]
    secret = program(
        lambda: make(
            dead_mans_switch_url="https://switch.example/x",
            slack_webhook_url="https://s",
            pagerduty_routing_key="k",
        )
    ).one("kubernetes:core/v1:Secret", "imports-test-monitoring-receivers")
    files = {
        value.rsplit("/", 1)[-1]
        for each in WRITTEN["receivers"]
        for ways in each.values()
        if isinstance(ways, list)
        for way in ways
        for name, value in way.items()
        if name.endswith("_file")
    }
    assert set(secret.inputs["stringData"]) == files


def test_who_has_no_key_is_not_told_and_nothing_is_read_from_a_file_that_is_not_there():
    only_slack = settings("monitoring", slack_webhook_url="https://hooks.slack.com/x")
    assert _ways(routing(only_slack, WRITTEN)) == {
        "nobody": [],
        "dead-mans-switch": [],
        "pagerduty-and-slack": ["slack_configs"],
        "slack": ["slack_configs"],
    }


def test_without_receivers_alerts_are_shown_and_nobody_is_told():
    configuration = routing(settings("monitoring"), WRITTEN)
    assert set(map(tuple, _ways(configuration).values())) == {()}
    assert routing(settings("monitoring"), None)["route"] == {"receiver": "nobody"}
    values = stack_values(settings("monitoring"), configuration, external_label="imports-test")
    assert values["alertmanager"]["alertmanagerSpec"]["secrets"] == []


def test_grafana_s_password_is_drawn_and_secret():
    secret = program(make).one("kubernetes:core/v1:Secret")
    assert len(secret.inputs["stringData"]["password"]) == 64
    assert "stringData" in secret.secret_inputs


def test_errors_are_sent_to_their_group_as_well():
    values = fluent_bit_values(
        region=REGION, application="/a", errors="/e", platform="/p", account="fluent-bit"
    )
    outputs = values["config"]["outputs"].split("[OUTPUT]")[1:]
    pairs = {}
    for output in outputs:
        fields = dict(line.split(maxsplit=1) for line in output.strip().splitlines())
        assert fields["auto_create_group"] == "false"
        pairs[fields["Match"]] = fields["log_group_name"]
    assert pairs == {"imports.*": "/a", "errors.*": "/e", "platform.*": "/p"}
    assert "errors.$TAG true" in values["config"]["filters"]


def test_files_are_known_by_what_is_in_them(tmp_path):
    (tmp_path / "grafana").mkdir()
    (tmp_path / "grafana" / "overview.json").write_text('{"title": "x", "panels": []}')
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": []}]}))
    (tmp_path / "alertmanager.yaml").write_text(yaml.safe_dump({"route": {}, "receivers": []}))
    found = read_watch_files(tmp_path)
    assert set(found.dashboards) == {"overview"}
    assert found.alertmanager == {"route": {}, "receivers": []}
    assert read_watch_files(tmp_path / "absent") == WatchFiles()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json can't be read"):
        read_watch_files(tmp_path)


def test_names_of_objects():
    assert object_name("Imports_Overview v2") == "imports-overview-v2"
    assert object_name("queue") == "imports-queue"
