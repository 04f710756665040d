"""Arithmetic on boxes, in numpy alone. Boxes are float [N, 4], x1 y1 x2 y2."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROWS_AT_ONCE = 256


def iou_matrix(a_xyxy: npt.NDArray[np.float32], b_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """IoU float32 [N, M] of boxes [N, 4] and [M, 4]."""
    (left_a, top_a, right_a, bottom_a), (left, top, right, bottom) = a_xyxy.T[..., None], b_xyxy.T
    width = np.minimum(right_a, right) - np.maximum(left_a, left)
    height = np.minimum(bottom_a, bottom) - np.maximum(top_a, top)
    inter = width.clip(0) * height.clip(0)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(1) for x in (a_xyxy, b_xyxy))
    result: npt.NDArray[np.float32] = inter / np.maximum(area_a[:, None] + area_b[None] - inter, 1e-9)
    return result


def suppress_overlaps(
    boxes_xyxy: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], max_iou: float
) -> npt.NDArray[np.intp]:
    """Greedy non-maximum suppression: positions, by falling score, of boxes that overlap no better one more."""
    overlaps = iou_matrix(boxes_xyxy, boxes_xyxy) > max_iou
    kept: list[int] = []
    alive = np.ones(len(scores), bool)
    for i in np.argsort(-scores, kind="stable"):
        if alive[i]:
            kept.append(int(i))
            alive &= ~overlaps[i]
    return np.array(kept, np.intp)


def voted_boxes(
    boxes_xyxy: npt.NDArray[np.float32],
    voters_xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    min_iou: float,
) -> npt.NDArray[np.float32]:
    """Box voting (Gidaris, Komodakis 2015): of each box the mean, by score, of the voters that overlap it enough.

    boxes_xyxy: float32 [N, 4], each itself among the voters, float32 [M, 4] with scores [M] above 0. Returns [N, 4].
    """
    weights = np.empty((len(boxes_xyxy), len(voters_xyxy)), np.float32)
    for first in range(0, len(boxes_xyxy), ROWS_AT_ONCE):  # the IoUs of a large crowd would take gigabytes
        rows = slice(first, first + ROWS_AT_ONCE)
        weights[rows] = np.where(iou_matrix(boxes_xyxy[rows], voters_xyxy) >= min_iou, scores[None], 0)
    # Not in parts: the last bits of a matrix product may depend on how many rows it has.
    result: npt.NDArray[np.float32] = weights @ voters_xyxy / weights.sum(1, keepdims=True)
    return result
