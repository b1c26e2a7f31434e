"""What a job's spec means for its listing: which runs move a mark, what the provider is asked for."""

from datetime import UTC, datetime

import pytest

from import_core.domain.jobs import Progress
from import_core.domain.mapping import compile_mapping
from import_core.domain.reimport import FullReason, Listing, Policy, ReimportMode
from import_core.domain.resources.import_job import ImportJobSpec, parse_import_job_spec
from import_core.domain.resources.import_provider import parse_import_provider
from import_worker.importing import read_filter
from import_worker.pipeline.pages import incremental_summary
from import_worker.providers.base import CatalogueFilter
from import_worker.reimports import policy_of, read_fingerprint, sets_mark

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SINCE = CatalogueFilter("2026-11-01T12:00:00Z", is_current=True)


def spec(**fields: object) -> ImportJobSpec:
    return parse_import_job_spec({"companyId": "acme", "providerRef": {"name": "shop"}, **fields})


@pytest.mark.parametrize(
    ("fields", "moves"),
    [
        ({}, False),
        ({"reimport": {"mode": "Incremental"}}, True),
        ({"removed": {"action": "Archive"}}, True),
        ({"filter": {"updatedAfter": "2026-01-01T00:00:00Z"}}, False),
    ],
)
def test_only_a_run_that_reads_all_of_it_anew_moves_a_mark(fields, moves) -> None:
    assert sets_mark(spec(**fields)) is moves


def test_the_providers_filter_is_the_listings_time() -> None:
    incremental = spec(reimport={"mode": "Incremental"})
    assert read_filter(incremental, Listing("f", NOW, since=NOW)) == SINCE
    assert read_filter(incremental, Listing("f", NOW, full=FullReason.FIRST)) == CatalogueFilter(
        is_current=True
    )
    # A run that began incrementally goes on in that listing, whatever its spec says by now.
    assert read_filter(spec(), Listing("f", NOW, since=NOW)) == SINCE


def test_a_spec_without_the_field_reads_everything() -> None:
    assert policy_of(spec()) == Policy(ReimportMode.FULL, 24, 600)


def test_the_defaults_named_one_by_one_are_the_same_mapping() -> None:
    provider = parse_import_provider(
        {
            "metadata": {"name": "shop", "uid": "uid-1"},
            "spec": {
                "companyId": "acme",
                "type": "shopify",
                "baseUrl": "https://shop.example",
                "credentialsSecretRef": {"name": "shop"},
            },
        }
    )
    default = compile_mapping("shopify")
    plain, explicit = spec(), spec(fieldMapping={"title": default.provider.defaults["title"]})
    other = spec(fieldMapping={"title": "handle"})
    prints = [read_fingerprint(provider, default, one) for one in (plain, explicit, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_person_is_told_of_failures_and_of_the_kind_of_run() -> None:
    progress = Progress(products_total=2, products_failed=2)
    told = incremental_summary(progress, "incremental: so")
    assert told == "2 of 2 products could not be imported; see the item errors; incremental: so"
    assert incremental_summary(Progress(), "nothing changed") == "nothing changed"
