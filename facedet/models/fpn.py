"""Feature pyramid (Lin et al. 2017, arXiv 1612.03144) with Detectron2's names: `bottom_up`, `fpn_lateral2` ..."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from facedet.models.compact import CompactStages
from facedet.models.resnet import STAGES, ConvNorm, NormName, ResNet

STRIDES = (4, 8, 16, 32, 64)  # of p2 to p6


class FPN(nn.Module):
    """[N, 3, H, W], sides multiples of 32 -> p2 to p6, each [N, channels, H/stride, W/stride] (see STRIDES)."""

    def __init__(self, bottom_up: ResNet | CompactStages, *, channels: int, norm: NormName | None = None) -> None:
        super().__init__()
        self.bottom_up = bottom_up
        self.channels = channels
        for level, width in enumerate(bottom_up.channels, start=2):
            lateral = ConvNorm(width, channels, size=1, norm=norm)
            output = ConvNorm(channels, channels, size=3, norm=norm)
            for conv in (lateral, output):
                nn.init.kaiming_uniform_(conv.weight, a=1)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.bottom_up(images)
        merged: Tensor | None = None
        pyramid: list[Tensor] = []
        for level, name in reversed(list(enumerate(STAGES, start=2))):
            lateral = self.get_submodule(f"fpn_lateral{level}")(features[name])
            above = 0 if merged is None else F.interpolate(merged, scale_factor=2.0, mode="nearest")
            merged = lateral + above
            pyramid.insert(0, self.get_submodule(f"fpn_output{level}")(merged))
        pyramid.append(F.max_pool2d(pyramid[-1], kernel_size=1, stride=2))
        return pyramid
