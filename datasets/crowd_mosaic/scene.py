"""A generated place, and people put into it so that nobody covers another one's face."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from person import ABOVE, LEFT, Pixels, paint_person, person_size_wh

TRIES = 60
"""Places tried for a face before it is left for the next photo."""
MARGIN = 0.08
"""Kept free around a face square, in its sides."""

Rect = tuple[int, int, int, int]


@dataclass(frozen=True)
class Placed:
    """A face in a photo. face: its row in the split. square_xyxy: whole pixels."""

    face: int
    square_xyxy: Rect


def place_faces(
    waiting: deque[tuple[int, int]], size_wh: tuple[int, int], count: int, rng: np.random.Generator
) -> list[Placed]:
    """Take up to `count` faces, (row, side in pixels), from the queue and give each a place; the rest goes back.

    Larger faces are placed first. A face's square lies inside the photo and is covered by nobody; shoulders may be cut.
    """
    taken = sorted((waiting.popleft() for _ in range(min(count, len(waiting)))), key=lambda item: -item[1])
    placed: list[Placed] = []
    for face, side in taken:
        square = _free_square(side, [p.square_xyxy for p in placed], size_wh, rng)
        if square is None:
            waiting.append((face, side))
        else:
            placed.append(Placed(face, square))
    return placed


def paint_scene(
    faces: Pixels, placed: list[Placed], size_wh: tuple[int, int], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """The photo, uint8 BGR [H, W, 3]; people further down stand in front. faces: uint8 [N, 48, 48]."""
    canvas = paint_background(size_wh, rng)
    for person in sorted(placed, key=lambda p: p.square_xyxy[3]):
        left, top, right, _ = person.square_xyxy
        painted = paint_person(faces[person.face], right - left, rng)
        _paste(canvas, painted.bgr, painted.alpha, (left - painted.face_xy[0], top - painted.face_xy[1]))
    canvas += rng.normal(0, 1.5, canvas.shape).astype(np.float32)
    return np.asarray(canvas.round().clip(0, 255), np.uint8)


def paint_background(size_wh: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Soft clouds of colour with blurred blocks and lights: float32 BGR [H, W, 3], 0 to 255."""
    width, height = size_wh
    canvas = np.full((height, width, 3), rng.uniform(60, 170), np.float32)
    for cells, strength in ((3, 45), (8, 20), (40, 8), (160, 4)):
        grey = rng.normal(0, strength, (cells, cells, 1)) + rng.normal(0, strength / 3, (cells, cells, 3))
        canvas += cv2.resize(grey.astype(np.float32), size_wh, interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(6, 18)):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = (rng.uniform(30, 220) + rng.normal(0, 22, 3)).tolist()
        if rng.random() < 0.6:
            far = (x + int(rng.integers(width // 30, width // 4)), y + int(rng.integers(height // 20, height // 2)))
            cv2.rectangle(canvas, (x, y), far, colour, -1)
        else:
            cv2.circle(canvas, (x, y), int(rng.integers(height // 80 + 1, height // 12)), colour, -1)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(2, 7)), np.float32)


def _free_square(side: int, others: list[Rect], size_wh: tuple[int, int], rng: np.random.Generator) -> Rect | None:
    width, height = size_wh
    if side > min(width, height):
        return None
    for _ in range(TRIES):
        left, top = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        square = (left, top, left + side, top + side)
        if not any(_hides(square, other) or _hides(other, square) for other in others):
            return square
    return None


def _hides(square: Rect, other: Rect) -> bool:
    """Whether the person around `square` reaches into the other face, or would if she stood in front."""
    side, other_side = square[2] - square[0], other[2] - other[0]
    width, height = person_size_wh(side)
    left, top = square[0] - round(LEFT * side), square[1] - round(ABOVE * side)
    free = round(MARGIN * other_side)
    beside = left + width <= other[0] - free or left >= other[2] + free
    return not (beside or top + height <= other[1] - free or top >= other[3] + free)


def _paste(
    canvas: npt.NDArray[np.float32], bgr: npt.NDArray[np.float32], alpha: npt.NDArray[np.float32], xy: tuple[int, int]
) -> None:
    height, width = canvas.shape[:2]
    x1, y1 = max(xy[0], 0), max(xy[1], 0)
    x2, y2 = min(xy[0] + bgr.shape[1], width), min(xy[1] + bgr.shape[0], height)
    rows, columns = slice(y1 - xy[1], y2 - xy[1]), slice(x1 - xy[0], x2 - xy[0])
    share = alpha[rows, columns, None]
    canvas[y1:y2, x1:x2] = canvas[y1:y2, x1:x2] * (1 - share) + bgr[rows, columns] * share
