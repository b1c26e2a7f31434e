"""`python -m import_worker.trial`: fetches and maps one page as a job would, and writes nothing.

`kubectl imports try` runs it as a process of its own, so that what it shows went through the worker's code and the
command line imports no worker. It reads one JSON document from standard input, credentials included, which so appear
in no list of processes, and prints one to standard output; logs go to standard error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from contextlib import aclosing, nullcontext
from typing import Any

import structlog

from import_core.adapters.redis.queue import connect
from import_core.domain.addresses import parse_allow_list
from import_core.domain.errors import (
    HandBackError,
    ImportOperatorError,
    InvalidInputError,
    JobError,
    QueueUnavailableError,
)
from import_core.domain.failures import describe
from import_core.domain.limits import CostBucket, Grant
from import_core.domain.mapping import compile_mapping
from import_core.domain.products import Page, to_json_value
from import_core.domain.resources.import_job import ImportJobSpec, parse_import_job_spec
from import_core.domain.resources.import_provider import ImportProvider, parse_import_provider
from import_worker.browsing.browser import ChromiumBrowser
from import_worker.connections import connection_of, shared_limiter
from import_worker.importing import CLOSE_SECONDS, check_company, read_filter, read_options
from import_worker.pipeline.products import MappedPage, map_page
from import_worker.providers.base import NoGuard, Provider, RateLimiter
from import_worker.providers.registry import PROVIDERS

LIMIT_WAIT_SECONDS = 20.0
"""For the shared call limit: somebody waits at a screen."""


class Counted:
    """A limiter that also counts; without one behind it, every call is granted at once."""

    def __init__(self, behind: RateLimiter | None) -> None:
        self._behind = behind
        self.calls = 0

    async def acquire(self, points: float = 0.0, *, instead_of: Grant | None = None) -> Grant:
        """Grant a call, in its turn where a limit is shared."""
        self.calls += instead_of is None
        if self._behind is not None:
            return await self._behind.acquire(points, instead_of=instead_of)
        return Grant(str(self.calls), asyncio.get_running_loop().time(), 60.0)

    async def block(self, seconds: float) -> None:
        """Tell the others, if there are any."""
        if self._behind is not None:
            await self._behind.block(seconds)

    async def observe(self, grant: Grant, points: float, bucket: CostBucket | None) -> None:
        """Tell the others, if there are any."""
        if self._behind is not None:
            await self._behind.observe(grant, points, bucket)

    async def arrived(self, grant: Grant, by: float) -> None:
        """Tell the others, if there are any."""
        if self._behind is not None:
            await self._behind.arrived(grant, by)

    async def release(self, grant: Grant, points: float) -> None:
        """Give a grant back that no call was sent with."""
        self.calls -= 1
        if self._behind is not None:
            await self._behind.release(grant, points)


async def try_job(order: dict[str, Any]) -> dict[str, Any]:
    """Fetch and map the first page of a job's catalogue.

    `order`: `namespace`, `spec` (of an ImportJob), `provider` (an ImportProvider), `credentials`, `redisUrl` (null:
    the connection's limit is not asked). Raises what a job's run raises.
    """
    spec = parse_import_job_spec(order["spec"])
    found = parse_import_provider(order["provider"])
    check_company(found, spec.company_id)
    mapping = compile_mapping(found.spec.type.value, spec.field_mapping)
    url = order.get("redisUrl")
    redis = connect(url, client_name="import-trial") if url else None
    browser = ChromiumBrowser(
        os.environ.get("CHROMIUM_PATH", ""),
        is_sandboxed=os.environ.get("CHROMIUM_SANDBOX", "true").lower() not in {"false", "0", "no", "off"},
    )
    async with aclosing(redis) if redis is not None else nullcontext(), aclosing(browser):
        connection = connection_of(
            found,
            order["credentials"],
            namespace=order["namespace"],
            timeout_seconds=float(found.spec.timeout_seconds),
            allow=parse_allow_list(os.environ.get("PROVIDER_ALLOW", "")),
            guard=NoGuard(),
            browser=browser,
        )
        shared = None
        if redis is not None:
            scale = float(os.environ.get("LIMITER_CLOCK_SCALE") or 1)
            shared = shared_limiter(
                found, redis, key=connection.key, max_wait=LIMIT_WAIT_SECONDS, clock_scale=scale
            )
        limiter = Counted(shared)
        provider = PROVIDERS[connection.type](connection, limiter, read_filter(spec))
        try:
            page = await _first_page(provider)
        finally:
            async with asyncio.timeout(CLOSE_SECONDS):
                await provider.aclose()
    mapped = await map_page(page, mapping, read_options(spec))
    return _document(found, spec, page, mapped, limiter.calls)


async def _first_page(provider: Provider) -> Page:
    async with aclosing(provider.preview()) as pages:
        async for page in pages:
            # A page may hold the place in a list only, before any product.
            if page.products or page.failures or page.cursor is None:
                return page
    return Page((), cursor=None)


def _document(
    found: ImportProvider, spec: ImportJobSpec, page: Page, mapped: MappedPage, calls: int
) -> dict[str, Any]:
    return {
        "provider": found.metadata.name,
        "type": found.spec.type.value,
        "companyId": spec.company_id,
        "calls": calls,
        "total": page.total,
        "more": page.cursor is not None,
        "products": [
            {**_camel(to_json_value(item.write.product)), "images": [image.url for image in item.images]}
            for item in mapped.items
            if item.write is not None
        ],
        "failures": [
            {
                "externalId": error.external_id,
                "stage": error.stage,
                "reason": error.reason,
                "message": error.message,
            }
            for error in mapped.errors
        ],
    }


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        # The names of options are the merchant's own.
        return {_name(key): inner if key == "options" else _camel(inner) for key, inner in value.items()}
    return [_camel(inner) for inner in value] if isinstance(value, list) else value


def _name(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def failure(error: ImportOperatorError) -> dict[str, Any]:
    """What went wrong: `kind` input (the file or the provider object), provider, or unavailable (of ours)."""
    kind = "provider"
    if isinstance(error, InvalidInputError):
        kind = "input"
    elif isinstance(error, QueueUnavailableError) or not isinstance(error, JobError | HandBackError):
        kind = "unavailable"
    reason = error.reason if isinstance(error, JobError) else type(error).__name__.removesuffix("Error")
    return {"error": {"kind": kind, "reason": reason, "message": describe(error)}}


def main() -> None:
    """Read the order, try, print."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    order = json.load(sys.stdin)
    try:
        answer = asyncio.run(try_job(order))
    except ImportOperatorError as error:
        answer = failure(error)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
