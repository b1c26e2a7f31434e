"""Turns an encoded image into the numbers that an image model was trained on."""

from __future__ import annotations

from typing import Any

import pyvips

from import_core.adapters.images.decoding import broken, decode, read_dimensions
from import_core.adapters.models.folder import ImagePreparation
from import_core.domain.errors import ItemError
from import_core.domain.images import sniff

_SHRINK_ABOVE = 4
"""From so many times the model's size on, the decoder shrinks on the way to twice of it: ten times faster on a large
photograph, and nearly the same pixels. Below it all pixels go through the model's own kernel."""
WHITE = 255


def prepare_image(content: bytes, preparation: ImagePreparation) -> Any:
    """Decode (blocking) to a float32 array [3, height, width]; raises ItemError (stage "decode").

    Squashed to the model's size without regard to its proportions, as SigLIP's own processor does. What is
    transparent becomes white, as shops show it.
    """
    import numpy

    image_format = sniff(content)
    dimensions = read_dimensions(content, image_format)
    width, height = preparation.width, preparation.height
    shrinks = dimensions.width >= _SHRINK_ABOVE * width and dimensions.height >= _SHRINK_ABOVE * height
    first = (2 * width, 2 * height) if shrinks else (dimensions.width, dimensions.height)
    try:
        image = _squash(_three_bands(decode(content, *first)), preparation)
        pixels = image.cast("uchar").numpy()
    except pyvips.Error as error:
        raise broken(error, image_format, content) from error
    if pixels.shape != (height, width, 3):
        raise ItemError("decode", "Broken", f"the image came out as {pixels.shape}")
    mean = numpy.asarray(preparation.mean, dtype=numpy.float32)
    std = numpy.asarray(preparation.std, dtype=numpy.float32)
    scaled = (pixels.astype(numpy.float32) / numpy.float32(255) - mean) / std
    return numpy.ascontiguousarray(scaled.transpose(2, 0, 1))


def _three_bands(image: Any) -> Any:
    if image.hasalpha():
        image = image.flatten(background=[WHITE] * (image.bands - 1))
    return image if image.bands == 3 else image.colourspace("srgb")


def _squash(image: Any, preparation: ImagePreparation) -> Any:
    """Resize to exactly the model's size with its kernel, pixels' centres on centres."""
    width, height = preparation.width, preparation.height
    wider, higher = max(1.0, width / image.width), max(1.0, height / image.height)
    if wider > 1 or higher > 1:
        # `resize` puts the pixels elsewhere when it enlarges.
        image = image.affine(
            [wider, 0, 0, higher],
            interpolate=pyvips.Interpolate.new("bicubic" if preparation.kernel == "cubic" else "bilinear"),
            oarea=[0, 0, max(width, image.width), max(height, image.height)],
            idx=0.5,
            idy=0.5,
            odx=-0.5,
            ody=-0.5,
            extend="copy",
        )
    # `gap` would have a box filter shrink first, which differs from what the model saw in training.
    return image.resize(width / image.width, vscale=height / image.height, kernel=preparation.kernel, gap=0.0)
