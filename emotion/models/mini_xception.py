"""mini-Xception (Arriaga, Valdenegro-Toro, Ploeger 2017, https://arxiv.org/abs/1710.07557)."""

from __future__ import annotations

import torch
from torch import nn

from emotion.models.standardise import Standardise


class SeparableBlock(nn.Module):
    """Two depth-wise separable convolutions and a pooling, around which a strided 1x1 convolution leads."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_separable(c_in, c_out), nn.ReLU(inplace=True), *_separable(c_out, c_out), nn.MaxPool2d(3, 2, 1)
        )
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Every second pixel, then the convolution, is a convolution of stride 2; torch 2.14's own, from 8 channels in
        # channels_last, ends the process in its backward pass on processors with AVX-512.
        summed: torch.Tensor = self.body(x) + self.shortcut(x[:, :, ::2, ::2])
        return summed


def mini_xception(num_classes: int = 7) -> nn.Sequential:
    """Four residual separable blocks, global average pool; input scaled to [-1, 1]; published 65 % (validation)."""
    return nn.Sequential(
        Standardise((0.5,), (0.5,)),
        nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        SeparableBlock(8, 16), SeparableBlock(16, 32), SeparableBlock(32, 64), SeparableBlock(64, 128),
        nn.Conv2d(128, num_classes, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def _separable(c_in: int, c_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False),
        nn.Conv2d(c_in, c_out, 1, bias=False),
        nn.BatchNorm2d(c_out),
    ]
