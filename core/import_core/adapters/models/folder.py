"""The folder that an embedding model is read from: which files it has, what they say, and their checksum.

The layout is the one in which SigLIP models are published as ONNX: the graphs beside `tokenizer.json` or in `onnx/`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from import_core.domain.errors import ModelUnusableError

SETTING = "EMBEDDING_MODEL_PATH"
IMAGE_GRAPH, TEXT_GRAPH, WHOLE_GRAPH = "vision_model.onnx", "text_model.onnx", "model.onnx"
TOKENIZER, PREPROCESSOR = "tokenizer.json", "preprocessor_config.json"
LARGEST_JSON = 64 * 2**20
"""Bytes. SigLIP's tokenizer has 2 MB, SigLIP 2's 34."""
_BICUBIC, _BILINEAR = 3, 2


@dataclass(frozen=True, slots=True)
class ImagePreparation:
    """How pixels become the model's input: size in pixels, the resampling kernel, and `(value - mean) / std`."""

    width: int = 224
    height: int = 224
    kernel: str = "cubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A complete folder. `image_graph` and `text_graph` are the same file where one graph does both."""

    path: Path
    image_graph: Path
    text_graph: Path
    tokenizer: Path
    preparation: ImagePreparation


def open_folder(path: Path) -> ModelFolder:
    """Find a model's files (blocking). Raises ModelUnusableError, which says what is missing or wrong."""
    if not path.is_dir():
        raise unusable(path, "there is no such folder")
    whole = _find(path, WHOLE_GRAPH)
    image, text = _find(path, IMAGE_GRAPH), _find(path, TEXT_GRAPH)
    if image is None or text is None:
        if whole is None:
            missing = [name for name, found in ((IMAGE_GRAPH, image), (TEXT_GRAPH, text)) if found is None]
            raise unusable(
                path,
                f"it lacks {' and '.join(missing)} (and has no {WHOLE_GRAPH}), also in a folder onnx below it",
            )
        image = text = whole
    tokenizer = path / TOKENIZER
    if not tokenizer.is_file():
        raise unusable(path, f"it lacks {TOKENIZER}")
    if tokenizer.stat().st_size > LARGEST_JSON:
        raise unusable(path, f"its {TOKENIZER} has more than {LARGEST_JSON // 2**20} MB")
    return ModelFolder(path, image, text, tokenizer, _read_preparation(path))


def checksum_of(path: Path) -> str:
    """Hex SHA-256 of names and contents of all files below `path` (blocking), but for those that start with a dot.

    Graphs may keep their weights in files beside them under any name, so all of them count.
    """
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        below = file.relative_to(path)
        if not file.is_file() or any(part.startswith(".") for part in below.parts):
            continue
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        whole.update(f"{digest}  {below.as_posix()}\n".encode())
    return whole.hexdigest()


def unusable(path: Path, reason: str) -> ModelUnusableError:
    """The error that names the setting and the folder."""
    return ModelUnusableError(SETTING, f"{path}: {reason} (docs/how-to/embeddings.md)")


def _find(path: Path, name: str) -> Path | None:
    return next((file for file in (path / name, path / "onnx" / name) if file.is_file()), None)


def _read_preparation(path: Path) -> ImagePreparation:
    file = path / PREPROCESSOR
    if not file.is_file():
        return ImagePreparation()
    if file.stat().st_size > LARGEST_JSON:
        raise unusable(path, f"its {PREPROCESSOR} is too large")
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return _preparation(said)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unusable(path, f"its {PREPROCESSOR} can't be used: {error}") from error


def _preparation(said: dict[str, Any]) -> ImagePreparation:
    default = ImagePreparation()
    size = said.get("size", {"width": default.width, "height": default.height})
    if isinstance(size, int):
        size = {"width": size, "height": size}
    width, height = int(size["width"]), int(size["height"])
    if not (16 <= width <= 1024 and 16 <= height <= 1024):
        raise ValueError(f"size: {width}×{height} is not between 16 and 1024 pixels")
    kernels = {_BICUBIC: "cubic", _BILINEAR: "linear"}
    resample = said.get("resample", _BICUBIC)
    if resample not in kernels:
        raise ValueError(f"resample: {resample} is neither {_BICUBIC} (bicubic) nor {_BILINEAR} (bilinear)")
    std = _three(said, "image_std", default.std)
    if min(std) <= 0:
        raise ValueError("image_std: must be above 0")
    return ImagePreparation(width, height, kernels[resample], _three(said, "image_mean", default.mean), std)


def _three(
    said: dict[str, Any], name: str, default: tuple[float, float, float]
) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in said.get(name, default))
    return first, second, third
