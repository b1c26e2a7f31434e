"""The step quality-control: a person's word first, then the rules, then a model; the rest is for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from redis.asyncio import Redis

from import_core.adapters.models.gemini import GeminiModel
from import_core.adapters.postgres import Database
from import_core.adapters.postgres.catalogue_versions import bump
from import_core.adapters.postgres.pool import Connection
from import_core.adapters.postgres.quality import (
    DayBudget,
    Decided,
    QualityStore,
    Word,
    write_decisions,
)
from import_core.adapters.redis.decision_cache import DecisionCache
from import_core.adapters.redis.limiter import SlidingWindowLimiter
from import_core.adapters.s3.store import ObjectStore
from import_core.adapters.tasks import end_tasks
from import_core.domain.breaker import BreakerPolicy
from import_core.domain.errors import (
    DependencyUnavailableError,
    ProviderRejectedError,
    StorageRefusedError,
)
from import_core.domain.judging import unreadable_image
from import_core.domain.quality import (
    Decision,
    QualityRules,
    Verdict,
    decide_by_rules,
    result_of,
)
from import_core.domain.steps import StepDone, StepFailed, StepKind, StepOutcome, StepProduct
from import_core.observability.metrics import WorkerMetrics
from import_worker.breakers import Breakers
from import_worker.steps.base import StepBatch
from import_worker.steps.judge import ModelJudge, Unreadable
from import_worker.steps.quality_settings import QualitySettings
from import_worker.steps.registry import StepContext

log = structlog.get_logger(__name__)

NAME = StepKind.QUALITY_CONTROL.value
"""Names the model's breaker and budgets; jobs of the step have it as their provider, so an open breaker holds them."""


class QualityControl:
    """Decides on batches of products. Without a `judge` the rules decide what they can."""

    kind = StepKind.QUALITY_CONTROL

    def __init__(
        self,
        store: QualityStore,
        rules: QualityRules,
        judge: ModelJudge | None,
        metrics: WorkerMetrics,
    ) -> None:
        self._store = store
        self._rules = rules
        self._judge = judge
        self._metrics = metrics

    async def aclose(self) -> None:
        """Close the model's connections."""
        if self._judge is not None:
            await self._judge.aclose()

    async def run(self, products: Sequence[StepProduct]) -> StepBatch:
        """Decide on all products of the batch.

        Where the model can't be asked now, what is decided goes on without the rest. Raises what `ModelJudge.decide`
        raises, but for what concerns one product alone, where nothing is decided.
        """
        words = await self._store.by_people(
            [(product.product_id, product.content_hash) for product in products]
        )
        decisions = {product_id: word.decision for product_id, word in words.items()}
        sources = dict.fromkeys(decisions, "person")
        open_ones: list[StepProduct] = []
        for product in products:
            if product.product_id in decisions:
                continue
            decision = decide_by_rules(product, self._rules, has_model=self._judge is not None)
            if decision.verdict is Verdict.UNDECIDED:
                open_ones.append(product)
            else:
                decisions[product.product_id] = decision
                sources[product.product_id] = "rules"
        asked = await _ask(self._judge, open_ones) if self._judge is not None and open_ones else _Asked()
        decisions |= asked.kept | asked.decisions
        sources |= dict.fromkeys(asked.kept, "cache") | dict.fromkeys(asked.decisions, "model")
        if asked.error is not None and not decisions and not asked.failures:
            raise asked.error
        for product_id, decision in decisions.items():
            self._metrics.quality_decisions.labels(decision.verdict.value, sources[product_id]).inc()
        return _batch(products, decisions, words, asked)


@dataclass(slots=True)
class _Asked:
    """What the model says of products; `kept`: has said lately, `error`: why it says nothing of the others."""

    kept: dict[str, Decision] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    failures: dict[str, StepFailed] = field(default_factory=dict)
    error: Exception | None = None


async def _ask(judge: ModelJudge, products: Sequence[StepProduct]) -> _Asked:
    """Ask about each; after the first error that concerns all, no more are begun, and those under way end.

    Images that are refused are told from a store that refuses all of them once each was asked for.
    """
    asked = _Asked()
    try:
        asked.kept = await judge.kept(products)
    except DependencyUnavailableError as error:
        asked.error = error
        return asked
    reads = judge.images.batch()
    unreadable: dict[str, Unreadable] = {}
    coming = iter([product for product in products if product.product_id not in asked.kept])

    async def some() -> None:
        for product in coming:
            try:
                found = await judge.decide(product, reads)
                if isinstance(found, Unreadable):
                    unreadable[product.product_id] = found
                else:
                    asked.decisions[product.product_id] = found
            except ProviderRejectedError as error:
                asked.failures[product.product_id] = StepFailed(
                    product.product_id, error.reason, error.message, retryable=False
                )
            except Exception as error:  # noqa: BLE001 - told as the batch's, once the calls under way have ended
                asked.error = asked.error or error
            if asked.error is not None:
                return

    number = min(judge.concurrency, len(products) - len(asked.kept))
    tasks = [asyncio.create_task(some(), name=NAME) for _ in range(number)]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end_tasks(tasks)
    try:
        await reads.check()
    except (StorageRefusedError, DependencyUnavailableError) as error:
        # What was refused says nothing about its products then.
        asked.error = asked.error or error
        unreadable = {name: image for name, image in unreadable.items() if image.key not in reads.refused}
    for product_id, image in unreadable.items():
        log.warning("quality.image_unreadable", productId=product_id, key=image.key, detail=image.detail)
        asked.decisions[product_id] = unreadable_image(image.number)
    return asked


def _batch(
    products: Sequence[StepProduct],
    decisions: Mapping[str, Decision],
    words: Mapping[str, Word],
    asked: _Asked,
) -> StepBatch:
    outcomes: list[StepOutcome] = []
    decided: list[Decided] = []
    for product in products:
        failure = asked.failures.get(product.product_id)
        if failure is not None:
            outcomes.append(failure)
            continue
        if product.product_id not in decisions:
            continue
        decision, word = decisions[product.product_id], words.get(product.product_id)
        outcomes.append(
            StepDone(
                product.product_id,
                result_of(decision),
                halts=decision.verdict is not Verdict.APPROVED,
            )
        )
        decided.append(
            Decided(
                product.product_id,
                product.company_id,
                product.content_hash,
                decision,
                person=word.person if word is not None else None,
                note=word.note if word is not None else None,
            )
        )
    return StepBatch(outcomes, partial(_write, decided=decided), asked.error)


async def _write(connection: Connection, *, decided: Sequence[Decided]) -> None:
    await write_decisions(connection, decided)
    # Last, as the companies' rows stay locked until the transaction ends.
    await bump(connection, {one.company_id for one in decided})


async def make_step(context: StepContext) -> QualityControl:
    """Make the step out of a worker's settings and connections. Raises what `open_quality_control` raises."""
    settings = context.settings
    return open_quality_control(
        settings,
        database=context.database,
        redis=context.redis,
        store=context.store,
        breakers=context.breakers,
        metrics=context.metrics,
        namespace=settings.pod_namespace,
        wait_seconds=settings.provider_wait_seconds,
        clock_scale=settings.limiter_clock_scale,
    )


def open_quality_control(
    settings: QualitySettings,
    *,
    database: Database,
    redis: Redis,
    store: ObjectStore,
    breakers: Breakers,
    metrics: WorkerMetrics,
    namespace: str,
    wait_seconds: float,
    clock_scale: float = 1.0,
) -> QualityControl:
    """The step as a worker runs it. `namespace` is that of the jobs, which its breaker is found by.

    `wait_seconds` bounds the wait for the budget of a minute; `clock_scale` is the limiter's. Raises
    MissingPackageError where a key is given and the model's package is not installed.
    """
    rules = settings.quality_rules()
    judge: ModelJudge | None = None
    key = settings.gemini_api_key.get_secret_value() if settings.gemini_api_key is not None else ""
    if key:
        model = GeminiModel(
            api_key=key,
            model=settings.gemini_model,
            base_url=settings.gemini_base_url or None,
            timeout=settings.gemini_timeout_seconds,
        )
        limiter = SlidingWindowLimiter(
            redis,
            key=NAME,
            requests=settings.gemini_calls_per_minute,
            per_seconds=60.0,
            clock_scale=clock_scale,
            max_wait=wait_seconds,
        )
        most = settings.gemini_calls_per_day
        judge = ModelJudge(
            model,
            cache=DecisionCache(redis),
            limiter=limiter,
            day=DayBudget(database, purpose=NAME, most=most) if most else None,
            guard=breakers.guard(
                namespace,
                NAME,
                policy=BreakerPolicy(),
                timeout_seconds=settings.gemini_timeout_seconds,
                provider_type=NAME,
            ),
            store=store,
            metrics=metrics,
            rules=rules.fingerprint(),
            images=settings.gemini_images,
            concurrency=settings.gemini_concurrency,
        )
    return QualityControl(QualityStore(database), rules, judge, metrics)
