"""Packages that only some installations need: imported where they are used, and missed with a clear error."""

from __future__ import annotations

import importlib
from typing import Any

from import_core.domain.errors import MissingPackageError

_IMAGES = {"scraping": "the image target worker-scraping"}
"""Which image has an extra's packages; that of all others is the one with the suffix."""


def optional(package: str, *, extra: str, purpose: str) -> Any:
    """Import `package` (blocking, seconds for the large ones).

    Raises MissingPackageError, which names the `extra` of pyproject.toml that has it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"{purpose} needs the package {package}, which can't be imported here ({error}): use"
            f" {_IMAGES.get(extra, 'an image with the suffix -enrich')}, or install import-operator[{extra}]"
        ) from error
