"""Products whose source is as it was are not mapped again, so whoever changes what mapping gives has to say so."""

import hashlib
from pathlib import Path

from import_core.domain import expressions, mapping, prices, products, values
from import_core.domain.reimport import FINGERPRINT_VERSION
from import_worker.pipeline import products as map_stage

MODULES = (expressions, mapping, prices, products, values, map_stage)
KNOWN = (1, "c7776c6191e2766c")
"""The version, and a digest of the modules' texts."""


def test_a_change_of_the_mapping_raises_the_version_or_changes_no_row() -> None:
    digest = hashlib.sha256()
    for module in MODULES:
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    assert (FINGERPRINT_VERSION, digest.hexdigest()[:16]) == KNOWN, (
        "The code that makes rows of products changed. If any product's row may come out otherwise, raise"
        " FINGERPRINT_VERSION; if none may, keep it. Then write both down here."
    )
