"""Quality control on real stores and the stand-in for Gemini, with what tests ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyvips
from redis.asyncio import Redis

from import_core.adapters.postgres import Database
from import_core.adapters.postgres.quality import QualityStore, ReviewItem
from import_core.adapters.s3.store import ObjectStore
from import_core.domain.quality import Verdict
from import_core.domain.steps import StepDone, StepFailed, StepImage, StepProduct
from import_core.observability.metrics import WorkerMetrics
from import_local.samples.app import RunningSamples
from import_local.samples.faults import FaultAction, FaultSettings
from import_local.samples.settings import GEMINI_KEY
from import_local.samples.state import Account
from import_worker.breakers import Breakers
from import_worker.steps.base import StepBatch
from import_worker.steps.quality_control import QualityControl, open_quality_control
from import_worker.steps.quality_settings import QualitySettings

IMAGE = "images/acme/mug.jpg"


def photograph(width: int = 1200, height: int = 800) -> bytes:
    """A JPEG with something to see."""
    image = pyvips.Image.gaussnoise(width, height, sigma=60).cast("uchar")
    content: bytes = image.write_to_buffer(".jpg", Q=70)
    return content


def product(product_id: str = "mug", text: str = "Glazed by hand.", **values: Any) -> StepProduct:
    """A product that no rule objects to."""
    given: dict[str, Any] = {
        "company_id": "acme",
        "content_hash": f"hash of {text}",
        "title": "Stoneware mug",
        "price": Decimal("19.90"),
        "currency": "EUR",
        "images": (StepImage(IMAGE, "image/jpeg", 1200, 800, sha256="aa"),),
        **values,
    }
    return StepProduct(product_id=product_id, description=text, **given)


@dataclass
class QualityWorld:
    """One worker's quality control; `account` orders faults of the model's API and counts its calls."""

    database: Database
    redis: Redis
    store: ObjectStore
    samples: RunningSamples
    account: Account
    metrics: WorkerMetrics

    def open(self, **settings: Any) -> QualityControl:
        """The step as a worker would run it; another one shares nothing with it but the stores."""
        given = {
            "GEMINI_API_KEY": GEMINI_KEY,
            "GEMINI_BASE_URL": f"{self.samples.base_url}/gemini/{self.account.name}",
            **settings,
        }
        return open_quality_control(
            QualitySettings.model_validate(given),
            database=self.database,
            redis=self.redis,
            store=self.store,
            breakers=Breakers(self.database, self.metrics),
            metrics=self.metrics,
            namespace="imports",
            wait_seconds=0.0,
        )

    def order(self, *actions: FaultAction, **standing: Any) -> None:
        """The next answers of the model's API."""
        self.account.api_faults.set(FaultSettings(next=list(actions), **standing))

    @property
    def calls(self) -> int:
        """Calls of the model's API so far."""
        return self.account.counters.api_calls

    async def commit(self, batch: StepBatch) -> None:
        """End a batch as its job does."""
        assert batch.write is not None
        async with self.database.transaction() as connection:
            await batch.write(connection)

    async def decided(self, product_id: str) -> ReviewItem:
        (item,) = await QualityStore(self.database).find([product_id])
        return item

    async def row(self, product_id: str) -> None:
        """The platform's row of a product."""
        async with self.database.connection() as connection:
            await connection.execute(
                """INSERT INTO "Product" (id, "companyId", "externalId", "importSource", title)
                VALUES (%s, 'acme', %s, 'shopify', %s)""",
                (product_id, product_id, product_id),
            )

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"imports_quality_{name}_total", labels) or 0.0


def verdicts(batch: StepBatch) -> dict[str, str]:
    """Each product's decision, or the reason of its failure."""
    found = {}
    for outcome in batch.outcomes:
        if isinstance(outcome, StepFailed):
            found[outcome.product_id] = outcome.reason
        else:
            found[outcome.product_id] = outcome.result["decision"]
            assert outcome.halts == (outcome.result["decision"] != Verdict.APPROVED.value)
    return found


def codes(batch: StepBatch) -> Sequence[str]:
    """The reasons of all decisions."""
    return [
        reason["code"]
        for outcome in batch.outcomes
        if isinstance(outcome, StepDone)
        for reason in outcome.result["reasons"]
    ]
