"""The embedder with the stand-in's graphs: what goes in, what comes out, and folders that can't be used."""

import asyncio
import io
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
import pytest_asyncio
from onnx import TensorProto, helper
from PIL import Image

from import_core.adapters.models import siglip
from import_core.adapters.models.folder import ImagePreparation, checksum_of, open_folder
from import_core.adapters.models.opening import open_embedder
from import_core.adapters.models.preparation import prepare_image
from import_core.adapters.models.settings import EmbeddingSettings
from import_core.adapters.models.siglip import SiglipEmbedder, load_siglip
from import_core.domain.errors import (
    EmbeddingFailedError,
    ItemError,
    MissingPackageError,
    ModelUnusableError,
)
from import_local.embedding_model import make_embedding_model, provide_embedding_model

RED, BLUE, WHITE = (215, 35, 30), (35, 60, 205), (250, 250, 250)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (300, 200), kind: str = "PNG") -> bytes:
    return encoded(Image.new("RGB", size, colour), kind)


def landscape(width: int, height: int) -> Image.Image:
    """Edges, gradients and a little noise, as photographs have."""
    picture = Image.linear_gradient("L").resize((width, height))
    noise = Image.effect_noise((width, height), 30)
    picture = Image.merge("RGB", (picture, noise, picture.transpose(Image.Transpose.ROTATE_180)))
    picture.paste((250, 240, 20), (width // 5, height // 4, width // 2, height // 2))
    return picture


@pytest_asyncio.fixture
async def embedder(model_folder: Path) -> AsyncIterator[SiglipEmbedder]:
    embedder = load_siglip(model_folder, batch=3)
    yield embedder
    await embedder.aclose()


async def texts(embedder: SiglipEmbedder, *given: str) -> Any:
    return numpy.array(await embedder.embed_texts(given))


async def test_vectors_have_768_numbers_and_length_one(embedder: SiglipEmbedder) -> None:
    of_texts = await embedder.embed_texts(["Red mug", "", "x" * 100_000, "混ぜる ☕"])
    of_images = await embedder.embed_images([plain(RED), plain(BLUE, kind="WEBP")])
    vectors = numpy.array([*of_texts, *(vector for vector in of_images if vector)])
    assert vectors.shape == (6, 768)
    assert numpy.allclose(numpy.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert all(isinstance(number, float) for number in of_texts[0])


async def test_like_gives_like(embedder: SiglipEmbedder) -> None:
    red_mug, red_cup, dark_roast, blue = await texts(
        embedder, "Red mug", "a RED cup", "Dark roast coffee beans", "blue"
    )
    assert red_mug @ red_cup > 0.6 > red_mug @ dark_roast
    red, almost_red, sea = numpy.array(
        await embedder.embed_images([plain(RED), plain((200, 50, 40)), plain(BLUE)])
    )
    assert red @ almost_red > 0.9 > red @ sea
    assert blue @ sea > 0.4 > blue @ red


async def test_batches_give_what_single_calls_give(embedder: SiglipEmbedder) -> None:
    given = [f"product {number} of wool" for number in range(7)]
    together = await texts(embedder, *given)
    alone = numpy.concatenate([await texts(embedder, one) for one in given])
    assert numpy.allclose(together, alone, atol=1e-6)
    pictures = [plain((number * 30, 90, 200)) for number in range(7)]
    assert numpy.allclose(
        numpy.array(await embedder.embed_images(pictures)),
        numpy.array([(await embedder.embed_images([one]))[0] for one in pictures]),
        atol=1e-6,
    )
    assert await embedder.embed_texts([]) == []
    assert await embedder.embed_images([]) == []


async def test_images_that_cannot_be_decoded_leave_the_others_alone(embedder: SiglipEmbedder) -> None:
    good = plain(RED, kind="JPEG")
    bomb = encoded(Image.new("1", (20_000, 20_000)))
    vectors = await embedder.embed_images([b"", b"<html>", good, good[: len(good) // 2], bomb, plain(BLUE)])
    assert [vector is not None for vector in vectors] == [False, False, True, False, False, True]


def test_text_is_lowered_cut_and_filled_up_with_the_end_token(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = load_siglip(model_folder)
    seen: list[Any] = []
    run = siglip.Graph.run

    def watched(graph: siglip.Graph, values: Any) -> Any:
        seen.append(values)
        return run(graph, values)

    monkeypatch.setattr(siglip.Graph, "run", watched)
    embedder._compute_texts(["RED Mug", "red mug", "word " * 100])
    ids = seen[0]
    assert (ids.dtype, ids.shape) == (numpy.int64, (3, 64))
    assert (ids[0] == ids[1]).all()
    assert set(ids[0][3:]) == {1}, "padding is </s>, which SigLIP reads"
    assert 1 not in ids[2]


@pytest.mark.parametrize(("size", "nearly"), [((640, 427), 1.5), ((120, 400), 1.5), ((1800, 1300), 3.0)])
def test_pixels_are_those_of_the_models_own_processor(size: tuple[int, int], nearly: float) -> None:
    """Squashed with the bicubic kernel that Pillow has, and to -1…1; `nearly` is in 255ths, on average."""
    picture = landscape(*size)
    squashed = numpy.asarray(picture.resize((224, 224), Image.Resampling.BICUBIC), dtype=numpy.float32)
    wanted = ((squashed / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    pixels = prepare_image(encoded(picture), ImagePreparation())
    assert (pixels.dtype, pixels.shape) == (numpy.float32, (3, 224, 224))
    assert -1 <= pixels.min() < pixels.max() <= 1
    assert numpy.abs(pixels - wanted).mean() * 127.5 < nearly


def test_transparent_is_white_and_other_colour_spaces_are_converted() -> None:
    cutout = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    assert (prepare_image(encoded(cutout), ImagePreparation()) == 1).all()
    grey = prepare_image(encoded(Image.new("L", (50, 80), 255)), ImagePreparation())
    assert (grey == 1).all()
    cmyk = prepare_image(encoded(Image.new("CMYK", (50, 80)), "JPEG"), ImagePreparation())
    assert cmyk.min() > 0.9
    with pytest.raises(ItemError, match="megapixels"):
        prepare_image(encoded(Image.new("1", (20_000, 20_000))), ImagePreparation())


def test_preparation_is_read_from_the_folder(model_folder: Path, tmp_path: Path) -> None:
    folder = copy(model_folder, tmp_path)
    change(folder, size={"height": 256, "width": 384}, resample=2, image_mean=[0, 0.1, 0.2])
    assert open_folder(folder).preparation == ImagePreparation(
        384, 256, "linear", (0.0, 0.1, 0.2), (0.5, 0.5, 0.5)
    )
    (folder / "preprocessor_config.json").unlink()
    assert open_folder(folder).preparation == ImagePreparation()


async def test_one_graph_for_both_gives_the_same_vectors(embedder: SiglipEmbedder, tmp_path: Path) -> None:
    both = load_siglip(make_embedding_model(tmp_path / "one", one_graph=True))
    try:
        given = ["Red mug", "Espresso"]
        assert numpy.allclose(await both.embed_texts(given), await embedder.embed_texts(given), atol=1e-6)
        picture = [plain(RED)]
        assert numpy.allclose(
            numpy.array(await both.embed_images(picture)),
            numpy.array(await embedder.embed_images(picture)),
            atol=1e-6,
        )
        assert both.checksum != embedder.checksum
    finally:
        await both.aclose()


def test_folder_as_it_is_published_works(model_folder: Path, tmp_path: Path) -> None:
    """Graphs in a folder of their own, and a download's hidden files, which are not the model."""
    folder = copy(model_folder, tmp_path)
    (folder / "onnx").mkdir()
    for name in ("vision_model.onnx", "text_model.onnx"):
        (folder / name).rename(folder / "onnx" / name)
    before = load_siglip(folder).checksum
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("1")
    assert checksum_of(folder) == before


def test_stand_in_is_provided_whole_and_the_same_each_time(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "provided.draft").mkdir()
    (tmp_path / "provided.draft" / "left-over").write_text("of a start that was killed")
    provide_embedding_model(tmp_path / "provided")
    assert checksum_of(tmp_path / "provided") == checksum_of(model_folder)
    assert [path.name for path in tmp_path.iterdir()] == ["provided"]


def test_checksum_is_of_names_and_contents(model_folder: Path, tmp_path: Path) -> None:
    folder = copy(model_folder, tmp_path)
    first = checksum_of(folder)
    assert first == checksum_of(model_folder)
    assert len(first) == 64
    change(folder, resample=2)
    second = checksum_of(folder)
    (folder / "text_model.onnx").rename(folder / "other.onnx")
    assert len({first, second, checksum_of(folder)}) == 3


def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def change(folder: Path, **values: Any) -> None:
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def graph(path: Path, given: Any, output: str, size: int) -> None:
    """A graph of this signature that always gives zeros."""
    inputs = [helper.make_tensor_value_info(*given)]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", size])]
    value = helper.make_tensor("value", TensorProto.FLOAT, [1, size], [0.0] * size)
    nodes = [
        helper.make_node("Constant", [], ["constant"], value=value),
        helper.make_node("Identity", ["constant"], [output]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "odd", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.save(model, path)


IMAGE_INPUT = ("pixel_values", TensorProto.FLOAT, ["batch", 3, 224, 224])
WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing folder": (shutil.rmtree, "there is no such folder"),
    "missing graph": (lambda f: (f / "text_model.onnx").unlink(), "it lacks text_model.onnx"),
    "missing tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "it lacks tokenizer.json"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json can't be read"),
    "another model's tokenizer": (
        lambda f: (f / "tokenizer.json").write_text(
            (f / "tokenizer.json").read_text().replace("</s>", "<end>")
        ),
        "token 1 is '<end>' and not '</s>'",
    ),
    "broken graph": (
        lambda f: (f / "vision_model.onnx").write_bytes(b"no"),
        "vision_model.onnx can't be loa",
    ),
    "broken preparation": (lambda f: (f / "preprocessor_config.json").write_text("[1"), "can't be used"),
    "odd kernel": (lambda f: change(f, resample=9), "resample: 9 is neither"),
    "odd size": (lambda f: change(f, size={"height": 4, "width": 224}), "not between 16 and 1024"),
    "odd deviation": (lambda f: change(f, image_std=[0, 1, 1]), "image_std: must be above 0"),
    "another size than the graph's": (
        lambda f: change(f, size={"height": 384, "width": 384}),
        "and not batch×3×384×384",
    ),
    "another input": (
        lambda f: graph(f / "vision_model.onnx", ("image", *IMAGE_INPUT[1:]), "pooler_output", 768),
        "takes image and not pixel_values",
    ),
    "another type": (
        lambda f: graph(
            f / "vision_model.onnx",
            ("pixel_values", TensorProto.FLOAT16, ["batch", 3, 224, 224]),
            "pooler_output",
            768,
        ),
        r"as tensor\(float16\) and not tensor\(float\)",
    ),
    "no pooled output": (
        lambda f: graph(f / "vision_model.onnx", IMAGE_INPUT, "last_hidden_state", 768),
        "gives last_hidden_state and none of image_embeds, pooler_output",
    ),
    "larger model": (
        lambda f: graph(f / "vision_model.onnx", IMAGE_INPUT, "pooler_output", 1152),
        "and not batch×768: a SigLIP of the size base",
    ),
    "gives no direction": (
        lambda f: graph(f / "vision_model.onnx", IMAGE_INPUT, "pooler_output", 768),
        "can't be run: its output is zero or not finite",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_folder_that_cannot_be_used_is_refused_with_the_reason(
    case: str, model_folder: Path, tmp_path: Path
) -> None:
    spoil, reason = WRONG[case]
    folder = copy(model_folder, tmp_path)
    spoil(folder)
    with pytest.raises(ModelUnusableError, match=reason) as caught:
        load_siglip(folder)
    assert caught.value.field == "EMBEDDING_MODEL_PATH"
    assert str(folder) in caught.value.message


async def test_without_a_model_the_setting_is_named() -> None:
    with pytest.raises(ModelUnusableError, match="EMBEDDING_MODEL_PATH: is not set"):
        await open_embedder(EmbeddingSettings())


async def test_settings_lead_to_the_model(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_MODEL_PATH", str(model_folder))
    settings = EmbeddingSettings()
    assert not settings.unavailable_steps
    embedder = await open_embedder(settings)
    assert embedder.checksum == checksum_of(model_folder)
    await embedder.aclose()


def test_missing_package_is_named(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"onnxruntime.*import-operator\[enrich\]"):
        load_siglip(model_folder)


async def test_model_that_fails_later_is_told_as_ours(
    embedder: SiglipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siglip.Graph, "run", lambda *_: numpy.full((1, 768), numpy.nan))
    with pytest.raises(EmbeddingFailedError, match="zero or not finite"):
        await embedder.embed_texts(["a"])


async def test_event_loop_goes_on_while_the_model_computes(
    embedder: SiglipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    release, started = threading.Event(), threading.Event()

    def slow(*_: Any) -> Any:
        started.set()
        assert release.wait(30)
        return numpy.ones((1, 768))

    monkeypatch.setattr(siglip.Graph, "run", slow)
    computing = asyncio.create_task(embedder.embed_texts(["a"]))
    await asyncio.to_thread(started.wait, 30)
    assert not computing.done()
    release.set()
    assert len(await computing) == 1
