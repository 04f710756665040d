"""Which anchors and proposals learn from which true face, and the loss between them, equal to Detectron2's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_area, box_iou

from facedet.models.anchors import encode_boxes

BACKGROUND, IGNORE = -1, -2

Target = Mapping[str, Tensor]
"""The true faces of one image: "boxes" float32 [N, 4], x1 y1 x2 y2 in pixels of the image as it enters the model, and
optionally "labels" int64 [N] in [0, classes) (zeros when absent) and "ignore" bool [N] (faces that teach nothing)."""


def split_target(target: Target) -> tuple[Tensor, Tensor, Tensor]:
    """boxes [N, 4] and labels [N] of the faces that count, and the boxes [M, 4] to ignore."""
    boxes = target["boxes"].float()
    labels = target.get("labels", torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device))
    ignore = target.get("ignore", torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device))
    return boxes[~ignore], labels[~ignore], boxes[ignore]


def match(
    boxes: Tensor, truth: Tensor, ignored: Tensor, *, low: float, high: float, keep_best_of_each_truth: bool
) -> Tensor:
    """For each of `boxes` [N, 4] the index of its true box in `truth` [M, 4], or BACKGROUND, or IGNORE: int64 [N].

    IoU >= high is a match, below low background, between them ignored. `keep_best_of_each_truth` also matches the
    boxes that overlap some truth most, however little. Background that lies half or more in an `ignored` box is IGNORE.
    """
    if len(truth) == 0:
        matches = torch.full((len(boxes),), BACKGROUND, dtype=torch.int64, device=boxes.device)
    else:
        overlaps = box_iou(truth, boxes)
        best, candidates = overlaps.max(dim=0)
        matches = candidates.clone()
        matches[best < high] = IGNORE
        matches[best < low] = BACKGROUND
        if keep_best_of_each_truth:
            rescued = (overlaps == overlaps.max(dim=1, keepdim=True).values).any(dim=0)
            matches[rescued] = candidates[rescued]
    if len(ignored):
        inside = _share_inside(boxes, ignored) >= 0.5
        matches[inside & (matches == BACKGROUND)] = IGNORE
    return matches


def _share_inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """The largest share of each box's own area that lies in one of `regions` [M, 4]: float [N] in [0, 1]."""
    top_left = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    bottom_right = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(dim=2)
    share: Tensor = overlap / box_area(boxes).clamp(min=1e-6)[:, None]
    return share.amax(dim=1)


def sample(matches: Tensor, *, count: int, positive_share: float) -> tuple[Tensor, Tensor]:
    """At most `count` random indices into `matches`: (positives, backgrounds), positives at most their share.

    Draws from torch's generator in Detectron2's order, so that one seed gives both the same sample.
    """
    positive = torch.nonzero(matches >= 0).squeeze(1)
    negative = torch.nonzero(matches == BACKGROUND).squeeze(1)
    positives = min(len(positive), int(count * positive_share))
    negatives = min(len(negative), count - positives)
    chosen_positive = positive[torch.randperm(len(positive), device=positive.device)[:positives]]
    chosen_negative = negative[torch.randperm(len(negative), device=negative.device)[:negatives]]
    return chosen_positive, chosen_negative


def box_loss(deltas: Tensor, boxes: Tensor, truth: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Summed L1 between predicted `deltas` [N, 4] and those that turn `boxes` [N, 4] into `truth` [N, 4]."""
    return F.l1_loss(deltas, encode_boxes(truth, boxes, weights), reduction="sum")
