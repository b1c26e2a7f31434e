"""What always holds in a simulation: no job is lost, the same seed gives the same, time and money add up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from import_core.domain.scaling import ScalingSpec
from import_core.domain.simulation.assumptions import Assumptions
from import_core.domain.simulation.comparison import POLICIES, compare
from import_core.domain.simulation.engine import Engine, Run
from import_core.domain.simulation.fleet import ScaleIn
from import_core.domain.simulation.generating import SCENARIOS
from import_core.domain.simulation.ordering import AsDispatched, OldestFirst
from import_core.domain.simulation.policies import Fixed, Policy, QueueDepth, View
from import_core.domain.simulation.trace import Arrival, Outage, ProviderRule, Trace

ASSUMED = Assumptions(seconds_per_job=0.0, seconds_per_product=1.0, seconds_per_image=0.0)
SPEC = ScalingSpec(
    minimum=1, maximum=10, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
)


class Steps:
    """Follows a list of (time, workers)."""

    name = "steps"
    interval = 1.0

    def __init__(self, *steps: tuple[float, int], scale_in: ScaleIn = ScaleIn.NEWEST) -> None:
        self._steps = steps
        self.start = steps[0][1]
        self.scale_in = scale_in

    def look(self, view: View, now: float) -> int:
        return next(workers for at, workers in reversed(self._steps) if at <= now)


def job(at: float, seconds: int, connection: str = "acme", provider: str = "none") -> Arrival:
    return Arrival(at, connection, connection, provider, seconds, 0)


def replay(
    policy: Policy, *arrivals: Arrival, seconds: float = 1000.0, outages: tuple[Outage, ...] = ()
) -> Run:
    trace = Trace("test", seconds, arrivals, outages=outages)
    return Engine(trace, policy, ASSUMED, OldestFirst()).run()


def test_a_free_worker_takes_a_job_at_once() -> None:
    run = replay(Fixed("fixed", 1), job(10.0, 60))
    assert [(one.waited, one.ended_at) for one in run.jobs] == [(0.0, 70.0)]
    assert run.worker_hours == pytest.approx(1000 / 3600)


def test_jobs_wait_while_all_places_are_taken() -> None:
    run = replay(Fixed("fixed", 1), *(job(0.0, 60) for _ in range(6)))
    assert [one.waited for one in run.jobs] == [0.0] * 5 + [60.0]


def test_a_new_worker_needs_a_node_and_a_pod() -> None:
    run = replay(Steps((0.0, 1), (1.0, 6)), *(job(0.0, 600) for _ in range(10)))
    # The first node has room for four workers: the second one starts at once, the last needs another node.
    assert run.jobs[5].waited == pytest.approx(1.0 + ASSUMED.node_start - 1.0 + ASSUMED.pod_start, abs=1.0)
    assert run.most_workers == 6


def test_a_stopped_worker_hands_back_what_it_can_not_finish_in_the_grace_time() -> None:
    policy = Steps((0.0, 2), (100.0, 1))
    run = replay(policy, *(job(0.0, 110) for _ in range(3)), *(job(0.0, 400) for _ in range(3)))
    assert run.interrupted == sum(one.interruptions for one in run.jobs)
    assert run.interrupted > 0
    assert all(one.ended_at is not None for one in run.jobs)
    assert all(one.interruptions == 0 for one in run.jobs if one.arrival.products == 110)
    # It goes on from its checkpoint, so it loses at most the page in hand.
    again = next(one for one in run.jobs if one.interruptions)
    assert again.ended_at is not None
    assert again.ended_at <= 400 + ASSUMED.page_seconds(again.arrival) + again.waited


def test_a_draining_worker_interrupts_nothing_and_takes_nothing_more() -> None:
    policy = Steps((0.0, 2), (100.0, 1), scale_in=ScaleIn.IDLE_FIRST)
    run = replay(policy, *(job(0.0, 400) for _ in range(10)), *(job(150.0, 10) for _ in range(2)))
    assert run.interrupted == 0
    # The one that stays has no place before 400 s, and the one that drains takes none.
    assert [one.waited for one in run.jobs[10:]] == [250.0, 250.0]
    assert run.worker_hours == pytest.approx((1000 + 400) / 3600)


def test_a_draining_worker_that_is_needed_again_is_taken_back() -> None:
    policy = Steps((0.0, 2), (100.0, 1), (200.0, 2), scale_in=ScaleIn.IDLE_FIRST)
    run = replay(policy, *(job(0.0, 400) for _ in range(7)), *(job(150.0, 10) for _ in range(4)))
    # It has three free places, at 200 s at once: no other worker is started.
    assert [one.waited for one in run.jobs[7:]] == [50.0, 50.0, 50.0, 60.0]
    assert run.most_workers == 2


def test_an_idle_worker_goes_before_a_busy_one() -> None:
    policy = Steps((0.0, 2), (100.0, 1), scale_in=ScaleIn.IDLE_FIRST)
    run = replay(policy, job(0.0, 400))
    # It is let go by the look after the one that asked it to drain.
    assert run.worker_hours == pytest.approx((1000 + 101) / 3600)


def test_an_outage_holds_its_providers_jobs_and_no_others() -> None:
    run = replay(
        Fixed("fixed", 1),
        *(job(50.0, 100, "a", "down"), job(120.0, 10, "a", "down"), job(120.0, 10, "b", "up")),
        outages=(Outage("down", 100.0, 300.0),),
    )
    running, held, other = run.jobs
    assert other.ended_at == 130.0
    assert held.ended_at == 310.0
    # Its first half was done before; a page may be done again.
    assert running.ended_at is not None
    assert 350.0 <= running.ended_at <= 350.0 + ASSUMED.page_seconds(running.arrival)
    assert run.interrupted == 0
    # Waiting for a provider is not waiting for a worker.
    assert held.waited == 0.0


def test_a_connections_limit_holds_over_all_workers() -> None:
    arrivals = tuple(job(0.0, 60, "slow", "limited") for _ in range(20))
    trace = Trace("test", 10.0, arrivals, providers={"limited": ProviderRule(60.0, 1.0)})
    run = Engine(trace, Fixed("fixed", 10), ASSUMED, OldestFirst()).run()
    # 61 calls each, 60 a minute, and a full window at once.
    assert run.seconds == pytest.approx(20 * 61 - 60, abs=ASSUMED.limit_patience)


def test_an_idle_fleet_shrinks_to_its_minimum() -> None:
    policy = QueueDepth("ours", SPEC)
    run = replay(policy, *(job(0.0, 5) for _ in range(60)), seconds=3600.0)
    assert run.most_workers == 6
    assert run.samples[-1].replicas == 1
    assert run.interrupted == 0


@pytest.mark.parametrize("policy", [name for name in POLICIES if not name.startswith("fixed")])
def test_every_policy_shrinks_when_nothing_is_left(policy: str) -> None:
    arrivals = tuple(job(600.0, 12_000, f"c{number}") for number in range(400))
    trace = Trace("test", 2.5 * 3600.0, arrivals)
    (found,) = compare(trace, [policy])
    assert found.most_workers > 2
    assert found.samples[-1].replicas == 2


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_no_job_is_lost_and_a_seed_gives_the_same_again(scenario: str) -> None:
    trace = SCENARIOS[scenario].make(3, 300)
    assert trace == SCENARIOS[scenario].make(3, 300)
    names = ("hpa", "keda", "ecs-target-tracking")
    first, second = list(compare(trace, names)), list(compare(trace, names))
    assert first == second
    assert [(found.jobs, found.unfinished) for found in first] == [(300, 0)] * len(names)


def test_our_policies_lose_no_job_and_give_the_same_again() -> None:
    day = SCENARIOS["waves"].make(3, 5000)
    arrivals = tuple(arrival for arrival in day.arrivals if arrival.at < 7200)
    trace = Trace("two hours", 7200.0, arrivals, waves=day.waves)
    first, second = list(compare(trace)), list(compare(trace))
    assert first == second
    assert [found.unfinished for found in first] == [0] * len(POLICIES)
    interrupted = {found.policy for found in first if found.interrupted}
    assert interrupted <= {"ecs-target-tracking", "hpa", "hpa-unlimited-steps", "keda"}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 500), st.integers(1, 300), st.integers(0, 3)), min_size=1, max_size=60),
    st.lists(st.tuples(st.floats(1, 900), st.integers(1, 8)), max_size=6),
    st.sampled_from(ScaleIn),
    st.booleans(),
)
def test_no_job_is_lost_however_workers_come_and_go(
    jobs: list[tuple[float, int, int]], steps: list[tuple[float, int]], scale_in: ScaleIn, fair: bool
) -> None:
    arrivals = tuple(job(at, size, f"c{company}", f"p{company}") for at, size, company in sorted(jobs))
    rules = {"p1": ProviderRule(60.0, 2.0)}
    trace = Trace("test", 600.0, arrivals, outages=(Outage("p2", 100.0, 200.0),), providers=rules)
    policy = Steps((0.0, 1), *sorted(steps), scale_in=scale_in)
    run = Engine(trace, policy, ASSUMED, AsDispatched() if fair else OldestFirst()).run()
    assert len(run.jobs) == len(jobs)
    for one in run.jobs:
        assert one.ended_at is not None
        assert one.waited >= 0
        assert one.ended_at >= one.arrival.at
    if scale_in is ScaleIn.IDLE_FIRST:
        assert run.interrupted == 0


def test_jobs_start_as_the_dispatcher_chooses() -> None:
    """A company that comes late is not behind the whole backlog of another."""
    crowd = [Arrival(0.0, "crowd", "crowd", "none", 10, 0) for _ in range(200)]
    late = Arrival(1.0, "late", "late", "none", 10, 0)
    trace = Trace("test", 10.0, (*crowd, late))
    waits = [
        Engine(trace, Fixed("fixed", 1), ASSUMED, order).run().jobs[-1].waited
        for order in (AsDispatched(), OldestFirst())
    ]
    assert waits[0] < 30 < waits[1]
