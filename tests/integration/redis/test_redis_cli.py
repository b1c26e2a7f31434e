"""The stand-in for redis-cli that runbook tests use shows binary values escaped instead of failing on them."""

from __future__ import annotations

import pytest
import redis_cli
from redis.asyncio import Redis


async def test_packed_arguments_in_the_slow_log_are_shown(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.config_set("slowlog-log-slower-than", 0)
        await client.set("packed", b"\x8b\x01")
        await client.config_set("slowlog-log-slower-than", 10_000)

    assert redis_cli.main(["-u", redis_url, "slowlog", "get", "10"]) == 0

    assert "\\x8b" in capsys.readouterr().out
