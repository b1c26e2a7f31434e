"""dlt: the feed's pages, merged into PostgreSQL by the product's identity.

`dlt_merge.py URL FEED COMPANY FOLDER WAY`: `upsert` is dlt's quickest way that we found (strategy upsert, files of CSV
that it loads by COPY, variants as JSON in the product's row), `default` what a first pipeline gets. No value is checked
and nothing is hashed. Prints what one run took; imports and set-up are left out.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# No telemetry, nothing but errors in the log.
os.environ.update({"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"})

import dlt  # type: ignore[import-not-found, unused-ignore]

TEXT: dict[str, Any] = {"data_type": "text"}
COLUMNS: dict[str, Any] = {
    "variants": {"data_type": "json"},
    "tags": {"data_type": "json"},
    "price": {"data_type": "decimal"},
    "compare_at_price": {"data_type": "decimal"},
    "inventory_quantity": {"data_type": "bigint"},
    **dict.fromkeys(("currency", "barcode", "description"), TEXT),
}
KEY = ("company_id", "external_id", "import_source")


def products(feed: Path, company: str) -> Iterator[list[dict[str, Any]]]:
    """A page of rows at a time, with the fields of ours."""
    with feed.open() as file:
        for line in file:
            edges = json.loads(line)["data"]["products"]["edges"]
            yield [row(edge["node"], company) for edge in edges]


def row(node: dict[str, Any], company: str) -> dict[str, Any]:
    """The product's 15 fields, as they come."""
    variants = [variant(edge["node"]) for edge in node["variants"]["edges"]]
    first = variants[0]
    return {
        "company_id": company,
        "import_source": "shopify",
        "external_id": node["id"],
        "title": node["title"],
        "description": node["descriptionHtml"],
        "handle": node["handle"],
        "sku": first["sku"],
        "barcode": first["barcode"],
        "price": first["price"],
        "compare_at_price": first["compare_at_price"],
        "currency": None,
        "vendor": node["vendor"],
        "product_type": node["productType"],
        "status": node["status"],
        "tags": node["tags"],
        "inventory_quantity": sum(each["inventory_quantity"] for each in variants),
        "variants": variants,
    }


def variant(node: dict[str, Any]) -> dict[str, Any]:
    """A variant's 9 fields."""
    return {
        "external_id": node["id"],
        "title": node["title"],
        "sku": node["sku"],
        "price": node["price"],
        "compare_at_price": node["compareAtPrice"],
        "barcode": node["barcode"],
        "inventory_quantity": node["inventoryQuantity"],
        "options": {option["name"]: option["value"] for option in node["selectedOptions"]},
        "weight_grams": node["inventoryItem"]["measurement"]["weight"]["value"],
    }


def main() -> None:
    url, feed, company, folder, way = sys.argv[1:]
    is_tuned = way == "upsert"
    pipeline = dlt.pipeline(
        pipeline_name="feed",
        pipelines_dir=folder,
        destination=dlt.destinations.postgres(url),
        dataset_name=f"dlt_{way}",
    )
    resource_ = dlt.resource(
        products(Path(feed), company),
        name="product",
        primary_key=KEY,
        write_disposition={"disposition": "merge", **({"strategy": "upsert"} if is_tuned else {})},
        columns=COLUMNS if is_tuned else None,
        max_table_nesting=0 if is_tuned else None,
    )
    began, cpu = time.perf_counter(), cpu_seconds()
    info = pipeline.run(resource_, loader_file_format="csv" if is_tuned else None)
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": cpu_seconds() - cpu,
        "peak_mib": peak_mib(),
        "said": f"dlt {dlt.__version__}",
    }
    info.raise_on_failed_jobs()
    print(json.dumps(figures))


def cpu_seconds() -> float:
    """Of this process and of those it started for its work and waited for."""
    return sum(os.times()[:4])


def peak_mib() -> float:
    """The most memory that this process has had (resident, MiB)."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
