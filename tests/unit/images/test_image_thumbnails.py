"""Decoding and thumbnails with the real libvips, on good, odd and hostile files."""

import asyncio
import io
import struct
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import pyvips
from PIL import Image, ImageCms

from import_core.domain.errors import InvalidInputError, ItemError
from import_core.domain.images import ImageFormat, sniff
from import_worker.pipeline import thumbnails
from import_worker.pipeline.thumbnails import Dimensions, Thumbnailer

RED, BLUE = (220, 30, 30), (30, 30, 220)


@pytest.fixture(scope="module")
def thumbnailer() -> Iterator[Thumbnailer]:
    thumbnailer = Thumbnailer()
    yield thumbnailer
    thumbnailer.close()


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(width: int = 600, height: int = 400) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(BLUE, (width // 2, 0, width, height))
    return picture


def noise(width: int = 600, height: int = 400) -> Image.Image:
    return Image.effect_noise((width, height), 60).convert("RGB")


def decoded(thumbnail: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(thumbnail))
    assert picture.format == "WEBP"
    picture.load()
    return picture


def is_near(pixel: Any, colour: tuple[int, int, int], tolerance: int = 40) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(pixel, colour, strict=False))


async def failure(thumbnailer: Thumbnailer, content: bytes) -> ItemError:
    with pytest.raises(ItemError) as caught:
        await thumbnailer.render(content, sniff(content), [256])
    return caught.value


@pytest.mark.parametrize("image_format", list(ImageFormat))
async def test_every_format_is_rendered_at_every_size(
    thumbnailer: Thumbnailer, image_format: ImageFormat
) -> None:
    content = encoded(halves(), image_format.value.upper())
    rendered = await thumbnailer.render(content, sniff(content), [256, 64, 1024])
    assert rendered.dimensions == Dimensions(600, 400)
    pictures = {size: decoded(thumbnail) for size, thumbnail in rendered.thumbnails.items()}
    assert {size: picture.size for size, picture in pictures.items()} == {
        64: (64, 43),
        256: (256, 171),
        1024: (600, 400),
    }
    for picture in pictures.values():
        assert is_near(picture.getpixel((5, 5)), RED)
        assert is_near(picture.getpixel((picture.width - 5, 5)), BLUE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
async def test_pictures_stand_upright(thumbnailer: Thumbnailer, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: left is shown on top
    content = encoded(halves(), kind, exif=exif)
    rendered = await thumbnailer.render(content, sniff(content), [256])
    picture = decoded(rendered.thumbnails[256])
    assert rendered.dimensions == Dimensions(400, 600)
    assert picture.size == (171, 256)
    assert is_near(picture.getpixel((80, 5)), RED)
    assert is_near(picture.getpixel((80, 250)), BLUE)


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("LA", "PNG"), ("1", "PNG")]
)
async def test_other_colour_models_become_srgb(thumbnailer: Thumbnailer, mode: str, kind: str) -> None:
    content = encoded(Image.new("RGB", (300, 200), "white").convert(mode), kind)
    picture = decoded((await thumbnailer.render(content, sniff(content), [256])).thumbnails[256])
    assert picture.mode in {"RGB", "RGBA"}
    assert is_near(picture.getpixel((100, 100)), (255, 255, 255), tolerance=12)


async def test_sixteen_bits_become_eight(thumbnailer: Thumbnailer) -> None:
    content = encoded(Image.new("I;16", (300, 200), 0x8080), "PNG")
    picture = decoded((await thumbnailer.render(content, sniff(content), [256])).thumbnails[256])
    assert is_near(picture.getpixel((100, 100)), (128, 128, 128), tolerance=4)


async def test_transparency_is_kept(thumbnailer: Thumbnailer) -> None:
    clear = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    clear.paste((220, 30, 30, 255), (0, 0, 150, 200))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for options in ({}, {"icc_profile": profile}):
        content = encoded(clear, "PNG", **options)
        picture = decoded((await thumbnailer.render(content, sniff(content), [128])).thumbnails[128])
        assert picture.mode == "RGBA"
        assert picture.getpixel((120, 40))[3] == 0
        assert is_near(picture.getpixel((10, 40)), RED)


async def test_colour_profiles_are_applied(thumbnailer: Thumbnailer) -> None:
    """A red of Display P3 is a stronger red in sRGB."""
    wide = pyvips.Image.black(300, 200).add([200, 60, 60]).cast("uchar").copy(interpretation="srgb")
    wide = wide.icc_transform("p3", input_profile="srgb")
    content = wide.jpegsave_buffer(Q=95)
    stated = pyvips.Image.new_from_buffer(content, "")
    before = stated(50, 50)
    assert stated.get_typeof("icc-profile-data")
    picture = decoded((await thumbnailer.render(content, sniff(content), [128])).thumbnails[128])
    after = picture.getpixel((50, 30))
    assert is_near(after, (200, 60, 60), 12)
    assert after[0] != before[0]


async def test_a_broken_colour_profile_does_not_matter(thumbnailer: Thumbnailer) -> None:
    content = encoded(halves(), "JPEG", icc_profile=b"rubbish" * 30)
    picture = decoded((await thumbnailer.render(content, sniff(content), [128])).thumbnails[128])
    assert is_near(picture.getpixel((5, 5)), RED)


async def test_metadata_is_left_behind(thumbnailer: Thumbnailer) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where the merchant lives"
    content = encoded(halves(), "JPEG", exif=exif, comment=b"where the merchant lives")
    assert content.count(b"where the merchant lives") == 2
    thumbnail = (await thumbnailer.render(content, sniff(content), [128])).thumbnails[128]
    assert b"merchant" not in thumbnail
    assert b"EXIF" not in thumbnail


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
async def test_of_a_moving_picture_the_first_frame_is_shown(thumbnailer: Thumbnailer, kind: str) -> None:
    frames = [Image.new("RGB", (300, 200), BLUE) for _ in range(3)]
    frames[1].paste(RED, (0, 0, 10, 10))
    content = encoded(Image.new("RGB", (300, 200), RED), kind, save_all=True, append_images=frames)
    rendered = await thumbnailer.render(content, sniff(content), [128])
    picture = decoded(rendered.thumbnails[128])
    assert rendered.dimensions == Dimensions(300, 200)
    assert getattr(picture, "n_frames", 1) == 1
    assert is_near(picture.getpixel((60, 40)), RED)


@pytest.mark.parametrize("image_format", list(ImageFormat))
@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
async def test_cut_off_files(thumbnailer: Thumbnailer, image_format: ImageFormat, share: float) -> None:
    whole = encoded(noise(), image_format.value.upper())
    error = await failure(thumbnailer, whole[: int(len(whole) * share)])
    assert (error.stage, error.reason) == ("decode", "Truncated")
    assert "cut off" in error.message


# Not GIF: what is damaged there is its palette, and any palette is a valid one.
@pytest.mark.parametrize("image_format", sorted(set(ImageFormat) - {ImageFormat.GIF}))
async def test_damaged_files(thumbnailer: Thumbnailer, image_format: ImageFormat) -> None:
    whole = encoded(noise(), image_format.value.upper())
    error = await failure(thumbnailer, whole[:16] + b"\xff" * 64 + whole[80:])
    assert error.stage == "decode"
    assert error.reason in {"Broken", "Truncated"}
    assert len(error.message) < 400


def png_bomb(width: int, height: int) -> bytes:
    """A few kilobytes that unpack to width × height × 3 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


async def test_a_bomb_is_refused_by_its_header(thumbnailer: Thumbnailer) -> None:
    bomb = png_bomb(30_000, 30_000)
    assert len(bomb) < 5_000
    error = await failure(thumbnailer, bomb)
    assert (error.stage, error.reason) == ("decode", "TooManyPixels")
    assert "30000×30000 = 900 megapixels, at most 100" in error.message


async def test_a_jpeg_of_very_many_scans_is_refused(thumbnailer: Thumbnailer) -> None:
    content = encoded(noise(), "JPEG", progressive=True)
    await thumbnailer.render(content, ImageFormat.JPEG, [128])
    last_scan = content[content.rindex(b"\xff\xda") : -2]
    error = await failure(thumbnailer, content[:-2] + last_scan * 100 + content[-2:])
    assert (error.stage, error.reason) == ("decode", "TooManyScans")


async def test_what_follows_the_end_of_a_jpeg_is_not_counted(thumbnailer: Thumbnailer) -> None:
    """Phones append a short film to a photograph."""
    content = encoded(noise(), "JPEG") + b"\xff\xda" * 200
    assert (await thumbnailer.inspect(content, ImageFormat.JPEG)) == Dimensions(600, 400)


async def test_content_is_read_only_as_what_it_was_recognised_as(thumbnailer: Thumbnailer) -> None:
    with pytest.raises(ItemError) as caught:
        await thumbnailer.render(encoded(halves(), "PNG"), ImageFormat.JPEG, [128])
    assert caught.value.reason == "Broken"


@pytest.mark.usefixtures("thumbnailer")
@pytest.mark.parametrize("kind", ["TIFF", "SVG"])
def test_other_loaders_are_switched_off(kind: str) -> None:
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    content = drawing if kind == "SVG" else encoded(halves(), kind)
    with pytest.raises(pyvips.Error):
        pyvips.Image.new_from_buffer(content, "")


async def test_without_sizes_the_image_is_still_decoded(thumbnailer: Thumbnailer) -> None:
    content = encoded(noise(), "JPEG")
    rendered = await thumbnailer.render(content, ImageFormat.JPEG, [])
    assert (rendered.dimensions, rendered.thumbnails) == (Dimensions(600, 400), {})
    with pytest.raises(ItemError, match="cut off"):
        await thumbnailer.render(content[:-500], ImageFormat.JPEG, [])


async def test_wrong_sizes_are_refused(thumbnailer: Thumbnailer) -> None:
    with pytest.raises(InvalidInputError, match="5000"):
        await thumbnailer.render(encoded(halves(), "PNG"), ImageFormat.PNG, [5000])


async def test_the_event_loop_goes_on_meanwhile(thumbnailer: Thumbnailer) -> None:
    content = encoded(noise(4000, 3000), "JPEG")
    task = asyncio.create_task(thumbnailer.render(content, ImageFormat.JPEG, [1024, 256]))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert task.result().thumbnails.keys() == {1024, 256}
    assert turns > 100, "decoding ran on the event loop's own thread"


async def test_an_image_that_takes_too_long_is_given_up() -> None:
    hasty = Thumbnailer(timeout=0.0)
    with pytest.raises(ItemError) as caught:
        await hasty.render(encoded(noise(2000, 2000), "PNG"), ImageFormat.PNG, [1024])
    assert (caught.value.stage, caught.value.reason) == ("decode", "TooSlow")
    hasty.close()


class Gate:
    """Work that goes on until it is let go, as an image does that takes very long."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, *_: object) -> dict[int, bytes]:
        self.started.release()
        assert self.open.wait(30)
        return {}

    async def has_started(self) -> None:
        """Wait until a thread is at work, and not for ever: nobody could end a thread that waits."""
        assert await asyncio.to_thread(self.started.acquire, timeout=30)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(thumbnails, "render_thumbnails", gate)
    yield gate
    gate.open.set()


async def test_waiting_for_a_thread_takes_none_of_an_images_time(gate: Gate) -> None:
    busy = Thumbnailer(threads=1, timeout=1.0)
    content = encoded(halves(), "PNG")
    slow = asyncio.create_task(busy.render(content, ImageFormat.PNG, [256]))
    await gate.has_started()
    other = asyncio.create_task(busy.render(content, ImageFormat.PNG, [256]))
    with pytest.raises(ItemError, match="more than 1 s"):
        await slow
    assert await busy.inspect(content, ImageFormat.PNG) == Dimensions(600, 400)
    assert not other.done(), "the image failed because of another one"
    busy._timeout = 30.0  # its own time begins now, and this machine may be busy
    gate.open.set()
    assert (await other).dimensions == Dimensions(600, 400)
    busy.close()


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
async def test_pixels_are_kept_until_the_thread_is_done(gate: Gate, how: str) -> None:
    full = Thumbnailer(threads=2, pixels=600 * 400, timeout=1.0 if how == "timeout" else 30)
    content = encoded(halves(), "PNG")
    slow = asyncio.create_task(full.render(content, ImageFormat.PNG, [256]))
    await gate.has_started()
    if how == "cancelled":
        slow.cancel()
    await asyncio.wait({slow})
    full._timeout = 30.0  # the second has nothing to do but to wait
    second = asyncio.create_task(full.render(content, ImageFormat.PNG, [256]))
    await full.inspect(content, ImageFormat.PNG)
    await full.inspect(content, ImageFormat.PNG)
    assert not gate.started.acquire(blocking=False), "two images of the whole budget were decoded at once"
    gate.open.set()
    await second
    assert full._budget.free == full._budget.total
    full.close()


async def test_an_image_given_up_before_its_turn_gives_its_pixels_back(gate: Gate) -> None:
    busy = Thumbnailer(threads=1)
    content = encoded(halves(), "PNG")
    first = asyncio.create_task(busy.render(content, ImageFormat.PNG, [256]))
    await gate.has_started()
    free = busy._budget.free
    second = asyncio.create_task(busy.render(content, ImageFormat.PNG, [256]))
    while busy._budget.free == free:
        await busy.inspect(content, ImageFormat.PNG)
    second.cancel()
    await asyncio.wait({second})
    await asyncio.sleep(0)
    assert busy._budget.free == free
    gate.open.set()
    await first
    busy.close()
