"""Arithmetic on boxes, in numpy alone. Boxes are float [N, 4], x1 y1 x2 y2."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def iou_matrix(a_xyxy: npt.NDArray[np.float32], b_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """IoU float32 [N, M] of boxes [N, 4] and [M, 4]."""
    top_left = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    bottom_right = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    inter = (bottom_right - top_left).clip(0).prod(2)
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
