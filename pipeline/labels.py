"""Where a label goes: beside its face, inside the photo, off other faces and other labels as far as there is room."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Rect = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels; x2 and y2 are the first column and row that no longer belong to it."""

FACE_COST, LABEL_COST, OWN_FACE_COST = 1.0, 1.5, 0.7
"""Cost of covering one pixel of another face, of another label, of the label's own face."""

STEP_COST = 0.02
"""Cost of each step down the list of places, as a part of the label's area: a near place wins over a far equal."""

FAR_ROWS = 4
"""How many label heights away a label may go (it is then tied to its box by a line)."""


class LabelMap:
    """The places that are taken in one photo: all faces, and the labels placed so far."""

    def __init__(self, faces: npt.NDArray[np.float64], size_wh: tuple[int, int]) -> None:
        """faces: boxes, float [N, 4] xyxy pixels. size_wh: of the photo."""
        self._faces = faces
        self._labels = np.empty((len(faces), 4))
        self._count = 0
        self._size_wh = size_wh

    def find(self, face: int, label_wh: tuple[int, int]) -> tuple[Rect, float] | None:
        """The cheapest place for a label of face number `face`, and its cost in pixels covered.

        None when the label is larger than the photo. The place lies inside the photo.
        """
        (width, height), (label_w, label_h) = self._size_wh, label_wh
        if label_w > width or label_h > height:
            return None
        x1, y1, x2, y2 = self._faces[face].tolist()
        corners = np.array(list(_corners(x1, y1, x2, y2, label_wh)))
        corners = np.rint(corners.clip(0, [width - label_w, height - label_h]))
        rects = np.concatenate([corners, corners + np.array(label_wh)], axis=1)
        cost = STEP_COST * label_w * label_h * np.arange(len(rects))
        cost += FACE_COST * _overlap(rects, self._faces).sum(1)
        cost += LABEL_COST * _overlap(rects, self._labels[: self._count]).sum(1)
        cost += (OWN_FACE_COST - FACE_COST) * _overlap(rects, self._faces[face : face + 1]).sum(1)
        best = int(cost.argmin())
        left, top, right, bottom = (int(value) for value in rects[best])
        return (left, top, right, bottom), float(cost[best])

    def take(self, place: Rect) -> None:
        """Mark a place as taken by a label; once per face at most."""
        self._labels[self._count] = place
        self._count += 1


def _corners(x1: float, y1: float, x2: float, y2: float, label_wh: tuple[int, int]) -> Iterator[tuple[float, float]]:
    """Top left corners to try, best first: above, below, beside, inside, then further above and below."""
    label_w, label_h = label_wh
    across = (x1, (x1 + x2 - label_w) / 2, x2 - label_w)
    for x in across:
        yield x, y1 - label_h
    for x in across:
        yield x, y2
    for y in (y1, y2 - label_h):
        yield x2, y
        yield x1 - label_w, y
    yield x1, y1
    yield x1, y2 - label_h
    for row in range(1, FAR_ROWS):
        for y in (y1 - label_h * (1 + row), y2 + label_h * row):
            for x in (*across, x1 - label_w, x2):
                yield x, y


def _overlap(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Common area of rectangles, float [len(a), M] in pixels, with those M of `b` that can touch any of `a` at all."""
    near = (b[:, :2] < a[:, 2:].max(0)).all(1) & (b[:, 2:] > a[:, :2].min(0)).all(1)
    b = b[near]
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = (bottom_right - top_left).clip(0)
    area: npt.NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return area
