"""Reads an Alertmanager's configuration by its HTTP API (v2); posts nothing."""

from __future__ import annotations

from typing import Any

import httpx2
import yaml

from import_core.domain.errors import DependencyUnavailableError, InvalidInputError

ASK_SECONDS = 10.0


async def read_configuration(url: str) -> dict[str, Any]:
    """The configuration that an Alertmanager runs with, as plain values; it hides its secrets itself.

    Raises InvalidInputError for what is no address, DependencyUnavailableError.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidInputError("--alertmanager", "must be http://host:port or https://host:port")
    address = f"{url.rstrip('/')}/api/v2/status"
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=ASK_SECONDS) as client:
            answer = await client.get(address)
            answer.raise_for_status()
            document = yaml.safe_load(answer.json()["config"]["original"])
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = str(error) or type(error).__name__
        raise DependencyUnavailableError(f"{address} does not tell a configuration: {reason}") from error
    if not isinstance(document, dict):
        raise DependencyUnavailableError(f"{address} does not tell a configuration")
    return document
