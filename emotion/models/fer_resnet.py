"""ResNet for small grey faces: basic blocks (He et al. 2016) with squeeze-and-excitation (Hu et al. 2018)."""

from __future__ import annotations

import torch
from torch import nn


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from the channel means."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated: torch.Tensor = x * self.gate(x)
        return gated


class Block(nn.Module):
    """conv-bn-relu-conv-bn-se + shortcut; the second norm starts at zero, so that a block starts as the identity."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, excite: bool = True) -> None:
        super().__init__()
        last_norm = nn.BatchNorm2d(c_out)
        nn.init.zeros_(last_norm.weight)
        self.residual = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False),
            last_norm,
            SqueezeExcitation(c_out) if excite else nn.Identity(),
        )
        self.shortcut = nn.Sequential() if stride == 1 and c_in == c_out else nn.Sequential(
            nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
            nn.Conv2d(c_in, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class FerResNet(nn.Module):
    """Input float32 [N, 1, S, S] in [0, 1], S from 32 to 64; output logits [N, num_classes].

    `features` gives the pooled vector before the head, for auxiliary heads in training.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, num_classes: int, *, widths: tuple[int, ...], depths: tuple[int, ...], dropout: float, excite: bool = True
    ) -> None:
        super().__init__()
        stem = widths[0] // 2
        self.register_buffer("mean", torch.tensor(0.508))
        self.register_buffer("std", torch.tensor(0.255))
        self.stem = nn.Sequential(
            nn.Conv2d(1, stem, 3, 1, 1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
            nn.Conv2d(stem, widths[0], 3, 2, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        blocks: list[nn.Module] = []
        c_in = widths[0]
        for stage, (c_out, depth) in enumerate(zip(widths, depths, strict=True)):
            for i in range(depth):
                blocks.append(Block(c_in, c_out, stride=2 if stage > 0 and i == 0 else 1, excite=excite))
                c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.head = nn.Linear(c_in, num_classes)
        self.feature_width = c_in

    def features(self, x: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.pool(self.blocks(self.stem((x - self.mean) / self.std)))
        return pooled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(x))
        return logits


def fer_resnet(num_classes: int = 7, *, dropout: float = 0.3) -> FerResNet:
    """What training begins with if not told: 32 to 256 channels."""
    return FerResNet(num_classes, widths=(32, 64, 128, 256), depths=(2, 2, 2, 2), dropout=dropout)


def fer_resnet_plain(num_classes: int = 7, *, dropout: float = 0.3) -> FerResNet:
    """fer_resnet without squeeze-and-excitation, to measure what that is worth."""
    return FerResNet(num_classes, widths=(32, 64, 128, 256), depths=(2, 2, 2, 2), dropout=dropout, excite=False)


def fer_resnet_wide(num_classes: int = 7, *, dropout: float = 0.3) -> FerResNet:
    """The shipped classifier: fer_resnet wider by a quarter, 40 to 320 channels."""
    return FerResNet(num_classes, widths=(40, 80, 160, 320), depths=(2, 2, 2, 2), dropout=dropout)


def fer_resnet_large(num_classes: int = 7, *, dropout: float = 0.4) -> FerResNet:
    """Twice as wide, for a teacher."""
    return FerResNet(num_classes, widths=(64, 128, 256, 512), depths=(2, 2, 2, 2), dropout=dropout)
