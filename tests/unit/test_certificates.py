"""The webhook's certificate: every step in its time, and never one that callers don't trust."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from import_core.domain.certificates import (
    Certificate,
    CertificateAction,
    CertificatePolicy,
    CertificateState,
    Sightings,
    next_certificate_action,
    sights,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LIFE = timedelta(days=90)
POLICY = CertificatePolicy(hosts=frozenset({"gateway"}), settle_seconds=60, retire_seconds=600)


def certificate(authority: str, *, age: timedelta = timedelta(), hosts: str = "gateway") -> Certificate:
    return Certificate(authority, NOW - age, NOW - age + LIFE, frozenset({hosts}))


def decide(state: CertificateState, *, seen_for: float = 0.0) -> CertificateAction:
    sightings = Sightings({}).after(sights(state), 1000.0)
    return next_certificate_action(state, NOW, policy=POLICY, sightings=sightings, clock=1000.0 + seen_for)


STEADY = CertificateState(current=certificate("a"), trusted=frozenset({"a"}))
OLD = certificate("a", age=timedelta(days=60))
PREPARED = CertificateState(current=OLD, following=certificate("b"), trusted=frozenset({"a", "b"}))
SWITCHED = CertificateState(current=certificate("b"), previous="a", trusted=frozenset({"a", "b"}))


@pytest.mark.parametrize(
    ("state", "seen_for", "expected"),
    [
        (CertificateState(trusted=frozenset()), 0, CertificateAction.MAKE),
        (CertificateState(), 0, CertificateAction.MAKE),
        (replace(STEADY, current=certificate("a", age=LIFE)), 0, CertificateAction.MAKE),
        (replace(STEADY, current=certificate("a", age=-timedelta(hours=1))), 0, CertificateAction.MAKE),
        (STEADY, 1e6, CertificateAction.WAIT),
        (replace(STEADY, trusted=frozenset()), 0, CertificateAction.PUBLISH),
        (replace(STEADY, trusted=frozenset({"a", "foreign"})), 0, CertificateAction.PUBLISH),
        (replace(STEADY, trusted=None), 0, CertificateAction.WAIT),
        (replace(STEADY, current=OLD), 0, CertificateAction.PREPARE),
        (replace(STEADY, rotation_asked=True), 0, CertificateAction.PREPARE),
        (replace(STEADY, current=certificate("a", hosts="another")), 0, CertificateAction.PREPARE),
        (replace(PREPARED, trusted=frozenset({"a"})), 1e6, CertificateAction.PUBLISH),
        (PREPARED, 59, CertificateAction.WAIT),
        (PREPARED, 60, CertificateAction.SWITCH),
        (replace(PREPARED, trusted=None), 1e6, CertificateAction.WAIT),
        (replace(PREPARED, following=certificate("b", age=LIFE)), 60, CertificateAction.PREPARE),
        (SWITCHED, 599, CertificateAction.WAIT),
        (SWITCHED, 600, CertificateAction.RETIRE),
        (replace(SWITCHED, rotation_asked=True), 599, CertificateAction.WAIT),
        (replace(SWITCHED, previous=None), 600, CertificateAction.PUBLISH),
    ],
)
def test_next_step(state: CertificateState, seen_for: float, expected: CertificateAction) -> None:
    assert decide(state, seen_for=seen_for) is expected


def test_a_sighting_starts_anew_after_a_break() -> None:
    seen = Sightings({}).after({"x"}, 10.0)
    assert seen.age("x", 15.0) == 5.0
    assert seen.after({"x"}, 15.0).age("x", 20.0) == 10.0
    assert seen.after((), 15.0).after({"x"}, 16.0).age("x", 20.0) == 4.0
    assert seen.age("never seen", 15.0) == 0.0


@dataclass
class World:
    """One Secret, one API server that hears late, and replicas that look late; times in seconds."""

    clock: float = 0.0
    made: int = 0
    state: CertificateState = field(default_factory=lambda: CertificateState(trusted=frozenset()))
    heard: frozenset[str] = frozenset()
    """What the API server trusts."""
    published_at: float = 0.0
    replicas: dict[int, str | None] = field(default_factory=lambda: dict.fromkeys(range(3)))
    """The authority of the certificate that each serves."""
    sightings: dict[int, Sightings] = field(default_factory=lambda: dict.fromkeys(range(3), Sightings({})))
    unserved: bool = True

    @property
    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.clock)

    def make(self) -> Certificate:
        self.made += 1
        return Certificate(f"ca-{self.made}", self.now, self.now + timedelta(seconds=20_000), POLICY.hosts)

    def look(self, replica: int) -> None:
        state = self.state
        self.replicas[replica] = state.current.authority if state.current else None
        seen = self.sightings[replica].after(sights(state), self.clock)
        self.sightings[replica] = seen
        self.act(next_certificate_action(state, self.now, policy=POLICY, sightings=seen, clock=self.clock))

    def act(self, action: CertificateAction) -> None:
        state = self.state
        match action:
            case CertificateAction.MAKE:
                self.state = CertificateState(current=self.make(), trusted=state.trusted)
                self.unserved = True
            case CertificateAction.PREPARE:
                self.state = replace(state, following=self.make(), rotation_asked=False)
            case CertificateAction.PUBLISH:
                self.state = replace(state, trusted=state.wanted)
                self.published_at = self.clock
            case CertificateAction.SWITCH:
                assert state.current is not None
                self.state = replace(
                    state, current=state.following, following=None, previous=state.current.authority
                )
            case CertificateAction.RETIRE:
                self.state = replace(state, previous=None)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(1, 50), st.booleans()), min_size=200, max_size=600))
def test_the_api_server_trusts_every_replica_at_every_moment(looks: list[tuple[int, float, bool]]) -> None:
    """Each replica looks at least every 150 s, the API server hears within 50 s."""
    world = World()
    for turn, (replica, seconds, asked) in enumerate(looks):
        world.clock += seconds
        if asked and turn % 20 == 0:
            world.state = replace(world.state, rotation_asked=True)
        if world.clock - world.published_at >= 50:
            world.heard = world.state.trusted or frozenset()
        for number in (replica, turn % 3):
            world.look(number)
        served = {authority for authority in world.replicas.values() if authority}
        if world.unserved:  # the first one of all is not trusted before it is published
            world.unserved = not (served and served <= world.heard)
        else:
            assert served <= world.heard, (world.clock, served, world.heard)
    assert len(world.state.wanted) <= 3
