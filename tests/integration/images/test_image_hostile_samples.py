"""Every hostile image of the sample providers ends in its own clear error, every odd one is taken."""

from collections.abc import Mapping

import pytest

from import_core.adapters.s3.store import ObjectStore
from import_core.domain.addresses import parse_allow_list
from import_core.domain.images import FailedImage, ImageResult, StoredImage
from import_core.domain.products import SourceImage
from import_local.parts.objectstore import Bucket
from import_local.samples.app import serve_samples
from import_local.samples.catalogue.hostile import HARMLESS_CASES, HOSTILE_CASES
from import_worker.pipeline.download import DownloadLimits, ImageDownloader
from import_worker.pipeline.images import ImageImporter
from import_worker.pipeline.thumbnails import Thumbnailer

EXPECTED = {
    "html.jpg": ("decode", "NotAnImage", "an HTML page"),
    "truncated.jpg": ("decode", "Truncated", "cut off after"),
    "bomb.png": ("decode", "TooManyPixels", "30000×30000 = 900 megapixels, at most 100"),
    "too-large.jpg": ("download", "TooLarge", "25,000,000 bytes"),
    "too-large-chunked.jpg": ("download", "TooLarge", "25,000,000 bytes"),
    "redirect-metadata": ("download", "ForbiddenAddress", "169.254.169.254, link-local"),
    "redirect-loopback": ("download", "ForbiddenAddress", "127.0.0.1, loopback"),
    "redirect-loop": ("download", "TooManyRedirects", "more than 5 times"),
    "script.svg": ("decode", "UnsupportedFormat", "an SVG drawing"),
    "slow.jpg": ("download", "TooSlow", "bytes in"),
    "not-found.jpg": ("download", "NotFound", "status 404"),
    "error.jpg": ("download", "Unreachable", "status 500"),
    "forbidden.jpg": ("download", "AccessDenied", "status 403"),
    "empty.jpg": ("decode", "EmptyFile", "empty"),
}


@pytest.fixture
def store(object_store: Bucket, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_access_key)
    return ObjectStore(object_store.name, endpoint_url=object_store.endpoint_url, region=object_store.region)


async def import_cases(store: ObjectStore, cases: list[str]) -> Mapping[str, ImageResult]:
    thumbnailer = Thumbnailer()
    async with serve_samples() as samples:
        downloader = ImageDownloader(
            allow=parse_allow_list(samples.base_url.removeprefix("http://")),
            limits=DownloadLimits(grace=2.0, minimum_rate=1e5),
            backoff=(0.0,),
        )
        importer = ImageImporter(downloader, thumbnailer, store)
        images = [SourceImage(f"{samples.base_url}/hostile/{case}") for case in cases]
        results = await importer.import_images("acme", "p1", images, {}, (256,))
        await downloader.aclose()
    thumbnailer.close()
    return dict(zip(cases, results, strict=True))


async def test_hostile_images_fail_with_a_clear_message_and_store_nothing(store: ObjectStore) -> None:
    assert EXPECTED.keys() == set(HOSTILE_CASES)
    results = await import_cases(store, list(EXPECTED))
    for case, (stage, reason, words) in EXPECTED.items():
        result = results[case]
        assert isinstance(result, FailedImage), case
        assert (result.stage, result.reason) == (stage, reason), case
        assert words in result.message, result.message
    assert [info async for info in store.list()] == []


async def test_odd_images_are_taken(store: ObjectStore) -> None:
    results = await import_cases(store, [*HARMLESS_CASES, "redirect-good"])
    for case, encoding in HARMLESS_CASES.items():
        result = results[case]
        assert isinstance(result, StoredImage), result
        assert result.content_type == f"image/{encoding}"
    redirected = results["redirect-good"]
    assert isinstance(redirected, StoredImage), redirected
    assert redirected.source_url.endswith("/redirect-good"), "the row keeps the catalogue's own URL"
