"""Makes a stand-in for a SigLIP model: its files and signature, 2 MB, no training; `… embedding_model FOLDER`.

It knows nothing of the world, but like gives like: images are compared by their colours and where these are, texts by
their words and pairs of letters, and the common words for colours lie near images of that colour. So that searches in
the demo and in tests find what they should, and everything around a model can be tried without one. The same call
makes the same files.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

DIMENSIONS, TOKENS, SIDE = 768, 64, 224
HIDDEN = 64
"""Numbers that matter; they are spread over all dimensions without changing an angle."""
COLOURS = {
    "red": (220, 30, 30),
    "orange": (240, 140, 30),
    "yellow": (240, 220, 50),
    "green": (40, 160, 60),
    "blue": (40, 70, 210),
    "purple": (130, 50, 160),
    "pink": (240, 130, 180),
    "brown": (120, 75, 40),
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
    "gray": (128, 128, 128),
    "white": (245, 245, 245),
}
_CELLS = 8
"""Rows and columns of the image's coarse picture."""
_COLOUR_WEIGHT, _PLACE_WEIGHT, _WORD_WEIGHT, _COMMON = 3.0, 0.05, 2.0, 0.3
_SPECIAL = ("<pad>", "</s>", "<unk>")
_ALPHABET = digits + ascii_lowercase
_SEED = 768


def make_embedding_model(folder: Path, *, one_graph: bool = False) -> Path:
    """Write the model's files into `folder` and return it; `one_graph`: model.onnx in place of two graphs."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary()
    _write_json(folder / "tokenizer.json", _tokenizer(vocabulary))
    _write_json(folder / "preprocessor_config.json", _preprocessor())
    # RandomState: its numbers are promised to stay the same in all versions of numpy.
    random = numpy.random.RandomState(_SEED)
    spread = numpy.linalg.qr(random.standard_normal((DIMENSIONS, HIDDEN)))[0].T
    image = _image_graph(random, spread, "image_embeds" if one_graph else "pooler_output")
    text = _text_graph(random, spread, vocabulary, "text_embeds" if one_graph else "pooler_output")
    if one_graph:
        _save(folder / "model.onnx", [image, text])
    else:
        _save(folder / "vision_model.onnx", [image])
        _save(folder / "text_model.onnx", [text])
    return folder


def provide_embedding_model(folder: Path) -> None:
    """Make the files in `folder`, which must be absent; it is there when all of them are."""
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    make_embedding_model(draft).replace(folder)


class _Part:
    """Nodes from one input to one output, with their constants."""

    def __init__(self, source: Any, output: str, prefix: str) -> None:
        self.input = source
        self.output = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", DIMENSIONS])
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._prefix = prefix

    def constant(self, name: str, value: Any) -> str:
        """Add a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(value, self._prefix + name))
        return self._prefix + name

    def node(self, operation: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = to or f"{self._prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name


def _image_graph(random: Any, spread: Any, output: str) -> _Part:
    source = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    part = _Part(source, output, "image_")
    step = SIDE // _CELLS
    cells = part.node("AveragePool", "pixel_values", kernel_shape=[step, step], strides=[step, step])
    flat = part.node("Flatten", cells)
    places = random.standard_normal((3 * _CELLS**2, HIDDEN)) * _PLACE_WEIGHT
    # The first three are the colour of the whole, which texts share; the last one is common to everything.
    places[:, :3] = 0
    places[:, -1] = 0
    for channel in range(3):
        places[channel * _CELLS**2 : (channel + 1) * _CELLS**2, channel] = _COLOUR_WEIGHT / _CELLS**2
    weights = part.constant("weights", (places @ spread).astype(numpy.float32))
    common = part.constant("common", (spread[-1] * _COMMON).astype(numpy.float32))
    part.node("Add", part.node("MatMul", flat, weights), common, to=output)
    return part


def _text_graph(random: Any, spread: Any, vocabulary: list[str], output: str) -> _Part:
    source = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", TOKENS])
    part = _Part(source, output, "text_")
    tokens = random.standard_normal((len(vocabulary), HIDDEN)) / numpy.sqrt(HIDDEN)
    tokens[:, :3] = 0
    tokens[:, -1] = 0
    tokens[: len(_SPECIAL)] = 0
    for word, colour in COLOURS.items():
        at = vocabulary.index(word)
        tokens[at, :3] = (numpy.asarray(colour) / 127.5 - 1) * _WORD_WEIGHT
    table = part.constant("tokens", tokens.astype(numpy.float32))
    spreading = part.constant("spread", spread.astype(numpy.float32))
    common = part.constant("common", (spread[-1] * _COMMON).astype(numpy.float32))
    axes = part.constant("axes", numpy.asarray([1], dtype=numpy.int64))
    summed = part.node("ReduceSum", part.node("Gather", table, "input_ids"), axes, keepdims=0)
    part.node("Add", part.node("MatMul", summed, spreading), common, to=output)
    return part


def _save(path: Path, parts: list[_Part]) -> None:
    graph = helper.make_graph(
        [node for part in parts for node in part.nodes],
        "stand-in",
        [part.input for part in parts],
        [part.output for part in parts],
        [constant for part in parts for constant in part.constants],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="import-local"
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _vocabulary() -> list[str]:
    """Special tokens where SigLIP has them, whole words, and pieces of one and two letters."""
    pairs = [one + other for one in _ALPHABET for other in _ALPHABET]
    pieces = [*pairs, *_ALPHABET]
    return [*_SPECIAL, *COLOURS, *pieces, *(f"##{piece}" for piece in pieces)]


def _tokenizer(vocabulary: list[str]) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number, token in enumerate(_SPECIAL)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}],
        },
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "[^\\p{L}\\p{N}]+"},
            "behavior": "Removed",
            "invert": False,
        },
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "<unk>",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: number for number, token in enumerate(vocabulary)},
        },
    }


def _preprocessor() -> dict[str, Any]:
    """As it is published with SigLIP's base model."""
    return {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": SIDE, "width": SIDE},
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Make the files in the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m import_local.embedding_model", description=__doc__)
    parser.add_argument("folder", type=Path)
    print(make_embedding_model(parser.parse_args().folder))


if __name__ == "__main__":
    main()
