"""A head and shoulders painted around a cropped face, so that a face detector has something to find."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

LEFT, ABOVE, BELOW = 0.6, 0.45, 1.1
"""How far a person reaches beyond the face square to either side, above and below, in sides of the square."""

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Person:
    """bgr: float32 [H, W, 3], 0 to 255. alpha: float32 [H, W], 0 to 1. face_xy: the face square's corner in it."""

    bgr: Floats
    alpha: Floats
    face_xy: tuple[int, int]


def person_size_wh(side_px: int) -> tuple[int, int]:
    """Width and height of the picture of a person whose face square has this side."""
    return side_px + 2 * round(LEFT * side_px), side_px + round(ABOVE * side_px) + round(BELOW * side_px)


def paint_person(face: Pixels, side_px: int, rng: np.random.Generator) -> Person:
    """Extend a face crop, uint8 [48, 48] grey. Inside its square the face is unchanged but for its outermost rim."""
    left, above, below = (round(part * side_px) for part in (LEFT, ABOVE, BELOW))
    resized = cv2.resize(face, (side_px, side_px), interpolation=cv2.INTER_AREA if side_px < 48 else cv2.INTER_CUBIC)
    grey = cv2.copyMakeBorder(resized, above, below, left, left, cv2.BORDER_REPLICATE).astype(np.float32)
    x, y = _coordinates(grey.shape, side_px, (left, above))
    outside = 1 - _inside_square(x, y, side_px)
    smeared = cv2.GaussianBlur(grey, (0, 0), max(0.12 * side_px, 1))
    head, cap, shoulders = _head(x, y, side_px), _hair(x, y, side_px), _shoulders(x, y, side_px, rng)
    hair_grey, cloth_grey = _hair_grey(resized, rng), rng.uniform(25, 210)
    around = _mix(smeared, np.full_like(grey, hair_grey) + _strands(grey.shape, side_px, rng), cap)
    on_head = _mix(grey, around, outside)
    tint = rng.uniform(0.4, 1.0)
    cloth = _colour(np.full_like(grey, cloth_grey) + 0.4 * _strands(grey.shape, side_px, rng), rng.uniform(-1.5, 1.5))
    bgr = _mix(cloth, _colour(on_head, tint), np.maximum(head, 1 - outside))
    return Person(bgr, np.maximum.reduce([head, shoulders, 1 - outside]), (left, above))


def _coordinates(shape: tuple[int, ...], side_px: int, corner_xy: tuple[int, int]) -> tuple[Floats, Floats]:
    """Pixel centres in sides of the face square, whose middle is (0, 0); y grows downwards."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return (columns + 0.5 - corner_xy[0]) / side_px - 0.5, (rows + 0.5 - corner_xy[1]) / side_px - 0.5


def _soft(distance: Floats, side_px: int, width: float = 0.05) -> Floats:
    """1 where the distance (in sides, negative inside) is below 0, falling to 0 over `width` or a pixel."""
    soft: Floats = np.clip(0.5 - distance / max(width, 1.5 / side_px), 0, 1)
    return soft


def _inside_square(x: Floats, y: Floats, side_px: int) -> Floats:
    """The part that is the face itself: the square with round corners."""
    return _soft((np.abs(x) ** 5 + np.abs(y) ** 5) ** 0.2 - 0.485, side_px, 0.03)


def _head(x: Floats, y: Floats, side_px: int) -> Floats:
    skull = np.hypot(x / 0.53, (y + 0.08) / 0.68)
    neck = np.maximum(np.abs(x) - 0.27, np.abs(y - 0.55) - 0.25)
    return np.maximum(_soft((skull - 1) * 0.55, side_px), _soft(neck, side_px))


def _hair(x: Floats, y: Floats, side_px: int) -> Floats:
    """Above the forehead and down the sides to the ears."""
    face = np.hypot(x / 0.47, (y - 0.05) / 0.62)
    return _soft((1 - face) * 0.5, side_px, 0.15) * _soft(y - 0.1, side_px, 0.3)


def _shoulders(x: Floats, y: Floats, side_px: int, rng: np.random.Generator) -> Floats:
    """Down to the chest, which fades away: the rest of a body is not painted."""
    top = 0.62 + rng.uniform(0, 0.06) + 0.45 * np.maximum(np.abs(x) - 0.2, 0) ** 1.5
    return (
        _soft((top - y).astype(np.float32), side_px) * _soft(np.abs(x) - 1.02, side_px) * _soft(y - 1.25, side_px, 0.6)
    )


def _hair_grey(face: Pixels, rng: np.random.Generator) -> float:
    """Near what the crop shows in its upper corners, which often are hair, and rather dark."""
    rim = max(1, len(face) // 8)
    corners = np.concatenate([face[:rim, :rim].ravel(), face[:rim, -rim:].ravel()])
    return float(np.clip(0.6 * np.percentile(corners, 30) + rng.uniform(-10, 30), 12, 150))


def _strands(shape: tuple[int, ...], side_px: int, rng: np.random.Generator) -> Floats:
    """Texture that is longer than wide, about +-20 grey levels."""
    rows, columns = max(2, shape[0] * 8 // side_px), max(2, shape[1] * 30 // side_px)
    noise = rng.normal(0, 12, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def _mix(below: Floats, above: Floats, share: Floats) -> Floats:
    """`above` where share is 1, `below` where it is 0."""
    weight = share if below.ndim == 2 else share[..., None]
    mixed: Floats = below + (above - below) * weight
    return mixed


def _colour(grey: Floats, warmth: float) -> Floats:
    """Colour of this brightness, paler in the lights, so that OpenCV's grey of it is `grey` again."""
    blue, green = -0.22 * warmth, -0.05 * warmth
    strongest = np.array([blue, green, -(0.114 * blue + 0.587 * green) / 0.299], np.float32)
    room = 255 / np.maximum(grey, 1) - 1  # how much of itself a channel may be raised by
    strength = np.clip(room / strongest.max(), 0, 1)[..., None]
    coloured: Floats = (grey[..., None] * (1 + strength * strongest)).clip(0, 255)
    return coloured
