"""A rollout's state is read back from the pool's status as it was written, also by another version."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from import_core.domain.resources.worker_pool import Rollout, RolloutStatus
from import_core.domain.rollout import RolloutPhase, RolloutReason, RolloutState, Version
from import_core.domain.rollout_status import rolled_out, rollout_spec, state_of, status_of, workers_of

hashes = st.text("abcdef0123456789", min_size=10, max_size=10)
times = st.none() | st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001 - the zone is given beside it
    datetime(2090, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(
    st.builds(
        RolloutState,
        stable=hashes,
        deployment=st.just("fast-workers"),
        phase=st.sampled_from(RolloutPhase),
        reason=st.sampled_from(RolloutReason),
        message=st.sampled_from(["", "Waiting for 20 jobs of the new version to end"]),
        canary=hashes,
        step=st.integers(0, 10),
        started_at=times,
        step_at=times,
        watched_from=times,
        rolled_back=st.none() | hashes,
    ),
    st.none() | st.integers(0, 100),
)
def test_a_state_survives_the_way_through_the_status(state: RolloutState, workers: int | None) -> None:
    written = status_of(state, workers=workers, canary=Version(succeeded=3))
    kept = {key: value for key, value in written.items() if value is not None}
    RolloutStatus.model_validate(kept)
    body = {"metadata": {}, "status": {"rollout": kept}}
    assert state_of(body) == state
    assert workers_of(body) == workers
    assert set(written) == {field.alias for field in RolloutStatus.model_fields.values()}


def test_words_of_a_later_version_are_no_obstacle() -> None:
    rollout = {"stableHash": "a", "deployment": "d", "phase": "Meditating", "reason": "Why"}
    assert state_of({"status": {"rollout": rollout}}) == RolloutState("a", "d")
    assert state_of({"status": {"rollout": {"phase": "Watching", "stableHash": "a"}}}) is None
    assert state_of({}) is None


def test_the_initial_workers_are_the_first_step() -> None:
    spec = rollout_spec(Rollout(), ready_seconds=600)
    assert [(step.percent, step.pause_seconds) for step in spec.steps] == [(None, 600), (25, 600), (100, 0)]
    assert (spec.initial_replicas, spec.min_success_percent, spec.min_jobs, spec.last_step) == (2, 90, 20, 2)


def test_the_condition_says_why_a_template_is_not_everywhere() -> None:
    back = RolloutState(
        "a",
        "d",
        phase=RolloutPhase.ROLLED_BACK,
        reason=RolloutReason.LOW_SUCCESS,
        message="b was rolled back",
    )
    assert rolled_out(back) == ("False", "RolledBackJobsFail", "b was rolled back")
    assert rolled_out(RolloutState("a", "d")) is None
