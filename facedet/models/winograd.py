"""3x3 convolution by Winograd's F(4x4, 3x3) (Lavin and Gray 2015, arXiv 1509.09308), for inference on CPUs.

A 4x4 block of outputs takes 36 multiplications per channel pair instead of 144. oneDNN has no such kernel for float32,
and the dense 3x3 convolutions of pyramid and proposal head are a fifth of Faster R-CNN's work.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE, STEP = 6, 4  # inputs and outputs of one tile, per axis
CHUNK_BYTES = 16 << 20  # of transformed input worked on at a time, so that it stays in the cache

INPUT_TRANSFORM = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
)
KERNEL_TRANSFORM = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float64,
)
OUTPUT_TRANSFORM = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float64
)


class WinogradConv(nn.Module):
    """Equal to `conv` up to rounding: 3x3, stride 1, padding 1, one group. float32 [N, C, H, W] -> [N, K, H, W]."""

    kernels: Tensor
    bias: Tensor
    to_frequencies: Tensor
    to_pixels: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if (conv.kernel_size, conv.stride, conv.padding, conv.groups) != ((3, 3), (1, 1), (1, 1), 1):
            raise ValueError(f"expected a 3x3 convolution of stride 1, padding 1 and one group, got {conv}")
        weight = conv.weight.detach().double().numpy()
        kernels = np.einsum("ia,kcab,jb->ijkc", KERNEL_TRANSFORM, weight, KERNEL_TRANSFORM)
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.register_buffer("kernels", torch.from_numpy(kernels.reshape(TILE**2, *weight.shape[:2])).float())
        self.register_buffer("bias", bias.reshape(-1, 1, 1).clone())
        self.register_buffer("to_frequencies", _both_axes(INPUT_TRANSFORM))
        self.register_buffer("to_pixels", _both_axes(OUTPUT_TRANSFORM))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self._one(image) for image in x])

    def _one(self, image: Tensor) -> Tensor:
        """[C, H, W] -> [K, H, W], some rows of tiles at a time."""
        channels, height, width = image.shape
        rows, columns = -(-height // STEP), -(-width // STEP)
        below, right = (rows + 1) * STEP - 1 - height, (columns + 1) * STEP - 1 - width
        padded = F.pad(image, (1, right, 1, below)).reshape(channels, rows + 1, STEP, columns + 1, STEP)
        phases = padded.permute(2, 4, 0, 1, 3).contiguous()  # [4, 4, C, rows + 1, columns + 1]
        out = image.new_empty((STEP, STEP, len(self.bias), rows, columns))
        rows_at_once = max(1, CHUNK_BYTES // (4 * TILE**2 * channels * columns))
        for first in range(0, rows, rows_at_once):
            last = min(first + rows_at_once, rows)
            out[:, :, :, first:last] = self._tiles(phases[:, :, :, first : last + 1])
        pixels = out.permute(2, 3, 0, 4, 1).reshape(len(self.bias), rows * STEP, columns * STEP)
        return pixels[:, :height, :width] + self.bias

    def _tiles(self, phases: Tensor) -> Tensor:
        """Phases [4, 4, C, R + 1, Q + 1] -> outputs [4, 4, K, R, Q]: pixel (i, j) of a tile is phase (i % 4, j % 4)."""
        channels, rows, columns = phases.shape[2], phases.shape[3] - 1, phases.shape[4] - 1
        values = phases.new_empty((TILE, TILE, channels, rows, columns))
        for i in range(TILE):
            for j in range(TILE):
                down, across = i // STEP, j // STEP
                values[i, j] = phases[i % STEP, j % STEP, :, down : down + rows, across : across + columns]
        frequencies = (self.to_frequencies @ values.reshape(TILE**2, -1)).reshape(TILE**2, channels, -1)
        products = torch.bmm(self.kernels, frequencies)
        pixels = self.to_pixels @ products.reshape(TILE**2, -1)
        return pixels.reshape(STEP, STEP, -1, rows, columns)


def _both_axes(transform: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Tensor:
    """The matrix that applies `transform` to rows and columns of a flattened tile."""
    return torch.from_numpy(np.kron(transform, transform)).float()
