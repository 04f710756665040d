"""`compact`: an anchor-free single-shot face detector for CPUs.

Stem and three stages of dense bottlenecks at strides 8, 16 and 32, a top-down pyramid (Lin et al. 2017), and one
light head per level that gives each grid point a quality-aware score (Li et al. 2020, Generalized Focal Loss) and a
box as centre offset and log size (Ge et al. 2021, YOLOX). Between pyramid and heads depth-wise blocks bring together
what the stages saw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from facedet.models.resnet import frozen_batch_norm

STRIDES = (8, 16, 32)
STAGES = ("stem", "stage8", "stage16", "stage32")
"""Names of the backbone's parts, bottom up."""
WIDTHS = (16, 32, 64, 128, 128)
DEPTHS = (1, 3, 6)
"""Bottlenecks per stage."""
REFINEMENTS = (1, 4, 4)
"""Refinements per level of the pyramid."""
FIRST_SCALE = 0.05
"""What a residual block's last norm starts with: a block added to a trained network hardly changes what passes."""
DEAD_BELOW = -2.0
"""Shift by scale of a norm below which the ReLU after it lets hardly anything through, so that its channel learns as
little: of normal values one in 44."""
REVIVED_SCALE, REVIVED_SHIFT = 0.1, 0.02
PIXEL_MEAN, PIXEL_STD = 128.0, 64.0
"""The mean is a whole number, which eight-bit files need; up to run 12 it was 127.5, and its weights work with both."""


def conv(c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


class DepthWiseConv(nn.Conv2d):
    """Convolution of each channel for itself.

    Compiled, the gradients of its few weights are sums of shifted products, which torch.compile makes one loop of: a
    tenth of what oneDNN takes for them in bfloat16, which was a quarter of a training step.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling() and torch.is_grad_enabled():
            out: torch.Tensor = _DepthWise.apply(x, self.weight)
            return out
        return super().forward(x)


class _DepthWise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, weight = ctx.saved_tensors
        kernel = weight.shape[-1]
        grad_x = F.conv2d(grad, weight.to(grad.dtype).flip(2, 3), padding=kernel // 2, groups=len(weight))
        height, width = grad.shape[2:]
        around = F.pad(x, [kernel // 2] * 4).permute(0, 2, 3, 1).float()
        last = grad.permute(0, 2, 3, 1).float()
        shifts = [around[:, i : i + height, j : j + width] for i in range(kernel) for j in range(kernel)]
        sums = torch.stack([(shifted * last).sum((0, 1, 2)) for shifted in shifts], 1)
        return grad_x, sums.view_as(weight)


def depth_wise(channels: int) -> nn.Sequential:
    """5x5 depth-wise convolution, batch norm, ReLU."""
    return nn.Sequential(DepthWiseConv(channels, 5), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + second(first(x)), both made by `conv`."""

    def __init__(self, first: nn.Sequential, second: nn.Sequential) -> None:
        super().__init__()
        self.residual = nn.Sequential(first, second)
        nn.init.constant_(self.get_parameter("residual.1.1.weight"), FIRST_SCALE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.residual(x)
        return out


def bottleneck(channels: int) -> Residual:
    """x + conv3x3(conv1x1(x)), half as wide inside. Dense on purpose: CPUs run it near their peak."""
    return Residual(conv(channels, channels // 2, kernel=1), conv(channels // 2, channels))


def refinement(channels: int) -> Residual:
    """x + conv1x1(conv5x5(x)), the wide one depth-wise."""
    return Residual(depth_wise(channels), conv(channels, channels, kernel=1))


class Head(nn.Module):
    """Depth-wise 5x5 and point-wise tower, then [N, 5, H, W]: score logit, dx, dy, log w, log h in strides."""

    def __init__(self, channels: int, prior: float = 0.01) -> None:
        super().__init__()
        self.tower = nn.Sequential(depth_wise(channels), conv(channels, channels, kernel=1))
        self.out = nn.Conv2d(channels, 5, 1)
        nn.init.normal_(self.out.weight, std=0.01)
        self.out.bias = nn.Parameter(torch.tensor([-math.log((1 - prior) / prior), 0.0, 0.0, 0.0, 0.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(self.tower(x))
        return out


class Compact(nn.Module):
    """Input float32 [N, 3, H, W], BGR, 0 to 255, H and W multiples of 32.

    Output float32 [N, P, 5] over the P grid points of all strides: score logit and box x1, y1, x2, y2 in pixels.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int, int],
        depths: tuple[int, int, int],
        pyramid: int,
        refinements: tuple[int, int, int],
    ) -> None:
        super().__init__()
        c0, c1, c2, c3, c4 = widths
        self.stem = nn.Sequential(conv(3, c0, stride=2), conv(c0, c1, stride=2))
        self.stage8 = nn.Sequential(conv(c1, c2, stride=2), *[bottleneck(c2) for _ in range(depths[0])])
        self.stage16 = nn.Sequential(conv(c2, c3, stride=2), *[bottleneck(c3) for _ in range(depths[1])])
        self.stage32 = nn.Sequential(conv(c3, c4, stride=2), *[bottleneck(c4) for _ in range(depths[2])])
        self.lateral = nn.ModuleList([conv(c, pyramid, kernel=1) for c in (c2, c3, c4)])
        self.refine = nn.ModuleList(
            [nn.Sequential(*[refinement(pyramid) for _ in range(count)]) for count in refinements]
        )
        self.heads = nn.ModuleList([Head(pyramid) for _ in STRIDES])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f8 = self.stage8(self.stem((x - PIXEL_MEAN) / PIXEL_STD))
        f16 = self.stage16(f8)
        f32 = self.stage32(f16)
        p8, p16, p32 = (lateral(f) for lateral, f in zip(self.lateral, (f8, f16, f32), strict=True))
        p16 = p16 + F.interpolate(p32, scale_factor=2.0, mode="nearest")
        p8 = p8 + F.interpolate(p16, scale_factor=2.0, mode="nearest")
        levels = zip(self.heads, self.refine, (p8, p16, p32), STRIDES, strict=True)
        return torch.cat([decode(head(refine(p)), stride) for head, refine, p, stride in levels], 1)


class CompactStages(nn.Module):
    """Stem and stages of `compact`, with their names, as the bottom of another pyramid.

    float32 [N, 3, H, W] -> {"res2": [N, 32, H/4, W/4], "res3": [N, 64, H/8, W/8], "res4" and "res5": [N, 128, ...]}, in
    ResNet's words. The input is normalised as in `Compact`: PIXEL_MEAN, PIXEL_STD.
    """

    def __init__(self, depths: tuple[int, int, int] = DEPTHS) -> None:
        super().__init__()
        whole = compact(depths)
        self.channels = WIDTHS[1:]
        self.stem, self.stage8, self.stage16, self.stage32 = whole.stem, whole.stage8, whole.stage16, whole.stage32

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        f4 = self.stem(images)
        f8 = self.stage8(f4)
        f16 = self.stage16(f8)
        return {"res2": f4, "res3": f8, "res4": f16, "res5": self.stage32(f16)}

    def freeze(self, freeze_at: int) -> None:
        """Stop training of the first stages, counted as in ResNet: 1 and 2 the stem, 3 also stage8 ... 5 everything."""
        for name in (STAGES[0], *STAGES)[:freeze_at]:
            stage = self.get_submodule(name).requires_grad_(False)
            for inner in list(stage.modules()):
                for child_name, child in inner.named_children():
                    if isinstance(child, nn.BatchNorm2d):
                        setattr(inner, child_name, frozen_batch_norm(child))


def decode(raw: torch.Tensor, stride: int) -> torch.Tensor:
    """[N, 5, H, W] of a head to float32 [N, H*W, 5]: score logit and box corners in pixels."""
    n, _, height, width = raw.shape
    raw = raw.float().permute(0, 2, 3, 1).reshape(n, height * width, 5)
    centre = grid_points(height, width, stride).to(raw) + raw[..., 1:3] * stride
    half = torch.exp(raw[..., 3:5].clamp(max=6.0)) * (stride / 2)
    return torch.cat([raw[..., :1], centre - half, centre + half], -1)


def grid_points(height: int, width: int, stride: int) -> torch.Tensor:
    """float32 [height * width, 2]: x, y in pixels of the cell centres, row by row."""
    y = (torch.arange(height, dtype=torch.float32) + 0.5) * stride
    x = (torch.arange(width, dtype=torch.float32) + 0.5) * stride
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], -1)


def compact(depths: tuple[int, int, int] = DEPTHS, refinements: tuple[int, int, int] = REFINEMENTS) -> Compact:
    """The shipped detector. depths: bottlenecks per stage; refinements: per level; earlier versions had fewer."""
    return Compact(widths=WIDTHS, depths=depths, pyramid=64, refinements=refinements)


def network_of(names: Iterable[str]) -> Compact:
    """A fresh network of as many blocks as that whose tensors have these names."""
    names = tuple(names)
    return compact(depths_of(names), _blocks(names, [f"refine.{level}" for level in range(len(STRIDES))]))


def depths_of(names: Iterable[str]) -> tuple[int, int, int]:
    """Bottlenecks per stage of the network whose tensors have these names; names of no stage count nothing."""
    return _blocks(names, STAGES[1:])


def _blocks(names: Iterable[str], parts: Sequence[str]) -> tuple[int, int, int]:
    """Residual blocks in each of three parts of a network, by the names of its tensors."""
    blocks = {name.split(".residual.")[0].rpartition(".") for name in names if ".residual." in name}
    first, second, third = (sum(part == wanted for part, _, _ in blocks) for wanted in parts)
    return first, second, third


def deepened(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Values of an earlier, shallower `compact` for today's: its further blocks change hardly anything at first.

    The same values give the same result: the random numbers of the new blocks are seeded here.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = compact().state_dict()
    return {**fresh, **values}


def revived(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same values, but channels of residual blocks that are nearly always 0 let something through again.

    Blocks that start at FIRST_SCALE can lose channels while the rate is high: of the weights that run 9 began with 91
    of the 128 of stage16's last block let something through in less than one place in a thousand.
    """
    values = dict(values)
    for scale_name in [name for name in values if name.endswith(".residual.1.1.weight")]:
        shift_name = scale_name.removesuffix("weight") + "bias"
        scale, shift = values[scale_name], values[shift_name]
        dead = shift < DEAD_BELOW * scale.abs()
        values[scale_name] = torch.where(dead, REVIVED_SCALE, scale)
        values[shift_name] = torch.where(dead, REVIVED_SHIFT, shift)
    return values


def mixed(
    values: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """The mean of two networks' values. share: of the others, in [0, 1]; counters stay the first ones'."""
    return {
        name: torch.lerp(value, others[name], share) if value.is_floating_point() else value
        for name, value in values.items()
    }
