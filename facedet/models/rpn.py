"""Region proposal network (Ren et al. 2015, arXiv 1506.01497) over a pyramid, as in Detectron2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, clip_boxes_to_image

from facedet.models.anchors import Anchors, decode_boxes
from facedet.models.matching import Target, box_loss, match, sample, split_target

UNIT_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
ANCHORS_SAMPLED, POSITIVE_SHARE = 256, 0.5
LOW_IOU, HIGH_IOU = 0.3, 0.7
NMS_IOU = 0.7


@dataclass(frozen=True)
class ProposalCounts:
    """How many proposals live on: the best of each level before suppression, the best of the image after it."""

    per_level: int
    per_image: int


class RPNHead(nn.Module):
    """Shared 3x3 convolution, then 1x1 ones for objectness logits [N, A, H, W] and box deltas [N, 4 A, H, W]."""

    def __init__(self, channels: int, anchors_per_cell: int) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, anchors_per_cell, 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * anchors_per_cell, 1)
        for name, parameter in self.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=0.01)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level: objectness logits [N, H * W * A] and deltas [N, H * W * A, 4]."""
        logits, deltas = [], []
        for feature in features:
            hidden = F.relu_(self.conv(feature))
            logits.append(self.objectness_logits(hidden).permute(0, 2, 3, 1).flatten(1))
            raw = self.anchor_deltas(hidden)
            deltas.append(raw.permute(0, 2, 3, 1).reshape(len(raw), -1, 4))
        return logits, deltas


class RPN(nn.Module):
    """Pyramid features -> proposals; in training also the two losses."""

    def __init__(
        self, *, channels: int, anchors: Anchors, train_counts: ProposalCounts, test_counts: ProposalCounts
    ) -> None:
        super().__init__()
        self.anchors = anchors
        self.rpn_head = RPNHead(channels, anchors.per_cell)
        self.train_counts = train_counts
        self.test_counts = test_counts

    def forward(
        self, features: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]], targets: Sequence[Target] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals float32 [P, 4] per image, best first, and the losses (empty without `targets`)."""
        anchors = self.anchors(features)
        logits, deltas = self.rpn_head(features)
        losses = {} if targets is None else self._losses(torch.cat(anchors), logits, deltas, targets)
        proposals = self._propose(anchors, [x.detach() for x in logits], [x.detach() for x in deltas], sizes_hw)
        return proposals, losses

    def _losses(
        self, anchors: Tensor, logits: Sequence[Tensor], deltas: Sequence[Tensor], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        all_logits, all_deltas = torch.cat(list(logits), dim=1).float(), torch.cat(list(deltas), dim=1).float()
        objectness, boxes = all_logits.new_zeros(()), all_logits.new_zeros(())
        for image, target in enumerate(targets):
            truth, _, ignored = split_target(target)
            matches = match(anchors, truth, ignored, low=LOW_IOU, high=HIGH_IOU, keep_best_of_each_truth=True)
            positive, negative = sample(matches, count=ANCHORS_SAMPLED, positive_share=POSITIVE_SHARE)
            chosen = torch.cat((positive, negative))
            wanted = torch.zeros(len(chosen), device=chosen.device)
            wanted[: len(positive)] = 1
            objectness = objectness + F.binary_cross_entropy_with_logits(
                all_logits[image, chosen], wanted, reduction="sum"
            )
            boxes = boxes + box_loss(
                all_deltas[image, positive], anchors[positive], truth[matches[positive]], UNIT_WEIGHTS
            )
        scale = ANCHORS_SAMPLED * len(targets)
        return {"loss_rpn_cls": objectness / scale, "loss_rpn_loc": boxes / scale}

    @torch.no_grad()
    def _propose(
        self,
        anchors: Sequence[Tensor],
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        sizes_hw: Sequence[tuple[int, int]],
    ) -> list[Tensor]:
        counts = self.train_counts if self.training else self.test_counts
        proposals = []
        for image, size_hw in enumerate(sizes_hw):
            boxes, scores, levels = [], [], []
            for level, (anchor, logit, delta) in enumerate(zip(anchors, logits, deltas, strict=True)):
                score, best = logit[image].float().topk(min(counts.per_level, logit.shape[1]))
                boxes.append(decode_boxes(delta[image, best], anchor[best], UNIT_WEIGHTS))
                scores.append(score)
                levels.append(torch.full_like(best, level))
            proposals.append(
                _best_boxes(torch.cat(boxes), torch.cat(scores), torch.cat(levels), size_hw, counts.per_image)
            )
        return proposals


def _best_boxes(boxes: Tensor, scores: Tensor, levels: Tensor, size_hw: tuple[int, int], count: int) -> Tensor:
    """The `count` best boxes inside the image after suppression within each level."""
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores)
    boxes = clip_boxes_to_image(boxes, size_hw)
    keep = finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, levels = boxes[keep], scores[keep], levels[keep]
    best = batched_nms(boxes, scores, levels, NMS_IOU)[:count]
    return boxes[best]
