"""Targets and losses of the compact detector: SimOTA assignment, quality focal loss, generalised IoU loss.

The focal loss's exponent is 1: with 2, what is easily taken for a face costs too little (on wider_face/dev 0.001 of AP
easy, 0.003 medium and 0.007 hard, of pyramid and heads trained for two epochs).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F
from torchvision.ops import box_iou, generalized_box_iou_loss

from facedet.models.compact import STRIDES, grid_points

KNOWN = 0.25
"""From this score on what the earlier network sees is remembered with its box."""
SAME_FACE_IOU = 0.2
"""A box that overlaps a label by less is another face; low, as loose boxes overlap the tight ones little."""


@dataclass(frozen=True)
class Targets:
    """Truth of one training crop: boxes float32 [N, 4] in pixels, ignored regions float32 [M, 4]."""

    boxes_xyxy: torch.Tensor
    ignored_xyxy: torch.Tensor


def compact_losses(
    predictions: torch.Tensor, targets: list[Targets], size: int, *, earlier: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Losses of a batch of square crops.

    predictions: float32 [N, P, 5] as `Compact` gives them for crops of `size` pixels. earlier: the same of the network
    that this one goes on from; where no face is labelled its scores are the target instead of 0, and its boxes where
    they are KNOWN (Li, Hoiem 2016, Learning without forgetting).
    Returns {"score", "box"}, each summed over the batch and divided by the number of positive points; a remembered
    box counts with its score.
    """
    points, strides = points_of(size)
    score_loss = predictions.new_zeros(())
    box_loss = predictions.new_zeros(())
    positives = 0.0
    for n, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        logits, boxes = prediction[:, 0], prediction[:, 1:]
        matched, truth = assign(logits.detach(), boxes.detach(), target.boxes_xyxy, points, strides)
        quality = torch.zeros_like(logits)
        if len(matched):
            overlap = box_iou(boxes[matched].detach(), target.boxes_xyxy).gather(1, truth[:, None]).squeeze(1)
            quality[matched] = overlap.clamp(min=0)
            box_loss = box_loss + generalized_box_iou_loss(
                boxes[matched], target.boxes_xyxy[truth], reduction="sum", eps=1e-6
            )
        spared = _unpunished(quality, points, strides, target.ignored_xyxy)
        if earlier is not None:
            score, seen = earlier[n, :, 0].sigmoid(), earlier[n, :, 1:]
            free = (quality == 0) & ~spared & _unlabelled(points, seen, target.boxes_xyxy)
            quality = torch.where(free, score, quality)
            known = free & (score >= KNOWN)
            overlap_loss = generalized_box_iou_loss(boxes[known], seen[known], eps=1e-6)
            box_loss = box_loss + (score[known] * overlap_loss).sum()
            positives += score[known].sum().item()
        weight = (quality - logits.detach().sigmoid()).abs()
        weight[spared] = 0
        score_loss = score_loss + (weight * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")).sum()
        positives += len(matched)
    return {"score": 2 * score_loss / max(positives, 1.0), "box": 4 * box_loss / max(positives, 1.0)}


def points_of(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres [P, 2] and strides [P] of all grid points of a square image."""
    points = [grid_points(size // s, size // s, s) for s in STRIDES]
    strides = [torch.full((len(p),), float(s)) for p, s in zip(points, STRIDES, strict=True)]
    return torch.cat(points), torch.cat(strides)


@torch.no_grad()
def assign(
    logits: torch.Tensor, boxes: torch.Tensor, truth: torch.Tensor, points: torch.Tensor, strides: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """SimOTA (Ge et al. 2021, YOLOX): each face takes the k cheapest points near its centre, k from its IoUs.

    Returns indices of the matched points [K] and of their faces [K].
    """
    nothing = torch.zeros(0, dtype=torch.long)
    if len(truth) == 0:
        return nothing, nothing
    centre = (truth[:, :2] + truth[:, 2:]) / 2
    near = ((points[None] - centre[:, None]).abs() < 2.0 * strides[None, :, None]).all(-1)
    inside = ((points[None] > truth[:, None, :2]) & (points[None] < truth[:, None, 2:])).all(-1)
    candidates = (near | inside).any(0).nonzero().squeeze(1)
    if len(candidates) == 0:
        return nothing, nothing
    near, inside = near[:, candidates], inside[:, candidates]
    iou = box_iou(truth, boxes[candidates])
    cost = F.softplus(-logits[candidates])[None] - 3 * torch.log(iou + 1e-7) + 1e4 * ~near + 1e2 * ~inside
    cost = cost + 1e5 * ~(near | inside)
    k = iou.topk(min(10, iou.shape[1]), dim=1).values.sum(1).int().clamp(min=1)
    rank = cost.argsort(1).argsort(1)
    chosen = (rank < k[:, None]) & (near | inside)
    cost = torch.where(chosen, cost, torch.inf)
    best, face = cost.min(0)
    taken = best.isfinite()
    return candidates[taken], face[taken]


def _unlabelled(points: torch.Tensor, seen_xyxy: torch.Tensor, truth_xyxy: torch.Tensor) -> torch.Tensor:
    """bool [P]: points outside of every labelled box, whose own box is no labelled face's either."""
    inside = ((points[None] >= truth_xyxy[:, None, :2]) & (points[None] <= truth_xyxy[:, None, 2:])).all(-1)
    same = box_iou(truth_xyxy, seen_xyxy) >= SAME_FACE_IOU
    labelled: torch.Tensor = (inside | same).any(0)
    return ~labelled


def _unpunished(
    quality: torch.Tensor, points: torch.Tensor, strides: torch.Tensor, regions: torch.Tensor
) -> torch.Tensor:
    """bool [P]: unmatched points in ignored regions, and within a stride of the middle of those that may hold none."""
    middle, half = (regions[:, :2] + regions[:, 2:]) / 2, (regions[:, 2:] - regions[:, :2]) / 2
    reach = torch.maximum(half[:, None], strides[None, :, None])
    return ((points[None] - middle[:, None]).abs() <= reach).all(-1).any(0) & (quality == 0)
