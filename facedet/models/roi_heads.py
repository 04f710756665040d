"""The second stage: ROIAlign from the pyramid, two fully connected layers, class scores and class-wise boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_area, clip_boxes_to_image, roi_align

from facedet.models.anchors import decode_boxes
from facedet.models.matching import Target, box_loss, match, sample, split_target

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
PROPOSALS_SAMPLED, POSITIVE_SHARE = 512, 0.25
MATCH_IOU = 0.5
POOL_SIZE = 7
CANONICAL_SIZE_PX, CANONICAL_LEVEL = 224, 4  # a box of 224 px is read from p4 (FPN paper, equation 1)


@dataclass(frozen=True)
class Detections:
    """What the model finds in one image: boxes float32 [N, 4], scores float32 [N], labels int64 [N], best first."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class BoxHead(nn.Module):
    """Region features [R, C, 7, 7] -> [R, hidden]."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels * POOL_SIZE**2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor) -> Tensor:
        return F.relu_(self.fc2(F.relu_(self.fc1(regions.flatten(1)))))


class BoxPredictor(nn.Module):
    """[R, hidden] -> class logits [R, classes + 1], background last, and box deltas [R, 4 classes]."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(hidden, classes + 1)
        self.bbox_pred = nn.Linear(hidden, 4 * classes)
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(hidden), self.bbox_pred(hidden)


class RoIHeads(nn.Module):
    """Pyramid and proposals -> detections, or losses in training."""

    def __init__(
        self, *, channels: int, hidden: int, classes: int, min_score: float, nms_iou: float, max_detections: int
    ) -> None:
        super().__init__()
        self.proposals_sampled = PROPOSALS_SAMPLED
        self.classes = classes
        self.box_head = BoxHead(channels, hidden)
        self.box_predictor = BoxPredictor(hidden, classes)
        self.min_score = min_score
        self.nms_iou = nms_iou
        self.max_detections = max_detections

    def detect(
        self, pyramid: Sequence[Tensor], proposals: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """Detections per image, for proposals float32 [P, 4] per image, in pixels of the padded batch."""
        logits, deltas = self.box_predictor(self.box_head(pool_regions(pyramid, proposals)))
        counts = [len(p) for p in proposals]
        boxes = torch.split(decode_boxes(deltas, torch.cat(list(proposals)), BOX_WEIGHTS), counts)
        probabilities = torch.split(F.softmax(logits.float(), dim=1), counts)
        return [
            self._select(b.reshape(len(b), self.classes, 4), p[:, :-1], size_hw)
            for b, p, size_hw in zip(boxes, probabilities, sizes_hw, strict=True)
        ]

    def _select(self, boxes: Tensor, scores: Tensor, size_hw: tuple[int, int]) -> Detections:
        finite = torch.isfinite(boxes).flatten(1).all(dim=1) & torch.isfinite(scores).all(dim=1)
        boxes = clip_boxes_to_image(boxes, size_hw)
        rows, labels = torch.nonzero((scores > self.min_score) & finite[:, None], as_tuple=True)
        boxes, scores = boxes[rows, labels], scores[rows, labels]
        best = batched_nms(boxes, scores, labels, self.nms_iou)[: self.max_detections]
        return Detections(boxes[best], scores[best], labels[best])

    def losses(
        self, pyramid: Sequence[Tensor], proposals: Sequence[Tensor], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """The losses `loss_cls` and `loss_box_reg` over a random sample of proposals and true faces."""
        samples = [self._sample(p, t) for p, t in zip(proposals, targets, strict=True)]
        boxes, truth, labels = (torch.cat(column) for column in zip(*samples, strict=True))
        logits, deltas = self.box_predictor(self.box_head(pool_regions(pyramid, [s[0] for s in samples])))
        logits, deltas = logits.float(), deltas.float()
        faces = torch.nonzero(labels < self.classes).squeeze(1)
        chosen = deltas.reshape(len(deltas), self.classes, 4)[faces, labels[faces]]
        regression = box_loss(chosen, boxes[faces], truth[faces], BOX_WEIGHTS)
        return {
            "loss_cls": F.cross_entropy(logits, labels) if len(labels) else logits.sum() * 0,
            "loss_box_reg": regression / max(len(labels), 1),
        }

    @torch.no_grad()
    def _sample(self, proposals: Tensor, target: Target) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled boxes [S, 4], their true boxes [S, 4] and labels [S] (`classes` for background)."""
        truth, labels, ignored = split_target(target)
        candidates = torch.cat((proposals, truth))
        matches = match(candidates, truth, ignored, low=MATCH_IOU, high=MATCH_IOU, keep_best_of_each_truth=False)
        positive, negative = sample(matches, count=self.proposals_sampled, positive_share=POSITIVE_SHARE)
        boxes = candidates[torch.cat((positive, negative))]
        background = labels.new_full((len(negative),), self.classes)
        matched = matches[positive]
        return boxes, torch.cat((truth[matched], candidates[negative])), torch.cat((labels[matched], background))


def pool_regions(pyramid: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
    """ROIAlign (aligned, adaptive sampling) of each box from the level that fits its size: [R, C, 7, 7].

    pyramid: p2 to p5, each [N, C, H / stride, W / stride] (further levels are not read). boxes: float32 [R_i, 4] per
    image. The result is float32, as are the boxes on their way: bfloat16 would round them to 2 px beyond pixel 256.
    """
    flat = torch.cat(list(boxes))
    image = torch.cat([b.new_full((len(b), 1), float(index)) for index, b in enumerate(boxes)])
    rois = torch.cat((image, flat), dim=1)
    size = torch.sqrt(box_area(flat))
    level = torch.floor(CANONICAL_LEVEL + torch.log2(size / CANONICAL_SIZE_PX + 1e-8)).clamp(2, 5).to(torch.int64)
    pooled = flat.new_zeros((len(flat), pyramid[0].shape[1], POOL_SIZE, POOL_SIZE))
    for index, feature in enumerate(pyramid[:4]):
        rows = torch.nonzero(level == index + 2).squeeze(1)
        regions = roi_align(feature.float(), rois[rows], POOL_SIZE, spatial_scale=1 / (4 << index), aligned=True)
        pooled = pooled.index_put((rows,), regions)
    return pooled
