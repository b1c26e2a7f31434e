"""Models' decisions kept in Redis for a day, so that the same product is not paid for twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from import_core.adapters.tasks import heeding_cancellation
from import_core.domain.errors import QueueUnavailableError
from import_core.domain.quality import (
    DecidedBy,
    Decision,
    Verdict,
    reason_documents,
    reasons_of,
)
from import_core.observability.logs import get_logger

log = get_logger(__name__)

KEY_PREFIX = "imports:quality-decision:"
KEPT_SECONDS = 24 * 3600
CALL_SECONDS = 5.0
VERSION = 1
"""Of the entries; others are not read."""


class _Reason(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    code: str = Field(max_length=100)
    message: str = Field(max_length=2_000)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int
    decision: Verdict
    reasons: list[_Reason]


class DecisionCache:
    """Decisions by the key that `judging.decision_key` makes; entries expire by themselves."""

    def __init__(self, redis: Redis, *, seconds: int = KEPT_SECONDS) -> None:
        self._redis = redis
        self._seconds = seconds

    async def find(self, keys: Sequence[str]) -> dict[str, Decision]:
        """The decisions that are kept under these keys. Raises QueueUnavailableError when Redis does not answer."""
        if not keys:
            return {}
        try:
            async with asyncio.timeout(CALL_SECONDS):
                command = self._redis.mget([KEY_PREFIX + key for key in keys])
                values: Sequence[Any] = await heeding_cancellation(command)
        except (RedisError, OSError) as error:
            raise QueueUnavailableError("Redis does not answer, so no kept decision can be read.") from error
        found = {key: _read(value) for key, value in zip(keys, values, strict=True)}
        return {key: decision for key, decision in found.items() if decision is not None}

    async def keep(self, key: str, decision: Decision) -> None:
        """Keep a decision. Where Redis is away it is not: the model is asked again then."""
        entry = _Entry.model_validate(
            {
                "version": VERSION,
                "decision": decision.verdict,
                "reasons": reason_documents(decision.reasons),
            }
        )
        try:
            async with asyncio.timeout(CALL_SECONDS):
                command = self._redis.set(KEY_PREFIX + key, entry.model_dump_json(), ex=self._seconds)
                await heeding_cancellation(command)
        except (RedisError, OSError) as error:
            log.warning("quality.decision_not_kept", error=type(error).__name__)


def _read(value: Any) -> Decision | None:
    """An entry of ours; None for none, and for one of another version."""
    if value is None:
        return None
    try:
        entry = _Entry.model_validate_json(value)
    except ValidationError:
        return None
    if entry.version != VERSION or entry.decision is Verdict.UNDECIDED:
        return None
    return Decision(entry.decision, DecidedBy.MODEL, reasons_of([r.model_dump() for r in entry.reasons]))
