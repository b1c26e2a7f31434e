"""The Deployment that is made of a WorkerPool."""

from typing import Any

from import_core.domain.resources.worker_pool import parse_worker_pool
from import_operator.deployments import (
    HASH_LABEL,
    POOL_LABEL,
    SCRATCH_VOLUME,
    get_kept_template,
    get_template_hash,
    get_worker_deployment,
    is_current,
    is_owned_by,
)
from import_operator.settings import OperatorSettings

SETTINGS = OperatorSettings(DATABASE_URL="postgresql://x", REDIS_URL="redis://x")


def pool(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "worker", "image": "import-worker:1", **(container or {})}]}}
    metadata = {"name": "fast", "namespace": "imports", "uid": "pool-uid", "generation": 1}
    return {"metadata": metadata, "spec": {"template": template, **spec}}


def deployment(body: dict[str, Any]) -> dict[str, Any]:
    return get_worker_deployment(body, parse_worker_pool(body), SETTINGS)


def container(body: dict[str, Any]) -> dict[str, Any]:
    return dict(deployment(body)["spec"]["template"]["spec"]["containers"][0])


def test_worker_learns_what_it_serves() -> None:
    env = {item["name"]: item for item in container(pool(queue="slow", concurrency=9))["env"]}
    assert env["IMPORT_QUEUE"]["value"] == "slow"
    assert env["IMPORT_CONCURRENCY"]["value"] == "9"
    assert env["IMPORT_WORKER_POOL"]["value"] == "fast"
    assert env["POD_UID"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"
    assert env["POD_IP"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


def test_own_variables_win_and_the_users_stay() -> None:
    mine = [{"name": "IMPORT_QUEUE", "value": "other"}, {"name": "LOG_LEVEL", "value": "DEBUG"}]
    env = container(pool({"env": mine}))["env"]
    assert [item for item in env if item["name"] == "IMPORT_QUEUE"] == [
        {"name": "IMPORT_QUEUE", "value": "product-imports"}
    ]
    assert {"name": "LOG_LEVEL", "value": "DEBUG"} in env


def test_connections_come_from_the_secret() -> None:
    assert container(pool())["envFrom"] == [{"secretRef": {"name": "import-connections"}}]
    own = [{"configMapRef": {"name": "mine"}}]
    assert container(pool({"envFrom": own}))["envFrom"] == [
        {"secretRef": {"name": "import-connections"}},
        *own,
    ]


def test_probes_and_account_are_filled_only_where_absent() -> None:
    made = deployment(pool())["spec"]["template"]["spec"]
    assert made["serviceAccountName"] == "import-worker"
    assert made["terminationGracePeriodSeconds"] == 60
    assert made["containers"][0]["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 8080}
    body = pool({"readinessProbe": {"exec": {"command": ["true"]}}})
    body["spec"]["template"]["spec"]["serviceAccountName"] = "special"
    made = deployment(body)["spec"]["template"]["spec"]
    assert made["serviceAccountName"] == "special"
    assert made["containers"][0]["readinessProbe"] == {"exec": {"command": ["true"]}}


def test_fields_unknown_to_us_are_kept() -> None:
    body = pool({"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]})
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "cache", "emptyDir": {}}]
    body["spec"]["template"]["metadata"] = {"labels": {"team": "a", POOL_LABEL: "stolen"}}
    template = deployment(body)["spec"]["template"]
    assert {"name": "cache", "emptyDir": {}} in template["spec"]["volumes"]
    mounts = template["spec"]["containers"][0]["volumeMounts"]
    assert {"name": "cache", "mountPath": "/cache"} in mounts
    assert template["metadata"]["labels"]["team"] == "a"
    assert template["metadata"]["labels"][POOL_LABEL] == "fast"


def test_restricted_pod_security_is_filled_in_where_absent() -> None:
    body = pool()
    body["spec"]["template"]["spec"]["containers"].append({"name": "beside", "image": "beside:1"})
    body["spec"]["template"]["spec"]["initContainers"] = [{"name": "before", "image": "before:1"}]
    spec = deployment(body)["spec"]["template"]["spec"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for made in (*spec["containers"], *spec["initContainers"]):
        assert made["securityContext"]["allowPrivilegeEscalation"] is False
        assert made["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_templates_own_security_wins() -> None:
    body = pool({"securityContext": {"readOnlyRootFilesystem": False, "runAsUser": 7}})
    body["spec"]["template"]["spec"]["securityContext"] = {"runAsNonRoot": False, "fsGroup": 7}
    spec = deployment(body)["spec"]["template"]["spec"]
    assert spec["securityContext"] == {
        "runAsNonRoot": False,
        "fsGroup": 7,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    own = spec["containers"][0]["securityContext"]
    assert (own["readOnlyRootFilesystem"], own["runAsUser"]) == (False, 7)


def test_worker_has_a_place_to_write_to() -> None:
    spec = deployment(pool())["spec"]["template"]["spec"]
    assert spec["volumes"] == [{"name": SCRATCH_VOLUME, "emptyDir": {}}]
    assert spec["containers"][0]["volumeMounts"] == [{"name": SCRATCH_VOLUME, "mountPath": "/tmp"}]
    own = pool({"volumeMounts": [{"name": "mine", "mountPath": "/tmp/"}]})
    assert deployment(own)["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] == [
        {"name": "mine", "mountPath": "/tmp/"}
    ]


def test_health_port_has_a_name_to_scrape_by() -> None:
    assert container(pool())["ports"] == [{"name": "health", "containerPort": 8080}]
    own = [{"name": "mine", "containerPort": 8080}]
    assert container(pool({"ports": own}))["ports"] == own


def test_replicas_are_not_applied() -> None:
    assert "replicas" not in deployment(pool())["spec"]


def test_pool_owns_its_deployment() -> None:
    made = deployment(pool())
    assert made["metadata"]["name"] == "fast-workers"
    assert is_owned_by(made, "pool-uid")
    assert not is_owned_by(made, "another")
    assert (
        made["spec"]["selector"]["matchLabels"].items()
        <= made["spec"]["template"]["metadata"]["labels"].items()
    )


def test_only_what_matters_makes_a_new_deployment() -> None:
    made = deployment(pool())
    assert is_current(made, deployment(pool(scaling={"minReplicas": 7})))
    assert not is_current(made, deployment(pool(concurrency=6)))
    assert not is_current(made, deployment(pool({"image": "import-worker:2"})))


def test_pool_itself_is_not_changed() -> None:
    body = pool()
    deployment(body)
    assert body == pool()


def test_a_version_is_its_template_and_nothing_else() -> None:
    body = pool()
    version = get_template_hash(body, parse_worker_pool(body))
    made = deployment(body)
    assert made["metadata"]["labels"][HASH_LABEL] == version
    assert made["spec"]["template"]["metadata"]["labels"][HASH_LABEL] == version
    assert made["spec"]["selector"]["matchLabels"] == {POOL_LABEL: "fast", HASH_LABEL: version}
    assert {"name": "IMPORT_TEMPLATE_HASH", "value": version} in container(body)["env"]
    same = pool(concurrency=9, scaling={"minReplicas": 7})
    assert get_template_hash(same, parse_worker_pool(same)) == version
    other = pool({"image": "import-worker:2"})
    assert get_template_hash(other, parse_worker_pool(other)) != version


def test_the_selector_that_a_deployment_has_is_kept() -> None:
    body = pool()
    selector = {"matchLabels": {POOL_LABEL: "fast"}}
    made = get_worker_deployment(
        body, parse_worker_pool(body), SETTINGS, name="fast-workers-1", selector=selector
    )
    assert (made["metadata"]["name"], made["spec"]["selector"]) == ("fast-workers-1", selector)


def test_a_kept_template_is_the_users_own() -> None:
    body = pool()
    kept = get_kept_template(body, parse_worker_pool(body))
    version = get_template_hash(body, parse_worker_pool(body))
    assert kept["metadata"]["name"] == f"fast-workers-{version}"
    assert kept["data"]["template"] == body["spec"]["template"]
    assert is_owned_by(kept, "pool-uid")
