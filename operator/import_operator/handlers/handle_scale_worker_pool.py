"""A WorkerPool, or the Deployment that was made of one, appeared, changed or was deleted."""

from __future__ import annotations

from import_operator.state import Body, OperatorState, name_of, uid_of


def handle_scale_worker_pool(state: OperatorState, body: Body) -> None:
    """Keep the pool for the loops that scale and roll out."""
    if state.pools.put(body):
        state.scale_wanted.set()
        state.rollout_wanted.set()
        state.dispatch_wanted.set()


def handle_forget_worker_pool(state: OperatorState, body: Body) -> None:
    """Forget the pool; the API server's garbage collector deletes its Deployment."""
    state.pools.remove(uid_of(body))
    state.scaling.start_times.pop(name_of(body), None)


def handle_observe_deployment(state: OperatorState, body: Body) -> None:
    """Keep the Deployment: ready workers open the window of the dispatcher, and move rollouts on."""
    if state.deployments.put(body):
        state.scale_wanted.set()
        state.rollout_wanted.set()
        state.dispatch_wanted.set()


def handle_forget_deployment(state: OperatorState, body: Body) -> None:
    """Forget the Deployment; the scaling loop makes it again where its pool still stands."""
    state.deployments.remove(uid_of(body))
    state.scale_wanted.set()
    state.rollout_wanted.set()
