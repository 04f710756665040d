"""Random square training crops: each a view of one photo, or a mosaic of four, with light and colour changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from facedet.data.coco import Photo

Box = npt.NDArray[np.float32]
OUTSIDE = (114, 114, 114)
"""Colour of what lies beyond a photo."""


@dataclass(frozen=True)
class CropRecipe:
    """How crops are drawn. `size` in pixels; probabilities in [0, 1]; face sizes in pixels of the crop.

    A crop is either placed on a random face, so scaled that the face gets a log-uniform size within `face_px`
    (data-anchor sampling, Tang et al. 2018, PyramidBox), or a random window of `window` of the photo's short side.
    Faces under `min_face_px`, and those whose centre lies outside, are ignored instead of learnt.
    turn: share of the views that are turned by up to `turn_degrees`; quarter_turn: share that lies on a side or stands
    on its head; stretch: width by height changes by up to exp(stretch) either way; cover: share of the faces of at
    least 16 px a part of which is hidden.
    """

    size: int = 320
    anchored: float = 0.5
    face_px: tuple[float, float] = (8.0, 260.0)
    max_enlarge: float = 2.5
    window: tuple[float, float] = (0.3, 1.3)
    mosaic: float = 0.15
    flip: float = 0.5
    min_face_px: float = 5.0
    turn: float = 0.0
    turn_degrees: float = 30.0
    quarter_turn: float = 0.0
    stretch: float = 0.0
    cover: float = 0.0

    def faults(self) -> list[str]:
        """Every setting that cannot work, one sentence each."""
        low, high = self.face_px
        checks = [
            (
                self.size >= 64 and self.size % 32 == 0,
                f"crop size {self.size}: expected a multiple of 32 of at least 64",
            ),
            (
                0 < low < min(high, 0.4 * self.size),
                f"face_px {low:g} to {high:g}: expected two rising sizes, the first above 0 and below 0.4 of the crop",
            ),
        ]
        for name in ("anchored", "mosaic", "flip", "turn", "quarter_turn", "cover"):
            share = getattr(self, name)
            checks.append((0 <= share <= 1, f"{name} {share}: expected 0 to 1"))
        return [message for good, message in checks if not good]


AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strong": {"turn": 0.3, "quarter_turn": 0.03, "stretch": 0.2, "cover": 0.12},
}
"""Settings of a CropRecipe by name. strong: for turned, lying and half hidden faces, when the plain ones are learnt."""


@dataclass(frozen=True, eq=False)
class Crop:
    """image uint8 [size, size, 3] BGR; boxes_xyxy and ignored_xyxy float32 [N, 4] in its pixels."""

    image: npt.NDArray[np.uint8]
    boxes_xyxy: Box
    ignored_xyxy: Box


class PhotoCache:
    """Decoded photos, kept up to a number of bytes; what does not fit is decoded again."""

    def __init__(self, limit_bytes: int = 3 << 30) -> None:
        self._images: dict[str, npt.NDArray[np.uint8]] = {}
        self._room = limit_bytes

    def read(self, photo: Photo) -> npt.NDArray[np.uint8]:
        """The photo as uint8 [H, W, 3] BGR. Raises DataError when it cannot be read or has another size than said."""
        key = str(photo.path)
        if key in self._images:
            return self._images[key]
        image = photo.read()
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._images[key] = image
        return image


def random_crop(
    photos: Sequence[Photo], index: int, cache: PhotoCache, recipe: CropRecipe, rng: np.random.Generator
) -> Crop:
    """A training crop that shows photo `index`, alone or in a mosaic with three random others."""
    if rng.random() >= recipe.mosaic:
        crop = _view(photos[index], cache, recipe, recipe.size, rng)
    else:
        half = recipe.size // 2
        picks = [index, *rng.integers(0, len(photos), 3).tolist()]
        crop = _tile([_view(photos[i], cache, recipe, half, rng) for i in picks], half)
    return Crop(_change_light(crop.image, rng), crop.boxes_xyxy, crop.ignored_xyxy)


def _view(photo: Photo, cache: PhotoCache, recipe: CropRecipe, size: int, rng: np.random.Generator) -> Crop:
    image = cache.read(photo)
    x0, y0, side = _window(photo, recipe, size, rng)
    scale = size / side
    patch = _cut(image, x0, y0, side, size)
    boxes = (photo.boxes_xyxy - np.array([x0, y0, x0, y0], np.float32)) * np.float32(scale)
    patch, boxes = _turn(patch, boxes, recipe, rng)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    in_view = ((centre >= 0) & (centre < size)).all(1)
    clipped = boxes.clip(0, size)
    sides = (clipped[:, 2:] - clipped[:, :2]).min(1, initial=np.inf)
    learn = in_view & ~photo.ignore & (sides >= recipe.min_face_px)
    boxes, ignored = clipped[learn], clipped[~learn & (sides > 0)]
    if rng.random() < recipe.flip:
        patch = patch[:, ::-1]
        boxes, ignored = _mirror(boxes, size), _mirror(ignored, size)
    patch = np.ascontiguousarray(patch)
    if recipe.cover:
        cover_faces(patch, boxes, recipe.cover, rng)
    return Crop(patch, boxes, ignored)


def _window(photo: Photo, recipe: CropRecipe, size: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Left, top and side of the square window in pixels of the photo; it may reach beyond the photo."""
    faces = photo.boxes_xyxy[~photo.ignore]
    short = min(photo.width, photo.height)
    if len(faces) and rng.random() < recipe.anchored:
        x1, y1, x2, y2 = faces[rng.integers(len(faces))]
        face = max(float(np.sqrt((x2 - x1) * (y2 - y1))), 1.0)
        low, high = np.log(recipe.face_px[0]), np.log(min(recipe.face_px[1], size * 0.9))
        side = face * size / float(np.exp(rng.uniform(low, high)))
        side = float(np.clip(side, size / recipe.max_enlarge, 1.3 * max(photo.width, photo.height)))
        x0 = _start(float(x1), float(x2), photo.width, side, rng)
        y0 = _start(float(y1), float(y2), photo.height, side, rng)
        return x0, y0, side
    side = max(short * rng.uniform(*recipe.window), size / recipe.max_enlarge)
    x0 = rng.uniform(min(0, photo.width - side), max(0, photo.width - side))
    y0 = rng.uniform(min(0, photo.height - side), max(0, photo.height - side))
    return x0, y0, side


def _start(low: float, high: float, length: int, side: float, rng: np.random.Generator) -> float:
    """Start of a span of `side` that holds low..high where it can and shows as much of 0..length as it can."""
    first = max(high - side, min(0.0, length - side))
    last = min(low, max(0.0, length - side))
    return rng.uniform(first, last) if first < last else (low + high - side) / 2


def _cut(image: npt.NDArray[np.uint8], x0: float, y0: float, side: float, size: int) -> npt.NDArray[np.uint8]:
    """The window resized to size x size; what lies beyond the photo is grey."""
    scale = size / side
    out = np.full((size, size, 3), OUTSIDE, np.uint8)
    left, top = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
    right, bottom = min(int(np.ceil(x0 + side)), image.shape[1]), min(int(np.ceil(y0 + side)), image.shape[0])
    if right <= left or bottom <= top:
        return out
    u0, v0 = max(round((left - x0) * scale), 0), max(round((top - y0) * scale), 0)
    u1, v1 = min(round((right - x0) * scale), size), min(round((bottom - y0) * scale), size)
    if u1 <= u0 or v1 <= v0:
        return out
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    out[v0:v1, u0:u1] = cv2.resize(image[top:bottom, left:right], (u1 - u0, v1 - v0), interpolation=how)
    return out


def _turn(
    patch: npt.NDArray[np.uint8], boxes: Box, recipe: CropRecipe, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Box]:
    """Patch and boxes turned and stretched about the middle. A face counts as the ellipse in its box."""
    degrees = 0.0
    if recipe.turn and rng.random() < recipe.turn:
        degrees = rng.uniform(-recipe.turn_degrees, recipe.turn_degrees)
    if recipe.quarter_turn and rng.random() < recipe.quarter_turn:
        degrees += 90.0 * rng.integers(1, 4)
    stretch = np.exp(rng.uniform(-recipe.stretch, recipe.stretch) / 2) if recipe.stretch else 1.0
    if degrees == 0 and stretch == 1:
        return patch, boxes
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = np.array([[cos * stretch, -sin * stretch], [sin / stretch, cos / stretch]])
    size = patch.shape[0]
    middle = np.full(2, size / 2)
    # cv2 places pixel centres on whole numbers, boxes count from the corner of the first pixel: half a pixel apart.
    shift = middle - linear @ middle + linear @ np.full(2, 0.5) - 0.5
    turned = cv2.warpAffine(patch, np.column_stack([linear, shift]), (size, size), borderValue=OUTSIDE)
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 - middle) @ linear.T + middle
    half = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ (linear**2).T)
    return turned.astype(np.uint8, copy=False), np.concatenate([centre - half, centre + half], 1).astype(np.float32)


def cover_faces(image: npt.NDArray[np.uint8], boxes: Box, share: float, rng: np.random.Generator) -> None:
    """Hide 20 to 50 % of some faces, from one side, behind a piece of the crop or one colour, in place.

    image: uint8 [H, W, 3]. boxes: float32 [N, 4] within it, x1 y1 x2 y2. share: of the faces, in [0, 1]; faces under
    16 px are left alone.
    """
    for x1, y1, x2, y2 in boxes[rng.random(len(boxes)) < share].astype(int).tolist():
        if min(x2 - x1, y2 - y1) < 16:
            continue
        part = rng.uniform(0.2, 0.5)
        across, down = round(part * (x2 - x1)), round(part * (y2 - y1))
        left, top, right, bottom = [
            (x1, y1, x1 + across, y2), (x2 - across, y1, x2, y2), (x1, y1, x2, y1 + down), (x1, y2 - down, x2, y2),
        ][rng.integers(4)]  # fmt: skip
        height, width = bottom - top, right - left
        y = rng.integers(image.shape[0] - height + 1)
        x = rng.integers(image.shape[1] - width + 1)
        piece = image[y : y + height, x : x + width].copy()
        image[top:bottom, left:right] = piece if rng.random() < 0.6 else rng.integers(0, 256, 3)


def _tile(views: list[Crop], half: int) -> Crop:
    image = np.empty((2 * half, 2 * half, 3), np.uint8)
    boxes, ignored = [], []
    for place, view in enumerate(views):
        x, y = (place % 2) * half, (place // 2) * half
        image[y : y + half, x : x + half] = view.image
        offset = np.array([x, y, x, y], np.float32)
        boxes.append(view.boxes_xyxy + offset)
        ignored.append(view.ignored_xyxy + offset)
    return Crop(image, np.concatenate(boxes), np.concatenate(ignored))


def _mirror(boxes: Box, size: int) -> Box:
    return np.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1)


def _change_light(image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Contrast, brightness and colour cast by one table per channel; sometimes grey, blurred or JPEG-coarse."""
    contrast, brightness = rng.uniform(0.6, 1.4), rng.uniform(-40, 40)
    strongest = 0.35 if rng.random() < 0.15 else 0.15
    cast = rng.uniform(1 - strongest, 1 + strongest, 3)
    gamma = np.exp(rng.uniform(-0.35, 0.35))
    ramp = 255 * (np.arange(256, dtype=np.float32) / 255) ** gamma
    table = ((ramp[:, None] - 128) * contrast * cast + 128 + brightness).clip(0, 255).astype(np.uint8)
    image = cv2.LUT(image, table.reshape(256, 1, 3)).astype(np.uint8, copy=False)
    chance = rng.random()
    if chance < 0.06:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
    elif chance < 0.12:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0)).astype(np.uint8, copy=False)
    elif chance < 0.17:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 70))])[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image
