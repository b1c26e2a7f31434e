"""What the sample providers can be told, and the documented credentials they accept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# The sample's credentials are public constants: they open nothing but this sample server.
SHOPIFY_TOKEN = "shpat_example"  # noqa: S105
SHOPIFY_TOKEN_WITHOUT_APPROVAL = "shpat_no_scope"  # noqa: S105
SHOPIFY_TOKEN_ACCESS_DENIED = "shpat_access_denied"  # noqa: S105
SHOPIFY_CLIENT_ID = "example_client_id"
SHOPIFY_CLIENT_SECRET = "shpss_example"  # noqa: S105
ROASTIFY_KEY = "rty_test_example"
GEMINI_KEY = "gemini-example-key"
GRAPH_TOKEN = "EAAexample"  # noqa: S105
GRAPH_CATALOGUE = "100000000000001"
"""The id that every sample account's catalogue has in the Graph API."""
WHATSAPP_NUMBER = "491700000001"
"""The seller's number in the addresses of catalogue pages."""

PROJECT_ROOT = Path(__file__).resolve().parents[3]


def default_data_folder() -> Path | None:
    """Return the folder with the real catalogues beside the project, or None where it is absent."""
    folder = PROJECT_ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def is_credential(given: str, sample: str) -> bool:
    """Say whether `given` is the sample credential, or it with a suffix (`shpat_example-2` is another app)."""
    return given == sample or given.startswith(f"{sample}-")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """Limits and sources of one sample server; the defaults are the providers' documented numbers.

    Units: points for Shopify's cost, requests for counts, seconds for times, bytes for caches.
    `bulk_child_distance` is how many products stand between a product and its children in a bulk result;
    `loopback_port` is where /hostile/redirect-loopback leads (9 is discard: nobody listens).
    """

    data_folder: Path | None = field(default_factory=default_data_folder)
    shopify_bucket_points: float = 2000.0
    shopify_restore_points_per_second: float = 100.0
    shopify_rest_bucket: int = 40
    shopify_rest_leak_per_second: float = 2.0
    shopify_token_seconds: float = 86_399.0
    roastify_requests: int = 100
    roastify_window_seconds: float = 60.0
    graph_calls: int = 200
    graph_window_seconds: float = 3600.0
    bulk_seconds: float = 0.0
    bulk_child_distance: int = 7
    image_cache_bytes: int = 64 * 1024 * 1024
    call_history: int = 20_000
    loopback_port: int = 9
    state_limit: int = 20_000
