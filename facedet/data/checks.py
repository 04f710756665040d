"""Repair or drop boxes that cannot be, and count what was done."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from facedet.boxes import iou_matrix
from facedet.data.raw import RawPhoto

MIN_SIDE_PX = 1.0
CLIP_TOLERANCE_PX = 1.0
SAME_BOX_IOU = 0.95
MAX_ASPECT_DIFFERENCE = 0.01


def pixel_scale(raw: RawPhoto, actual_wh: tuple[int, int]) -> tuple[float, float] | None:
    """Factors from the annotation's pixels to the photo's; None when the photo has another shape than declared.

    A photo of another size but the same shape (1 %) is a resized copy. For relative boxes the factors are 1.
    """
    if raw.declared_wh is None or raw.declared_wh == actual_wh:
        return 1.0, 1.0
    (declared_w, declared_h), (width, height) = raw.declared_wh, actual_wh
    if min(declared_w, declared_h) < 1 or abs(declared_w * height / (declared_h * width) - 1) > MAX_ASPECT_DIFFERENCE:
        return None
    return (1.0, 1.0) if raw.relative else (width / declared_w, height / declared_h)


def repair_boxes(
    raw: RawPhoto, actual_wh: tuple[int, int], scale_xy: tuple[float, float], counts: Counter[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Boxes float32 [N, 4] inside the photo, and their ignore flags; `counts` gains what was repaired and dropped."""
    width, height = actual_wh
    factors = (width, height) if raw.relative else scale_xy
    corners = raw.corners * np.array([*factors, *factors])
    finite = np.isfinite(corners).all(1)
    counts["box_dropped_not_finite"] += int((~finite).sum())
    corners, ignore = corners[finite], raw.ignore[finite]
    swapped = (corners[:, 0] > corners[:, 2]) | (corners[:, 1] > corners[:, 3])
    counts["box_repaired_corners_swapped"] += int(swapped.sum())
    boxes = np.hstack([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])])
    outside = (boxes[:, :2] >= (width, height)).any(1) | (boxes[:, 2:] <= 0).any(1)
    inside = boxes.copy()
    inside[:, 0::2] = inside[:, 0::2].clip(0, width)
    inside[:, 1::2] = inside[:, 1::2].clip(0, height)
    thin = ((inside[:, 2:] - inside[:, :2]) < MIN_SIDE_PX).any(1) & ~outside
    clipped = (np.abs(inside - boxes) > CLIP_TOLERANCE_PX).any(1) & ~outside & ~thin
    counts["box_dropped_outside"] += int(outside.sum())
    counts["box_dropped_degenerate"] += int(thin.sum())
    counts["box_repaired_clipped"] += int(clipped.sum())
    kept = inside[~outside & ~thin].astype(np.float32)
    first = first_of_equals(kept)
    counts["box_dropped_duplicate"] += int((~first).sum())
    return kept[first], ignore[~outside & ~thin][first]


def first_of_equals(boxes_xyxy: npt.NDArray[np.float32], *, iou: float = SAME_BOX_IOU) -> npt.NDArray[np.bool_]:
    """bool [N], false for each box that nearly equals (IoU above `iou`) an earlier one."""
    overlap = np.triu(iou_matrix(boxes_xyxy, boxes_xyxy), 1) > iou
    return np.logical_not(overlap.any(axis=0))
