"""ResNet and ResNeXt with Detectron2's structure and parameter names: `stem.conv1.norm.weight`, `res2.0.shortcut`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

NormName = Literal["frozen_bn", "bn", "gn"]
STAGES = ("res2", "res3", "res4", "res5")
BLOCKS_PER_STAGE: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def _frozen_batch_norm(channels: int) -> nn.Module:
    """Frozen statistics that start as the identity, epsilon included, as in Detectron2."""
    norm: nn.Module = FrozenBatchNorm2d(channels)
    norm.get_buffer("running_var").sub_(1e-5)
    return norm


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(32, channels)


NORMS: dict[NormName, Callable[[int], nn.Module]] = {
    "frozen_bn": _frozen_batch_norm,
    "bn": nn.BatchNorm2d,
    "gn": _group_norm,
}


class ConvNorm(nn.Conv2d):
    """A convolution padded to keep the size at stride 1, then the normalisation in `.norm` (None: a bias instead).

    It inherits from Conv2d because Detectron2's parameter names do: `conv1.weight` beside `conv1.norm.weight`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, size: int, stride: int = 1, groups: int = 1, norm: NormName | None
    ) -> None:
        super().__init__(
            in_channels, out_channels, size, stride=stride, padding=size // 2, groups=groups, bias=norm is None
        )
        self.norm = NORMS[norm](out_channels) if norm is not None else None
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        out = super().forward(input)
        return out if self.norm is None else self.norm(out)


class Stem(nn.Module):
    """7x7 convolution of stride 2 and 3x3 max-pooling: [N, 3, H, W] -> [N, 64, H/4, W/4]."""

    def __init__(self, *, norm: NormName) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, 64, size=7, stride=2, norm=norm)

    def forward(self, images: Tensor) -> Tensor:
        return F.max_pool2d(F.relu_(self.conv1(images)), kernel_size=3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3 (in `groups`), 1x1 and a shortcut. MSRA's ResNets stride in the first 1x1, ResNeXt in the 3x3."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        inner_channels: int,
        stride: int,
        groups: int,
        stride_in_1x1: bool,
        norm: NormName,
    ) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.shortcut = _shortcut(in_channels, out_channels, stride=stride, norm=norm)
        self.conv1 = ConvNorm(in_channels, inner_channels, size=1, stride=stride_1x1, norm=norm)
        self.conv2 = ConvNorm(inner_channels, inner_channels, size=3, stride=stride_3x3, groups=groups, norm=norm)
        self.conv3 = ConvNorm(inner_channels, out_channels, size=1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu_(self.conv1(x))
        out = F.relu_(self.conv2(out))
        out = self.conv3(out)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, for ResNet-18."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: NormName) -> None:
        super().__init__()
        self.shortcut = _shortcut(in_channels, out_channels, stride=stride, norm=norm)
        self.conv1 = ConvNorm(in_channels, out_channels, size=3, stride=stride, norm=norm)
        self.conv2 = ConvNorm(out_channels, out_channels, size=3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu_(self.conv1(x)))
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


def _shortcut(in_channels: int, out_channels: int, *, stride: int, norm: NormName) -> ConvNorm | None:
    return (
        None if in_channels == out_channels else ConvNorm(in_channels, out_channels, size=1, stride=stride, norm=norm)
    )


class ResNet(nn.Module):
    """[N, 3, H, W] -> {"res2": [N, C, H/4, W/4], ... "res5": [N, 8C, H/32, W/32]}; `channels` holds the four widths."""

    res2: nn.Module
    res3: nn.Module
    res4: nn.Module
    res5: nn.Module

    def __init__(self, stages: list[nn.Sequential], *, channels: tuple[int, ...], norm: NormName) -> None:
        super().__init__()
        self.channels = channels
        self.stem = Stem(norm=norm)
        for name, stage in zip(STAGES, stages, strict=True):
            self.add_module(name, stage)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = {}
        x = self.stem(images)
        for name in STAGES:
            x = features[name] = self.get_submodule(name)(x)
        return features

    def freeze(self, freeze_at: int) -> None:
        """Stop training of the first `freeze_at` stages: 0 none, 1 the stem, 2 also res2 ... 5 everything.

        Batch norms of frozen stages also stop updating their statistics: they become FrozenBatchNorm2d.
        """
        if not 0 <= freeze_at <= 5:
            raise ValueError(f"freeze_at: expected 0 to 5, got {freeze_at}")
        for name in ("stem", *STAGES)[:freeze_at]:
            stage = self.get_submodule(name)
            stage.requires_grad_(False)
            for module in stage.modules():
                if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
                    module.norm = frozen_batch_norm(module.norm)


def frozen_batch_norm(norm: nn.BatchNorm2d) -> nn.Module:
    """The same norm, whose statistics no longer move."""
    frozen: nn.Module = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    frozen.load_state_dict(norm.state_dict())
    return frozen


def resnext101_32x8d(*, norm: NormName) -> ResNet:
    """FAIR's Caffe2 ResNeXt-101 32x8d: stride in the 3x3 convolution; its weights are for "frozen_bn"."""
    return _bottleneck_resnet(101, groups=32, width_per_group=8, stride_in_1x1=False, norm=norm)


def resnet50(*, norm: NormName) -> ResNet:
    """MSRA's ResNet-50: stride in the first 1x1 convolution; its weights are for "frozen_bn"."""
    return _bottleneck_resnet(50, groups=1, width_per_group=64, stride_in_1x1=True, norm=norm)


def resnet18(*, norm: NormName) -> ResNet:
    """ResNet-18 of basic blocks with a normalisation that can be trained from scratch."""
    channels = (64, 128, 256, 512)
    stages = []
    for index, ((in_channels, out_channels), depth) in enumerate(
        zip(pairwise((64, *channels)), BLOCKS_PER_STAGE[18], strict=True)
    ):
        first = BasicBlock(in_channels, out_channels, stride=1 if index == 0 else 2, norm=norm)
        rest = [BasicBlock(out_channels, out_channels, stride=1, norm=norm) for _ in range(depth - 1)]
        stages.append(nn.Sequential(first, *rest))
    return ResNet(stages, channels=channels, norm=norm)


def _bottleneck_resnet(depth: int, *, groups: int, width_per_group: int, stride_in_1x1: bool, norm: NormName) -> ResNet:
    channels = (256, 512, 1024, 2048)
    stages = []
    for index, ((in_channels, out_channels), count) in enumerate(
        zip(pairwise((64, *channels)), BLOCKS_PER_STAGE[depth], strict=True)
    ):
        blocks = [
            Bottleneck(
                in_channels if number == 0 else out_channels,
                out_channels,
                inner_channels=groups * width_per_group * 2**index,
                stride=2 if number == 0 and index > 0 else 1,
                groups=groups,
                stride_in_1x1=stride_in_1x1,
                norm=norm,
            )
            for number in range(count)
        ]
        stages.append(nn.Sequential(*blocks))
    return ResNet(stages, channels=channels, norm=norm)


@torch.no_grad()
def fold_batch_norms(module: nn.Module) -> None:
    """Fold every batch norm below `module` into its convolution, in place: same outputs, for inference only."""
    for conv in module.modules():
        if not isinstance(conv, ConvNorm) or not isinstance(conv.norm, (FrozenBatchNorm2d, nn.BatchNorm2d)):
            continue
        norm = conv.norm
        state = norm.state_dict()
        scale = state["weight"] * (state["running_var"] + norm.eps).rsqrt()
        bias = state["bias"] - state["running_mean"] * scale
        conv.weight.mul_(scale.reshape(-1, 1, 1, 1))
        conv.bias = nn.Parameter(bias if conv.bias is None else bias + conv.bias * scale)
        conv.norm = None
