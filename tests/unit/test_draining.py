"""Who drains, who comes back, by how many the number is lowered: idle ones first, and never more than is wanted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.draining import (
    BUSY_MARKS,
    IDLE_KEPT_SECONDS,
    LEAVING_MARKS,
    NO_MARKS,
    BusyScaleIn,
    DrainPlan,
    Member,
    Standing,
    plan_drains,
    wanted_marks,
)

WAIT, LEAST = BusyScaleIn.WAIT, BusyScaleIn.DRAIN_LEAST_WORK


def idle(uid: str) -> Member:
    return Member(uid, Standing.WORKING)


def busy(uid: str, *, left: int = 10, jobs: int = 1) -> Member:
    return Member(uid, Standing.WORKING, jobs=jobs, left=left)


def draining(member: Member) -> Member:
    return replace(member, standing=Standing.DRAINING)


def drained(uid: str, *, marked: bool = True) -> Member:
    return Member(uid, Standing.DRAINED, marked=marked)


def test_idle_workers_are_asked_and_the_busy_one_is_not() -> None:
    plan = plan_drains([busy("a"), idle("b"), idle("c"), idle("d")], replicas=4, desired=1)
    assert plan == DrainPlan(4, ask=("b", "c", "d"), leaving=3)


def test_drained_workers_are_marked_before_the_number_is_lowered_for_them() -> None:
    members = [busy("a"), drained("b", marked=False), drained("c"), draining(idle("d"))]
    plan = plan_drains(members, replicas=4, desired=1)
    assert plan == DrainPlan(3, mark=("b",), going=("c",), leaving=3)


def test_nothing_idle_waits_or_drains_the_least_work() -> None:
    members = [busy("a", left=500), busy("b", left=3, jobs=2), busy("c", left=3)]
    assert plan_drains(members, replicas=3, desired=1) == DrainPlan(3, waits=True)
    plan = plan_drains(members, replicas=3, desired=1, busy=LEAST)
    assert plan == DrainPlan(3, ask=("c", "b"), leaving=2)


def test_an_idle_worker_takes_the_place_of_a_busy_one_that_drains() -> None:
    plan = plan_drains([draining(busy("a")), idle("b")], replicas=2, desired=1)
    assert (plan.take_back, plan.ask) == (("a",), ("b",))


def test_who_drains_is_taken_back_when_needed_with_most_to_do_first() -> None:
    members = [drained("a"), draining(idle("b")), draining(busy("c")), busy("d")]
    assert plan_drains(members, replicas=4, desired=4).take_back == ("c", "b", "a")
    assert plan_drains(members, replicas=4, desired=3).take_back == ("c", "b")
    grown = plan_drains(members, replicas=4, desired=9)
    assert (grown.replicas, grown.take_back) == (9, ("c", "b", "a"))


def test_who_may_be_going_is_not_taken_back() -> None:
    going = replace(drained("a"), going=True)
    assert plan_drains([going, idle("b")], replicas=2, desired=2).take_back == ()
    rest = [idle("b"), idle("c"), busy("d")]
    assert plan_drains([going, *rest], replicas=4, desired=4, busy=LEAST).ask == ()


def test_pods_that_the_controller_deletes_are_counted_once() -> None:
    going = [replace(drained(uid), going=True) for uid in "abc"]
    # The number is lowered, the pods are still seen.
    assert plan_drains([*going, busy("d")], replicas=1, desired=1) == DrainPlan(1)
    # It was not lowered: the operator died before it.
    plan = plan_drains([*going, busy("d")], replicas=4, desired=1)
    assert (plan.replicas, plan.going) == (1, ("a", "b", "c"))


def test_workers_without_a_pod_go_at_once_and_those_not_started_first() -> None:
    assert plan_drains([busy("a")], replicas=4, desired=1, missing=3) == DrainPlan(1, leaving=3)
    starting = Member("z", Standing.WORKING, started=False)
    assert plan_drains([idle("a"), starting], replicas=2, desired=1).ask == ("z",)


members = st.lists(
    st.builds(
        lambda standing, started, jobs, left, marked, going: Member(
            "",
            standing,
            started=started or jobs > 0,
            jobs=jobs if standing is not Standing.DRAINED else 0,
            left=left if jobs else 0,
            marked=(marked or going) and standing is Standing.DRAINED,
            going=going and standing is Standing.DRAINED,
        ),
        st.sampled_from(Standing),
        st.booleans(),
        st.integers(0, 2),
        st.integers(0, 3),
        st.booleans(),
        st.booleans(),
    ),
    max_size=8,
).map(lambda found: [replace(member, pod_uid=f"p{n}") for n, member in enumerate(found)])


@given(members, st.integers(0, 10), st.integers(0, 3), st.sampled_from(BusyScaleIn))
def test_never_a_busy_one_for_an_idle_one_and_never_more_than_wanted(
    found: list[Member], desired: int, missing: int, busy_mode: BusyScaleIn
) -> None:
    replicas = len(found) + missing
    plan = plan_drains(found, replicas=replicas, desired=desired, missing=missing, busy=busy_mode)
    by_uid = {member.pod_uid: member for member in found}
    before = {m.pod_uid for m in found if m.standing is not Standing.WORKING}
    after = (before - set(plan.take_back)) | set(plan.ask)
    staying_idle = [m for m in found if m.pod_uid not in after and not m.jobs and m.started]
    if any(by_uid[uid].jobs for uid in after):
        # One that is taken back in this moment is idle only by chance: it drains already.
        assert all(m.pod_uid in plan.take_back for m in staying_idle)
    if busy_mode is WAIT:
        assert not any(by_uid[uid].jobs for uid in plan.ask)
    assert min(replicas, desired) <= plan.replicas <= max(replicas, desired)
    # Who may be going can't be held, whatever is wanted by now; nobody else is asked for that.
    leaving = {m.pod_uid for m in found if m.going}
    assert len(after - leaving) <= max(0, replicas - desired)
    if desired >= replicas:
        assert plan.ask == ()
    assert set(plan.going) <= {m.pod_uid for m in found if m.standing is Standing.DRAINED and m.marked}
    assert not set(plan.going) & set(plan.take_back)
    assert replicas - plan.replicas <= missing + len(plan.going) if desired < replicas else True
    assert not set(plan.ask) & before


@given(members, st.integers(0, 8), st.sampled_from(BusyScaleIn), st.data())
def test_it_converges(found: list[Member], desired: int, busy_mode: BusyScaleIn, data: st.DataObject) -> None:
    """Workers answer as they do; jobs end at some time, and none begin: then the number is as desired."""
    replicas = len(found)
    # That a worker may be going is forgotten after some seconds.
    world = {member.pod_uid: replace(member, going=False) for member in found}
    for step in range(40):
        plan = plan_drains(list(world.values()), replicas=replicas, desired=desired, busy=busy_mode)
        for uid in plan.take_back:
            world[uid] = replace(world[uid], standing=Standing.WORKING, marked=False)
        for uid in plan.ask:
            world[uid] = replace(world[uid], standing=Standing.DRAINING)
        for uid in plan.mark:
            world[uid] = replace(world[uid], marked=True)
        replicas = plan.replicas
        for uid in plan.going:
            assert not world[uid].jobs
            del world[uid]
        for number in range(len(world), replicas):
            world[f"new-{step}-{number}"] = Member(f"new-{step}-{number}", Standing.WORKING)
        for uid, member in world.items():
            jobs = 0 if step > 10 else member.jobs - data.draw(st.integers(0, member.jobs))
            answers = member.standing is Standing.DRAINING and not jobs
            standing = Standing.DRAINED if answers else member.standing
            world[uid] = replace(member, jobs=jobs, standing=standing)
    assert replicas == len(world) == desired
    assert all(member.standing is Standing.WORKING for member in world.values())
    assert plan_drains(list(world.values()), replicas=replicas, desired=desired) == DrainPlan(replicas)


@pytest.mark.parametrize(
    ("member", "seen", "idle_seconds", "wanted"),
    [
        (busy("a"), NO_MARKS, 0.0, BUSY_MARKS),
        (draining(busy("a")), LEAVING_MARKS, 0.0, BUSY_MARKS),
        (idle("a"), BUSY_MARKS, IDLE_KEPT_SECONDS / 2, BUSY_MARKS),
        (idle("a"), BUSY_MARKS, IDLE_KEPT_SECONDS, NO_MARKS),
        (idle("a"), LEAVING_MARKS, 0.0, NO_MARKS),
        (draining(idle("a")), BUSY_MARKS, 0.0, NO_MARKS),
        (drained("a"), BUSY_MARKS, 0.0, LEAVING_MARKS),
        (idle("a"), NO_MARKS, 0.0, NO_MARKS),
    ],
)
def test_marks(member: Member, seen: object, idle_seconds: float, wanted: object) -> None:
    assert wanted_marks(member, seen, idle_seconds=idle_seconds) == wanted  # type: ignore[arg-type]
