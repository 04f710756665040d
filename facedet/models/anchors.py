"""Anchors and box coding, equal to Detectron2's. (torchvision's anchor generator rounds its anchors.)"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

MAX_LOG_SCALE = math.log(1000.0 / 16)  # a box grows at most 62.5 times: keeps exp() finite


class Anchors(nn.Module):
    """One size per pyramid level, the same `ratios` (height / width) at all, centred on (0, 0), (stride, 0) ..."""

    def __init__(self, *, sizes_px: Sequence[float], ratios: Sequence[float], strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.per_cell = len(ratios)
        for level, size in enumerate(sizes_px):
            self.register_buffer(f"cell{level}", _cell_anchors(size, ratios), persistent=False)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps [N, C, H, W] per level -> anchors float32 [H * W * A, 4] per level, x1 y1 x2 y2 in pixels."""
        grids = []
        for level, (feature, stride) in enumerate(zip(features, self.strides, strict=True)):
            cell = self.get_buffer(f"cell{level}")
            height, width = feature.shape[-2:]
            y = torch.arange(height, device=cell.device, dtype=cell.dtype) * stride
            x = torch.arange(width, device=cell.device, dtype=cell.dtype) * stride
            y, x = torch.meshgrid(y, x, indexing="ij")
            shifts = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)
            grids.append((shifts + cell).reshape(-1, 4))
        return grids


def _cell_anchors(size_px: float, ratios: Sequence[float]) -> Tensor:
    boxes = []
    for ratio in ratios:
        width = math.sqrt(size_px**2 / ratio)
        height = ratio * width
        boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes)


def decode_boxes(deltas: Tensor, boxes: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Apply (dx, dy, dw, dh) to boxes. deltas: [N, 4 K], boxes: [N, 4] x1 y1 x2 y2 -> float32 [N, 4 K]."""
    deltas, boxes = deltas.float(), boxes.float()
    sizes = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + 0.5 * sizes
    steps = deltas.reshape(len(boxes), deltas.shape[1] // 4, 4) / deltas.new_tensor(weights)
    middle = steps[..., :2] * sizes[:, None] + centres[:, None]
    half = 0.5 * torch.exp(steps[..., 2:].clamp(max=MAX_LOG_SCALE)) * sizes[:, None]
    return torch.cat((middle - half, middle + half), dim=-1).reshape(deltas.shape)


def encode_boxes(targets: Tensor, boxes: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """The deltas [N, 4] that turn `boxes` into `targets`, both [N, 4] x1 y1 x2 y2 of positive size."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    target_sizes = targets[:, 2:] - targets[:, :2]
    steps = (targets[:, :2] + 0.5 * target_sizes - boxes[:, :2] - 0.5 * sizes) / sizes
    return torch.cat((steps, torch.log(target_sizes / sizes)), dim=1) * boxes.new_tensor(weights)
