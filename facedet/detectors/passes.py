"""The looks that `compact` takes at a photo, and the batches they are read in.

A photo within NATIVE_SIDE_PX is read as it is, and again at a half, a quarter ... of its size for its larger faces. A
larger one is read in overlapping tiles at full resolution, for its small faces, and in the same way once reduced;
memory is bounded by a tile. What `scale` makes small is enlarged a little again, which costs less than it finds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

BLOCK_PX = 32
"""Inputs are padded to a multiple of the network's coarsest stride."""
PAD_GREY = 114
"""What the network saw beyond photos in training."""
MIN_INPUT_PX = 96
"""A photo no larger than this is enlarged twice, and gets a border if still smaller, so that a face may fill it. Of
crops of 60 px around 177 faces of wider_face/dev, 88 % give their face so, 71 % with a border alone."""
NATIVE_SIDE_PX = 1664
SMALLEST_LOOK_PX = 256
"""A photo is read again at half its size, and at half of that, until its long side is no longer than this."""
MOST_TRUSTED_PX, LEAST_TRUSTED_PX = 100.0, 24.0
"""Faces larger than the first in the next, smaller look are left to it where there is one, faces smaller than the
second in it to the larger look. Of seven pairs on wider_face/dev and Dataturks the best on both: on dev 0.839 / 0.826 /
0.708, where 100 and 16 have 0.837 / 0.827 / 0.705 (the weights of run 7)."""
ENLARGED, ENLARGED_SIDE_PX = 1.2, 768
"""By what, and to which long side at most, a photo is enlarged that `scale` reduced; smaller looks are then thirds, or
it would take longer. On wider_face/dev at 640 px 0.891 / 0.877 / 0.731 instead of 0.885 / 0.855 / 0.685 for a fifth
more pixels, at 480 and 320 px likewise, at 800 px no gain but in hard ones (0.889 / 0.877 / 0.758; 0.893 / 0.884 /
0.737). Photos that are small as they come have larger faces, and gain nothing (Dataturks, the weights of run 12)."""
STEP_OF_ENLARGED = 3
TILE_PX = 1280
TILE_OVERLAP_PX = 192
REDUCED_SIDE_PX = 1024
MOST_TRUSTED_OF_TILE_PX = 2 * LEAST_TRUSTED_PX
"""As in the reduced look: a tile shows parts of what is larger, and takes some of them for faces."""
BATCH_PIXELS = 1_600_000
"""Images of one padded size share a batch up to about this many pixels."""


@dataclass(frozen=True)
class Pass:
    """One look at a part of a photo: pixels = (photo pixels - offset) * scale + border.

    cut_sides: whether the left, top, right and bottom end of the view cut through the photo. size_px: smallest and
    largest face, as the root of its area in pixels of the view, that the view is trusted with.
    """

    photo: int
    pixels: Image
    scale: float
    offset_xy: tuple[float, float]
    border_px: int
    cut_sides: tuple[bool, bool, bool, bool]
    size_px: tuple[float, float]


def passes_of(image: Image, *, photo: int, scale: int | None) -> Iterator[Pass]:
    """The looks at one photo. scale: long side in pixels to reduce it to first, None for full resolution."""
    if min(image.shape[:2]) == 0:
        return
    base, step = 1.0, 2
    if scale is not None and max(image.shape[:2]) > scale:
        image, base = _reduced(image, scale)
        if (factor := enlargement(scale)) > 1:
            image, base, step = _enlarged(image, factor), base * factor, STEP_OF_ENLARGED
    elif max(image.shape[:2]) <= MIN_INPUT_PX:
        image, base = cv2.resize(image, None, fx=2, fy=2).astype(np.uint8, copy=False), 2.0
    height, width = image.shape[:2]
    side = max(height, width)
    if side <= NATIVE_SIDE_PX:
        yield from _looks(image, photo, base, least_px=0.0, step=step)
        return
    # What the tiles' overlap does not hold whole, the reduced look has to believe.
    reduced, ratio = _reduced(image, max(REDUCED_SIDE_PX, math.ceil(side * LEAST_TRUSTED_PX / TILE_OVERLAP_PX)))
    most_px = MOST_TRUSTED_OF_TILE_PX / ratio
    yield from _looks(reduced, photo, base * ratio, least_px=LEAST_TRUSTED_PX)
    for y in _starts(height):
        for x in _starts(width):
            tile = image[y : y + TILE_PX, x : x + TILE_PX]
            cut = (x > 0, y > 0, x + TILE_PX < width, y + TILE_PX < height)
            yield Pass(photo, tile, base, (x / base, y / base), 0, cut, (0.0, most_px))


def _looks(image: Image, photo: int, base: float, *, least_px: float, step: int = 2) -> Iterator[Pass]:
    """A photo as it is, or resized by `base`, and again and again at a `step`th of the size."""
    whole = (False, False, False, False)
    border = max(0, -(-(MIN_INPUT_PX - max(image.shape[:2])) // 2))
    pixels, ratio = image if border == 0 else _bordered(image, border, border, border, border), 1.0
    while True:
        last = max(pixels.shape[:2]) <= SMALLEST_LOOK_PX
        most_px = float("inf") if last else step * MOST_TRUSTED_PX
        yield Pass(photo, pixels, base * ratio, (0, 0), border, whole, (least_px, most_px))
        if last or min(pixels.shape[:2]) < step:
            return
        pixels, ratio = _shrunk(pixels, step), ratio / step
        least_px = LEAST_TRUSTED_PX


def batches_of(passes: Iterator[Pass]) -> Iterator[list[Pass]]:
    """Passes whose padded sizes agree, up to BATCH_PIXELS together."""
    waiting: dict[tuple[int, int], list[Pass]] = {}
    for view in passes:
        size = _padded_size(view.pixels)
        batch = waiting.setdefault(size, [])
        batch.append(view)
        if (len(batch) + 1) * size[0] * size[1] > BATCH_PIXELS:
            yield waiting.pop(size)
    yield from waiting.values()


def _padded_size(pixels: Image) -> tuple[int, int]:
    height, width = pixels.shape[:2]
    return -(-height // BLOCK_PX) * BLOCK_PX, -(-width // BLOCK_PX) * BLOCK_PX


def to_input(batch: Sequence[Pass], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """[N, 3, H, W] of views of one padded size, 0 to 255 in the type that the network's file asks for."""
    inputs = np.full((len(batch), 3, *_padded_size(batch[0].pixels)), PAD_GREY, dtype)
    for target, view in zip(inputs, batch, strict=True):
        height, width = view.pixels.shape[:2]
        target[:, :height, :width] = view.pixels.transpose(2, 0, 1)
    return inputs


def _bordered(image: Image, top: int, bottom: int, left: int, right: int) -> Image:
    grey = (PAD_GREY, PAD_GREY, PAD_GREY)
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=grey).astype(
        np.uint8, copy=False
    )


def _reduced(image: Image, side: int) -> tuple[Image, float]:
    """The image with a long side of `side` pixels, and by which factor it was reduced.

    By halves, then bilinearly: as good as the mean over areas for the network, and ten times as fast.
    """
    factor = 1.0
    while max(image.shape[:2]) >= 2 * side and min(image.shape[:2]) > 1:
        image, factor = _shrunk(image, 2), factor / 2
    ratio = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False), factor * ratio


def _shrunk(image: Image, step: int) -> Image:
    """Means of step x step pixels; rows and columns that are too few for one are left out. No side is below `step`."""
    height, width = image.shape[0] // step, image.shape[1] // step
    whole = image[: step * height, : step * width]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def enlargement(scale: int) -> float:
    """By what a photo is enlarged whose long side was reduced to `scale`: 1 for none."""
    return max(1.0, min(ENLARGED, ENLARGED_SIDE_PX / scale))


def _enlarged(image: Image, factor: float) -> Image:
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)


def _starts(length: int) -> list[int]:
    """Starts of the tiles that cover `length`, evenly spread, overlapping by at least TILE_OVERLAP_PX."""
    if length <= TILE_PX:
        return [0]
    count = -(-(length - TILE_OVERLAP_PX) // (TILE_PX - TILE_OVERLAP_PX))
    return [round(i * (length - TILE_PX) / (count - 1)) for i in range(count)]
