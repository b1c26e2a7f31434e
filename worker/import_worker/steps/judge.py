"""Asks a model about one product: within its budgets, behind its breaker, with images made small."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from import_core.adapters.models.inline_images import make_inline
from import_core.adapters.postgres.quality import DayBudget
from import_core.adapters.redis.decision_cache import DecisionCache
from import_core.domain.errors import (
    BreakerOpenError,
    PermanentError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from import_core.domain.judging import (
    ANSWER_SCHEMA,
    CallEnd,
    Question,
    Reply,
    ask_about,
    decision_key,
    judge,
    shown_images,
)
from import_core.domain.limits import LONGEST_RETRY_AFTER
from import_core.domain.quality import Decision
from import_core.domain.steps import StepProduct
from import_core.observability.metrics import WorkerMetrics
from import_worker.providers.base import CallGuard, Permit, RateLimiter
from import_worker.steps.image_reads import BatchReads, ImageReader, ImageSource

log = structlog.get_logger(__name__)

THROTTLED_SECONDS = 30.0
"""Nobody asks for so long after the model's API said that it is asked too often, where it does not say how long."""
IMAGES_AT_ONCE = 2
"""Whole images in memory at the same time."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image that the model can't be shown: which of the product's, counted from 1, and why."""

    number: int
    key: str
    detail: str


class Model(Protocol):
    """What answers; errors as `GeminiModel.ask` has them."""

    model: str

    async def ask(self, question: Question, schema: Mapping[str, Any]) -> Reply:
        """Ask once."""

    async def aclose(self) -> None:
        """Close the connections."""


class ModelJudge:
    """A model's decisions on products, kept for a day. Used by all jobs of a worker at the same time.

    `limiter` is the budget of a minute, `day` that of a day; both are shared by all workers. `rules` names the rules
    that ran before. `images` and `concurrency`: how many images are shown, and calls sent at the same time.
    """

    def __init__(
        self,
        model: Model,
        *,
        cache: DecisionCache,
        limiter: RateLimiter,
        day: DayBudget | None,
        guard: CallGuard,
        store: ImageSource,
        metrics: WorkerMetrics,
        rules: str,
        images: int,
        concurrency: int,
    ) -> None:
        self._model = model
        self._cache = cache
        self._limiter = limiter
        self._day = day
        self._guard = guard
        self.images = ImageReader(store)
        self._metrics = metrics
        self._rules = rules
        self._most_images = images
        self.concurrency = concurrency
        self._calls = asyncio.Semaphore(concurrency)
        self._decoding = asyncio.Semaphore(IMAGES_AT_ONCE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._model.aclose()

    async def kept(self, products: Sequence[StepProduct]) -> dict[str, Decision]:
        """Decisions that the model made lately on products in this state, by product id."""
        keys = {product.product_id: self._key(product) for product in products}
        found = await self._cache.find(list(dict.fromkeys(keys.values())))
        return {product_id: found[key] for product_id, key in keys.items() if key in found}

    async def decide(self, product: StepProduct, reads: BatchReads) -> Decision | Unreadable:
        """Ask about one product, unless an image of it can't be read.

        Whether that is the image's fault, `reads` knows once the whole batch is read.

        Raises HandBackError where a budget is used up or the breaker is open, ProviderThrottledError,
        ProviderUnavailableError, DependencyUnavailableError; CredentialsError and ModelNotUsableError, which hold for
        every product; ProviderRejectedError, which holds for this one.
        """
        async with self._calls:
            await self._guard.check()
            images = await self._read_images(product, reads)
            if isinstance(images, Unreadable):
                return images
            reply = await self._ask(ask_about(product, images, word=secrets.token_hex(8)))
        found = judge(reply)
        self._count(found.end.value, reply)
        if found.end is not CallEnd.ANSWERED:
            log.info("quality.no_answer", productId=product.product_id, end=found.end.value)
        if found.is_word:
            await self._cache.keep(self._key(product), found.decision)
        return found.decision

    def _key(self, product: StepProduct) -> str:
        return decision_key(product, rules=self._rules, model=self._model.model, images=self._most_images)

    async def _read_images(self, product: StepProduct, reads: BatchReads) -> list[bytes] | Unreadable:
        images: list[bytes] = []
        for number, image in enumerate(shown_images(product, self._most_images), 1):
            async with self._decoding:
                small = await _read_small(image.key, reads)
            if isinstance(small, str):
                return Unreadable(number, image.key, small)
            images.append(small)
        return images

    async def _ask(self, question: Question) -> Reply:
        clock = asyncio.get_running_loop().time
        grant = await self._limiter.acquire()
        sent = False
        try:
            if self._day is not None:
                await self._day.take()
            permit = await self._guard.enter()
            sent, began = True, clock()
            try:
                return await self._guarded(question, permit)
            finally:
                self._metrics.quality_model_seconds.observe(clock() - began)
        finally:
            if sent:
                await self._limiter.arrived(grant, clock())
            else:
                await self._limiter.release(grant, 0.0)

    async def _guarded(self, question: Question, permit: Permit) -> Reply:
        """Send, and tell the breaker and the metrics how it ended."""
        try:
            reply = await self._model.ask(question, ANSWER_SCHEMA)
        except ProviderUnavailableError as error:
            self._count("unavailable")
            told = await self._guard.failed(permit)
            if isinstance(told, BreakerOpenError):
                raise told from error
            raise ProviderUnavailableError(error.message, failures_before=max(0, told - 1)) from error
        except ProviderThrottledError as error:
            self._count("throttled")
            await self._guard.succeeded(permit)
            self._guard.throttled()
            seconds = min(error.retry_after or THROTTLED_SECONDS, LONGEST_RETRY_AFTER)
            await self._limiter.block(seconds)
            raise ProviderThrottledError(error.message, retry_after=seconds) from error
        except PermanentError:
            self._count("refused")
            await self._guard.succeeded(permit)
            raise
        except BaseException:
            self._count("cancelled")
            await self._guard.abandoned(permit)
            raise
        await self._guard.succeeded(permit)
        return reply

    def _count(self, outcome: str, reply: Reply | None = None) -> None:
        self._metrics.quality_model_calls.labels(outcome).inc()
        if reply is not None:
            self._metrics.quality_model_tokens.labels("input").inc(reply.input_tokens)
            self._metrics.quality_model_tokens.labels("output").inc(reply.output_tokens)


async def _read_small(key: str, reads: BatchReads) -> bytes | str:
    """An image as the model is shown it, or why it can't be."""
    content = await reads.read(key)
    if isinstance(content, str):
        return content
    return await asyncio.to_thread(make_inline, content) or "it can't be decoded"
