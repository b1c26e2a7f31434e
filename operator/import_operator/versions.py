"""The versions that pools run: which one is stable, with which Deployment, and how many workers both have together.

The scaling loop decides on the number of workers. While two versions run, the rollout loop divides it between them,
and is the only one that sets replicas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import CONTROLLER_REVISION, DEPLOYMENT
from import_core.domain.errors import ObjectConflictError, ObjectRefusedError
from import_core.domain.resources.worker_pool import WorkerPool
from import_core.domain.rollout import RolloutState
from import_core.domain.rollout_status import state_of, workers_of
from import_core.observability.logs import get_logger
from import_operator.deployments import (
    HASH_LABEL,
    get_deployment_name,
    get_kept_template,
    get_template_hash,
    get_version_name,
    get_worker_deployment,
    is_current,
    is_owned_by,
)
from import_operator.settings import OperatorSettings
from import_operator.state import Body, OperatorState, generation_of, name_of, uid_of

log = get_logger(__name__)


@dataclass
class PoolVersions:
    """What is remembered of one pool; the pool's status keeps it for the next leader."""

    state: RolloutState
    generation: int
    current: str
    """The version that the pool's spec of that generation asks for."""
    workers: int | None = None
    """Workers wanted of both versions together; None: the rollout loop has nothing to divide."""
    templates: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Templates by version: those that run now."""


class Versions:
    """What scaling and rollouts share about the pools' versions."""

    def __init__(self, state: OperatorState, kube: KubeClient, settings: OperatorSettings) -> None:
        self._state = state
        self._kube = kube
        self._settings = settings
        self._pools: dict[str, PoolVersions] = {}

    def of(self, body: Body, pool: WorkerPool) -> PoolVersions:
        """What is known of a pool; of one that was never rolled out, what runs now is the stable version."""
        known, generation = self._pools.get(uid_of(body)), generation_of(body)
        if known is not None and known.generation >= generation:
            return known
        current = get_template_hash(body, pool)
        if known is None:
            state = state_of(body) or self._first(body, current)
            known = PoolVersions(state, generation, current, workers_of(body))
            self._pools[uid_of(body)] = known
        known.generation, known.current = generation, current
        wanted = {known.state.stable, known.state.canary}
        kept = {version: text for version, text in known.templates.items() if version in wanted}
        known.templates = {**kept, current: body["spec"]["template"]}
        return known

    def forget_but(self, uids: set[str]) -> None:
        """Forget pools that are gone."""
        self._pools = {uid: known for uid, known in self._pools.items() if uid in uids}

    def _first(self, body: Body, current: str) -> RolloutState:
        """A new pool, or one of an earlier version, which kept nothing: that is taken over as it is now."""
        name = get_deployment_name(name_of(body))
        seen = self._state.deployments.named(name)
        label = None if seen is None else (seen["metadata"].get("labels") or {}).get(HASH_LABEL)
        owned = seen is not None and is_owned_by(seen, uid_of(body))
        return RolloutState(label if label and owned else current, name)

    async def apply(self, body: Body, pool: WorkerPool, version: str, name: str) -> Body | None:
        """The Deployment of a version as last seen, applied anew where it is missing or differs.

        None where the version's template is lost and it has no Deployment. Raises ObjectConflictError where
        another Deployment bears its name.
        """
        seen = self._state.deployments.named(name)
        if seen is not None and not is_owned_by(seen, uid_of(body)):
            raise ObjectConflictError(f"A Deployment {name} exists that does not belong to this WorkerPool")
        template = await self._template(body, pool, version)
        return seen if template is None else await self._apply(body, pool, name, template)

    async def _apply(self, body: Body, pool: WorkerPool, name: str, template: Mapping[str, Any]) -> Body:
        seen = self._state.deployments.named(name)
        with_template = {**body, "spec": {**body["spec"], "template": template}}
        selector = None if seen is None else (seen.get("spec") or {}).get("selector")
        wanted = get_worker_deployment(with_template, pool, self._settings, name=name, selector=selector)
        if seen is not None and is_current(seen, wanted):
            return seen
        applied = await self._kube.apply(DEPLOYMENT, self._state.namespace, wanted)
        self._state.deployments.put(applied)
        log.info("deployment.applied", pool=name_of(body), name=name)
        return applied

    async def stable(self, body: Body, pool: WorkerPool) -> Body:
        """The stable version's Deployment; where its template is lost, that of the spec has to do."""
        known = self.of(body, pool)
        current = known.current
        try:
            deployment = await self.apply(body, pool, known.state.stable, known.state.deployment)
        except ObjectRefusedError:
            if current == known.state.stable or self.all_of(body):
                raise
            # It never ran: the next template need not be compared with it.
            deployment = None
        if deployment is not None:
            return deployment
        log.warning("template.lost", pool=name_of(body), version=known.state.stable, instead=current)
        known.state = RolloutState(current, known.state.deployment)
        return await self._apply(body, pool, known.state.deployment, body["spec"]["template"])

    def all_of(self, body: Body) -> list[Body]:
        """Every Deployment that was made of a pool."""
        return self._state.deployments.owned_by(uid_of(body))

    def together(self, body: Body, pool: WorkerPool, stable: Body) -> Body:
        """The stable Deployment, with the replicas and numbers of all versions."""
        others = [seen for seen in self.all_of(body) if uid_of(seen) != uid_of(stable)]
        known = self.of(body, pool)
        if not others and known.workers is None:
            return stable
        status = dict(stable.get("status") or {})
        for number in ("replicas", "readyReplicas"):
            status[number] = sum(
                int((seen.get("status") or {}).get(number) or 0) for seen in (stable, *others)
            )
        spec = dict(stable.get("spec") or {})
        if known.workers is not None:
            spec["replicas"] = known.workers
        return {**stable, "spec": spec, "status": status}

    def divides(self, uid: str) -> bool:
        """Whether the rollout loop divides a pool's workers over two versions now."""
        known = self._pools.get(uid)
        return known is not None and known.workers is not None

    def want(self, uid: str, replicas: int) -> bool:
        """Leave a pool's number of workers to the rollout loop; False where there is nothing to divide."""
        known = self._pools.get(uid)
        if known is None or known.workers is None:
            return False
        known.workers = replicas
        self._state.rollout_wanted.set()
        return True

    async def keep_template(self, body: Body, pool: WorkerPool) -> None:
        """Keep the template of the pool's spec, for a rollout to go back to when the spec has another one."""
        try:
            await self._kube.create(CONTROLLER_REVISION, self._state.namespace, get_kept_template(body, pool))
        except ObjectConflictError:
            return

    async def drop_template(self, name: str) -> None:
        """Delete the template of a version that runs no more."""
        kept = await self._kube.get(CONTROLLER_REVISION, self._state.namespace, name)
        if kept is not None:
            await self._kube.delete(CONTROLLER_REVISION, self._state.namespace, name, uid=uid_of(kept))

    async def _template(self, body: Body, pool: WorkerPool, version: str) -> Mapping[str, Any] | None:
        known = self.of(body, pool)
        if version not in known.templates:
            name = get_version_name(pool.metadata.name, version)
            kept = await self._kube.get(CONTROLLER_REVISION, self._state.namespace, name)
            if kept is None:
                return None
            known.templates[version] = kept["data"]["template"]
        return known.templates[version]
