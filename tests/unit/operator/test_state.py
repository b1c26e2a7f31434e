"""The leader's memory, and the handlers that fill it."""

from typing import Any

from import_core.domain.admission import Refusal, Verdict
from import_operator.handlers.handle_cancel_import_job import handle_cancel_import_job
from import_operator.handlers.handle_check_import_provider import (
    handle_check_import_provider,
    handle_forget_import_provider,
)
from import_operator.handlers.handle_end_worker_pod import handle_end_worker_pod
from import_operator.handlers.handle_record_import_job import handle_record_import_job
from import_operator.handlers.handle_scale_worker_pool import (
    handle_forget_deployment,
    handle_observe_deployment,
    handle_scale_worker_pool,
)
from import_operator.state import KeySet, ObjectStore, OperatorState


def body(
    uid: str, *, version: int = 1, generation: int = 1, name: str | None = None, **rest: Any
) -> dict[str, Any]:
    metadata = {
        "uid": uid,
        "name": name or uid,
        "namespace": "imports",
        "resourceVersion": str(version),
        "generation": generation,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": ["long"],
    }
    return {"metadata": metadata, **rest}


def job(uid: str, provider: str = "acme", **values: Any) -> dict[str, Any]:
    return body(uid, spec={"providerRef": {"name": provider}}, **values)


def test_older_version_does_not_replace_a_newer_one() -> None:
    store = ObjectStore()
    assert store.put(body("a", version=10))
    assert not store.put(body("a", version=9))
    assert not store.put(body("a", version=10))
    assert store.put(body("a", version=11))


def test_name_finds_the_object_that_bears_it_now() -> None:
    store = ObjectStore()
    store.put(body("old", name="same"))
    store.put(body("new", name="same"))
    store.remove("old")
    found = store.named("same")
    assert found is not None
    assert found["metadata"]["uid"] == "new"
    store.remove("new")
    assert store.named("same") is None
    assert len(store) == 0


def test_field_ownership_is_not_kept() -> None:
    store = ObjectStore()
    store.put(body("a"))
    kept = store.get("a")
    assert kept is not None
    assert "managedFields" not in kept["metadata"]


def test_set_replicas_are_believed_against_older_events() -> None:
    store = ObjectStore()
    store.put(body("d", version=5, spec={"replicas": 1}))
    store.put_replicas("d", 4, "8")
    assert not store.put(body("d", version=7, spec={"replicas": 1}))
    kept = store.get("d")
    assert kept is not None
    assert kept["spec"]["replicas"] == 4


async def test_keys_wait_once_in_order() -> None:
    keys = KeySet()
    keys.update(["a", "b", "a", "c"])
    keys.wake.clear()
    assert keys.take(2) == ["a", "b"]
    assert keys.wake.is_set(), "the rest has its turn at once"
    keys.wake.clear()
    assert keys.take(2) == ["c"]
    assert not keys.wake.is_set()


async def test_new_job_is_recorded() -> None:
    state = OperatorState("imports")
    handle_record_import_job(state, job("a"))
    assert state.to_record.take(9) == ["a"]


async def test_changed_spec_is_recorded_and_changed_status_is_looked_at() -> None:
    state = OperatorState("imports")
    handle_record_import_job(state, job("a"))
    state.to_record.take(9)
    state.verdicts["a"] = Verdict(1, None)
    handle_record_import_job(state, job("a", version=2))
    assert (state.to_record.take(9), state.to_project.take(9)) == ([], ["a"])
    handle_record_import_job(state, job("a", version=3, generation=2))
    assert state.to_record.take(9) == ["a"]


async def test_finished_job_is_left_alone() -> None:
    state = OperatorState("imports")
    handle_record_import_job(state, {**job("a"), "status": {"phase": "Succeeded"}})
    assert (len(state.to_record), len(state.to_project)) == (0, 0)


async def test_finished_job_is_remembered_until_its_time_is_over() -> None:
    state = OperatorState("imports")
    end = {"phase": "Failed", "completedAt": "2026-01-01T00:00:00Z"}
    handle_record_import_job(state, {**job("a"), "status": end})
    assert set(state.finished) == {"a"}
    handle_record_import_job(state, {**job("a", version=2), "status": {"phase": "Queued"}})
    assert state.finished == {}
    handle_record_import_job(state, {**job("a", version=3), "status": end})
    handle_cancel_import_job(state, job("a", version=4))
    assert state.finished == {}


async def test_request_for_another_run_is_looked_at() -> None:
    state = OperatorState("imports")
    for uid, phase, value in (("done", "Failed", "1"), ("runs", "Running", "1"), ("bad", "Running", "")):
        asking = job(uid)
        asking["metadata"]["annotations"] = {"imports.avnz.io/retry": value}
        handle_record_import_job(state, {**asking, "status": {"phase": phase}})
    handle_record_import_job(state, {**job("quiet"), "status": {"phase": "Failed"}})
    assert state.to_reopen.take(9) == ["done", "bad"], "one under way is looked at when it has ended"


async def test_deleted_job_is_cancelled() -> None:
    state = OperatorState("imports")
    handle_record_import_job(state, job("a"))
    handle_cancel_import_job(state, job("a", version=2))
    assert (state.to_record.take(9), state.to_cancel.take(9)) == ([], ["a"])
    assert state.jobs.get("a") is None


async def test_provider_that_appears_has_its_refused_jobs_looked_at_again() -> None:
    state = OperatorState("imports")
    for uid, provider in (("waits", "acme"), ("fine", "acme"), ("other", "else")):
        handle_record_import_job(state, job(uid, provider))
    state.to_record.take(9)
    refusal = Refusal("ProviderNotFound", "none")
    state.verdicts = {
        "waits": Verdict(1, refusal),
        "fine": Verdict(1, None),
        "other": Verdict(1, refusal),
    }
    handle_check_import_provider(state, body("p", name="acme"))
    assert state.to_record.take(9) == ["waits"]
    assert state.to_check.take(9) == ["acme"]
    handle_check_import_provider(state, body("p", name="acme", version=2))
    assert state.to_record.take(9) == [], "its status changed, not its spec"


async def test_deleted_provider_is_forgotten() -> None:
    state = OperatorState("imports")
    handle_check_import_provider(state, body("p", name="acme"))
    handle_forget_import_provider(state, body("p", name="acme", version=2))
    assert state.providers_gone == {"acme": "p"}


async def test_provider_replaced_under_its_name_is_not_forgotten() -> None:
    state = OperatorState("imports")
    handle_check_import_provider(state, body("old", name="acme"))
    handle_check_import_provider(state, body("new", name="acme", version=3))
    handle_forget_import_provider(state, body("old", name="acme", version=2))
    assert state.providers_gone == {}
    assert state.providers.named("acme") is not None


async def test_pool_and_deployment_wake_scaling_and_dispatch() -> None:
    state = OperatorState("imports")
    handle_scale_worker_pool(state, body("pool"))
    assert state.dispatch_wanted.is_set()
    state.dispatch_wanted.clear()
    handle_observe_deployment(state, body("d"))
    assert state.dispatch_wanted.is_set()
    handle_forget_deployment(state, body("d"))
    assert state.deployments.get("d") is None


async def test_end_of_a_pod_waits_for_the_reaper() -> None:
    state = OperatorState("imports")
    handle_end_worker_pod(state, body("pod", status={}), deleted=False)
    assert not state.worker_ends
    handle_end_worker_pod(state, body("pod", status={}), deleted=True)
    assert set(state.worker_ends) == {"pod"}
    assert state.workers_ended.is_set()


def owned(uid: str, schedule: str | None, **values: Any) -> dict[str, Any]:
    made = job(uid, **values)
    if schedule is not None:
        owner = {"kind": "ImportSchedule", "name": schedule, "uid": schedule, "controller": True}
        made["metadata"]["ownerReferences"] = [owner]
    return made


def test_jobs_of_a_schedule_wake_it_when_they_come_end_and_go() -> None:
    state = OperatorState("imports")
    handle_record_import_job(state, owned("a", "nightly"))
    assert (state.to_schedule.take(9), list(state.scheduled["nightly"])) == (["nightly"], ["a"])
    handle_record_import_job(state, owned("a", "nightly", version=2, status={"phase": "Running"}))
    assert state.to_schedule.take(9) == []
    handle_record_import_job(state, owned("a", "nightly", version=3, status={"phase": "Succeeded"}))
    assert state.to_schedule.take(9) == ["nightly"]
    state.surplus.add("a")
    handle_cancel_import_job(state, owned("a", "nightly", version=4))
    assert (state.to_schedule.take(9), state.scheduled, state.surplus) == (["nightly"], {}, set())


def test_job_that_its_schedule_owns_no_more_is_not_counted_for_it() -> None:
    state = OperatorState("imports")
    handle_record_import_job(state, owned("a", "nightly"))
    handle_record_import_job(state, owned("a", None, version=2))
    assert state.scheduled == {}
    assert state.to_schedule.take(9) == ["nightly"]


def test_objects_are_found_by_their_owner_as_it_is_now() -> None:
    store = ObjectStore()

    def owned(uid: str, owner: str | None, version: int) -> dict[str, Any]:
        made = body(uid, version=version)
        made["metadata"]["ownerReferences"] = [{"uid": owner}] if owner else []
        return made

    store.put(owned("a", "pool", 1))
    store.put(owned("b", "pool", 1))
    store.put(owned("c", None, 1))
    assert [each["metadata"]["uid"] for each in store.owned_by("pool")] == ["a", "b"]
    store.put(owned("a", None, 2))
    store.put(owned("c", "other", 2))
    assert [each["metadata"]["uid"] for each in store.owned_by("pool")] == ["b"]
    store.put_replicas("b", 3, "2")
    assert store.owned_by("pool")[0]["spec"] == {"replicas": 3}
    store.remove("b")
    assert store.owned_by("pool") == []
    assert [each["metadata"]["uid"] for each in store.owned_by("other")] == ["c"]
