"""Hand-overs that Redis no longer has: found and made again in pages, so that memory does not grow with the loss."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from import_core.adapters.postgres.dispatching import DispatchStore
from import_core.domain.jobs import Message

if TYPE_CHECKING:
    # A command line that asks for the scan alone does not load the client of Redis with it.
    from import_core.adapters.redis.queue import JobQueue

OVERDUE_SECONDS = 15.0
"""A hand-over that nobody has claimed for so long is looked for in Redis (docs/reference/lifecycle.md)."""


@dataclass(frozen=True, slots=True)
class Look:
    """One page of hand-overs that nobody has claimed: how many there were, and which of them Redis lacks."""

    looked: int
    lost: list[Message]


async def lost_hand_overs(
    store: DispatchStore, queue: JobQueue, *, older_than_seconds: float
) -> AsyncIterator[Look]:
    """Look for unclaimed rows in Redis' waiting list, oldest first.

    Raises DatabaseUnavailableError and QueueUnavailableError.
    """
    async for page in store.overdue(queue.name, older_than_seconds=older_than_seconds):
        missing = await queue.absent([message.queue_id for message in page])
        yield Look(len(page), [message for message in page if message.queue_id in missing])


async def hand_over_again(store: DispatchStore, queue: JobQueue, look: Look) -> list[Message]:
    """Give what was lost a new hand-over; returns those that nobody claimed or gave up meanwhile.

    Raises DatabaseUnavailableError, and QueueUnavailableError after which the next look finds them again.
    """
    again = await store.hand_over_again(look.lost) if look.lost else []
    await queue.add(again)
    return again
