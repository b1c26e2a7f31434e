"""What the tour expects of each product follows from its catalogue."""

from collections import Counter

from import_local.demo.fates import expected_fates
from import_local.samples.catalogue.expected import product_gid
from import_local.samples.catalogue.generated import GeneratedCatalogue
from import_local.samples.catalogue.registry import open_catalogue


def test_the_generated_catalogue_has_archived_products_and_some_that_the_rules_refuse() -> None:
    catalogue = GeneratedCatalogue("vendure", products=54, images=1, small=False)
    fates = expected_fates(catalogue)
    assert Counter(fates.values()) == {
        "live": 45,
        "archived": 3,
        "rejected: ImageMissing": 5,
        "rejected: PriceNotPositive": 1,
    }
    assert fates[product_gid(catalogue.product(13).number)] == "archived"
    assert fates[product_gid(catalogue.product(49).number)] == "rejected: PriceNotPositive"


def test_a_catalogue_without_images_stays_out_and_one_without_fault_goes_live() -> None:
    tiny = GeneratedCatalogue("tiny", products=10, images=0, small=True)
    assert set(expected_fates(tiny).values()) == {"rejected: ImageMissing"}
    shop = open_catalogue("generated-3-1", None)
    assert set(expected_fates(shop).values()) == {"live"}
