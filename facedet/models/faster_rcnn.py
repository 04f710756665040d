"""Faster R-CNN with a feature pyramid: the model of the mission, numerically Detectron2's, on torchvision's operators.

Parameter names are Detectron2's, so a checkpoint of either loads into the other (facedet/checkpoint.py), and
tests/facedet/test_golden.py holds the outputs together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedet.errors import ConfigError
from facedet.models.anchors import Anchors
from facedet.models.compact import DEPTHS, PIXEL_MEAN, PIXEL_STD, CompactStages
from facedet.models.fpn import FPN, STRIDES
from facedet.models.matching import Target
from facedet.models.resnet import NORMS, NormName, resnet18, resnet50, resnext101_32x8d
from facedet.models.roi_heads import Detections, RoIHeads
from facedet.models.rpn import RPN, ProposalCounts

PIXEL_MEAN_BGR = (103.530, 116.280, 123.675)
FAIR_PIXEL_STD_BGR = (57.375, 57.120, 58.395)
MSRA_PIXEL_STD_BGR = (1.0, 1.0, 1.0)
SIZE_DIVISOR = 32


@dataclass(frozen=True)
class Preset:
    """What depends on the task. Anchor sizes are of p2 to p6; ratios are height / width; counts are per image."""

    classes: int
    anchor_sizes_px: tuple[float, float, float, float, float]
    anchor_ratios: tuple[float, ...]
    train_proposals: ProposalCounts
    test_proposals: ProposalCounts
    max_detections: int


COCO = Preset(
    classes=80,
    anchor_sizes_px=(32, 64, 128, 256, 512),
    anchor_ratios=(0.5, 1.0, 2.0),
    train_proposals=ProposalCounts(per_level=2000, per_image=1000),
    test_proposals=ProposalCounts(per_level=1000, per_image=1000),
    max_detections=100,
)
# Three face-like ratios and not two, so that a COCO model's proposal head fits. A crowd needs more of everything.
FACE = Preset(
    classes=1,
    anchor_sizes_px=(16, 32, 64, 128, 256),
    anchor_ratios=(1.0, 1.3, 1.7),
    train_proposals=ProposalCounts(per_level=2000, per_image=1000),
    test_proposals=ProposalCounts(per_level=2000, per_image=2000),
    max_detections=1000,
)
PRESETS = {"face": FACE, "face8": replace(FACE, anchor_sizes_px=(8, 16, 32, 64, 128)), "coco": COCO}


class FasterRCNN(nn.Module):
    """Images -> faces, or losses.

    forward(images, targets): images is a sequence of uint8 or float [3, H, W] tensors, BGR, 0 to 255, of any sizes.
    In training mode it needs `targets` (see matching.Target) and returns four scalar losses by name; in evaluation
    mode it returns one Detections per image, in that image's pixels.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, *, backbone: FPN, proposal_generator: RPN, roi_heads: RoIHeads, pixel_std: tuple[float, float, float]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN_BGR).reshape(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).reshape(3, 1, 1), persistent=False)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        if self.training:
            if targets is None or len(targets) != len(images):
                raise ValueError("training needs one target per image")
            return self._losses(images, targets)
        return self.detect(images)

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Detections of each image, best first, in its pixels."""
        sizes_hw = [(image.shape[-2], image.shape[-1]) for image in images]
        pyramid = self.backbone(self.normalised_batch(images))
        proposals, _ = self.proposal_generator(pyramid, sizes_hw, None)
        return self.roi_heads.detect(pyramid, proposals, sizes_hw)

    def _losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        sizes_hw = [(image.shape[-2], image.shape[-1]) for image in images]
        pyramid = self.backbone(self.normalised_batch(images))
        proposals, losses = self.proposal_generator(pyramid, sizes_hw, targets)
        return {**losses, **self.roi_heads.losses(pyramid, proposals, targets)}

    def normalised_batch(self, images: Sequence[Tensor]) -> Tensor:
        """Normalise and pad bottom and right with zeros to one size, a multiple of 32: float32 [N, 3, H, W]."""
        height = max(-(-image.shape[-2] // SIZE_DIVISOR) for image in images) * SIZE_DIVISOR
        width = max(-(-image.shape[-1] // SIZE_DIVISOR) for image in images) * SIZE_DIVISOR
        padded = []
        for image in images:
            values = (image.to(self.pixel_mean.device, torch.float32) - self.pixel_mean) / self.pixel_std
            padded.append(F.pad(values, (0, width - image.shape[-1], 0, height - image.shape[-2])))
        return torch.stack(padded)


def faster_rcnn_x101_fpn(
    *,
    preset: str = "face",
    freeze_at: int = 2,
    min_score: float = 0.05,
    nms_iou: float = 0.5,
    norm: NormName = "frozen_bn",
) -> FasterRCNN:
    """ResNeXt-101 32x8d, Detectron2's `faster_rcnn_X_101_32x8d_FPN_3x`: 104 M parameters, the most accurate.

    norm: "frozen_bn" is the zoo's; from scratch "bn" or "gn", which the pyramid then has too.
    """
    _check_norm(norm)
    backbone = FPN(resnext101_32x8d(norm=norm), channels=256, norm=None if norm == "frozen_bn" else norm)
    backbone.bottom_up.freeze(_checked_freeze_at(freeze_at))
    return _assemble(
        backbone, hidden=1024, pixel_std=FAIR_PIXEL_STD_BGR, preset=preset, min_score=min_score, nms_iou=nms_iou
    )


def faster_rcnn_r50_fpn(
    *,
    preset: str = "face",
    freeze_at: int = 2,
    min_score: float = 0.05,
    nms_iou: float = 0.5,
    norm: NormName = "frozen_bn",
) -> FasterRCNN:
    """ResNet-50, Detectron2's `faster_rcnn_R_50_FPN_3x`: 41 M parameters.

    norm: "frozen_bn" is the zoo's; from scratch "bn" or "gn", which the pyramid then has too.
    """
    _check_norm(norm)
    backbone = FPN(resnet50(norm=norm), channels=256, norm=None if norm == "frozen_bn" else norm)
    backbone.bottom_up.freeze(_checked_freeze_at(freeze_at))
    return _assemble(
        backbone, hidden=1024, pixel_std=MSRA_PIXEL_STD_BGR, preset=preset, min_score=min_score, nms_iou=nms_iou
    )


def faster_rcnn_r18_fpn(
    *,
    preset: str = "face",
    freeze_at: int = 0,
    min_score: float = 0.05,
    nms_iou: float = 0.5,
    norm: NormName = "bn",
) -> FasterRCNN:
    """ResNet-18 with a narrow pyramid and head, 13.7 M parameters, for laptops and for training from scratch.

    norm: "bn" wants batches of four photos or more; "gn" does not care and is slower; "frozen_bn" is for tuning.
    """
    _check_norm(norm)
    backbone = FPN(resnet18(norm=norm), channels=128, norm=norm)
    backbone.bottom_up.freeze(_checked_freeze_at(freeze_at))
    return _assemble(
        backbone, hidden=256, pixel_std=FAIR_PIXEL_STD_BGR, preset=preset, min_score=min_score, nms_iou=nms_iou
    )


def faster_rcnn_compact_fpn(
    *,
    preset: str = "face",
    depths: tuple[int, int, int] = DEPTHS,
    freeze_at: int = 0,
    min_score: float = 0.05,
    nms_iou: float = 0.5,
) -> FasterRCNN:
    """On the stages of `compact`, 2.1 M parameters, for training on a processor within hours. Not Detectron2's.

    The backbone starts from a trained `compact`, and a step looks at fewer proposals: a crop holds few faces.
    """
    backbone = FPN(CompactStages(depths), channels=64, norm="bn")
    backbone.bottom_up.freeze(_checked_freeze_at(freeze_at))
    model = _assemble(
        backbone, hidden=256, pixel_std=(PIXEL_STD,) * 3, preset=preset, min_score=min_score, nms_iou=nms_iou
    )
    model.pixel_mean.fill_(PIXEL_MEAN)
    model.proposal_generator.train_counts = ProposalCounts(per_level=500, per_image=500)
    model.roi_heads.proposals_sampled = 128
    return model


FASTER_RCNNS: dict[str, Callable[..., FasterRCNN]] = {
    "faster_rcnn_x101_fpn": faster_rcnn_x101_fpn,
    "faster_rcnn_r50_fpn": faster_rcnn_r50_fpn,
    "faster_rcnn_r18_fpn": faster_rcnn_r18_fpn,
    "faster_rcnn_compact_fpn": faster_rcnn_compact_fpn,
}


def _assemble(
    backbone: FPN,
    *,
    hidden: int,
    pixel_std: tuple[float, float, float],
    preset: str,
    min_score: float,
    nms_iou: float,
) -> FasterRCNN:
    task = _checked_preset(preset, min_score, nms_iou)
    anchors = Anchors(sizes_px=task.anchor_sizes_px, ratios=task.anchor_ratios, strides=STRIDES)
    rpn = RPN(
        channels=backbone.channels,
        anchors=anchors,
        train_counts=task.train_proposals,
        test_counts=task.test_proposals,
    )
    roi_heads = RoIHeads(
        channels=backbone.channels,
        hidden=hidden,
        classes=task.classes,
        min_score=min_score,
        nms_iou=nms_iou,
        max_detections=task.max_detections,
    )
    return FasterRCNN(backbone=backbone, proposal_generator=rpn, roi_heads=roi_heads, pixel_std=pixel_std)


def _check_norm(norm: str) -> None:
    if norm not in NORMS:
        raise ConfigError([f"norm: expected one of {', '.join(NORMS)}, got {norm!r}"])


def _checked_freeze_at(freeze_at: int) -> int:
    if not 0 <= freeze_at <= 5:
        raise ConfigError([f"freeze_at: expected 0 (nothing) to 5 (the whole backbone), got {freeze_at}"])
    return freeze_at


def _checked_preset(preset: str, min_score: float, nms_iou: float) -> Preset:
    faults = []
    if preset not in PRESETS:
        faults.append(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
    faults += [
        f"{name}: expected a number in [0, 1], got {value}"
        for name, value in (("min_score", min_score), ("nms_iou", nms_iou))
        if not 0 <= value <= 1
    ]
    if faults:
        raise ConfigError(faults)
    return PRESETS[preset]
