"""Which imports a load test submits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_local.load.mix import SIZES, describe_mix, plan_imports
from import_local.samples.catalogue.registry import open_catalogue


def test_a_thousand_imports_hold_the_shares_and_ten_thousand_images() -> None:
    lines = describe_mix(plan_imports(1_000))
    assert [(line.products, line.jobs) for line in lines] == [(10, 940), (100, 50), (1_000, 10)]
    assert sum(line.all_images for line in lines) > 10_000


def test_all_sizes_are_mixed() -> None:
    large = [number for number, each in enumerate(plan_imports(1_000)) if each.products == 1_000]
    gaps = [later - earlier for earlier, later in itertools.pairwise(large)]
    assert max(gaps) - min(gaps) <= 2


@given(st.integers(1, 3_000))
def test_every_load_holds_the_shares_as_near_as_whole_numbers_allow(jobs: int) -> None:
    planned = plan_imports(jobs)
    assert len({each.name for each in planned}) == len({each.shop for each in planned}) == jobs
    for size in SIZES:
        share = size.per_thousand * jobs / 1_000
        assert abs(sum(each.products == size.products for each in planned) - share) <= len(SIZES)


def test_every_shop_is_a_sample_catalogue_of_that_size() -> None:
    for each in plan_imports(30):
        catalogue = open_catalogue(each.shop, None)
        assert catalogue.count() == each.products
        assert sum(len(catalogue.product(n).images) for n in range(each.products)) == each.images


def test_no_imports_are_no_load() -> None:
    with pytest.raises(ValueError, match="0 imports"):
        plan_imports(0)
