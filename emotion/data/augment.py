"""Augmentation of whole batches of grey faces, in torch, without workers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; each is drawn per image. Lengths are fractions of the image side.

    flip, low_resolution, erase, blur and jpeg: share of the images that are changed so. gamma: grey g becomes
    g ** 2 ** x with x up to `gamma` to either side.
    """

    rotation_degrees: float = 12.0
    scale: float = 0.15
    shift: float = 0.08
    flip: float = 0.5
    contrast: float = 0.25
    brightness: float = 0.15
    low_resolution: float = 0.1
    erase: float = 0.2
    blur: float = 0.0
    gamma: float = 0.0
    jpeg: float = 0.0


VIEW = 44 / 48
"""Part of the image side that a view shows before random scaling: the centre crop of 44 of 48 pixels."""


def augment(
    images: torch.Tensor, size: int, how: Augmentation, rng: torch.Generator, *, view: float = VIEW
) -> torch.Tensor:
    """Random affine view, light and erasing of faces.

    images: float32 [N, 1, H, W] in [0, 1]; size: side of the result in pixels. The result shows
    the middle `view` of the face: at native resolution for size 44, coarser for less.
    Returns float32 [N, 1, size, size] in [0, 1].
    """
    n = len(images)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(n).uniform_(low, high, generator=rng)

    angle = uniform(-1, 1) * math.radians(how.rotation_degrees)
    zoom = view * (1 + uniform(-how.scale, how.scale))
    mirror = torch.where(uniform(0, 1) < how.flip, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = zoom * torch.cos(angle) * mirror
    theta[:, 0, 1] = -zoom * torch.sin(angle)
    theta[:, 1, 0] = zoom * torch.sin(angle) * mirror
    theta[:, 1, 1] = zoom * torch.cos(angle)
    theta[:, 0, 2] = uniform(-2 * how.shift, 2 * how.shift)
    theta[:, 1, 2] = uniform(-2 * how.shift, 2 * how.shift)
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    out = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    out = _coarsen(out, uniform(0, 1) < how.low_resolution, rng)
    if how.blur > 0:
        out = _blur(out, uniform(0, 1) < how.blur, rng)
    gain = 1 + uniform(-how.contrast, how.contrast)
    bias = uniform(-how.brightness, how.brightness)
    mean = out.mean((1, 2, 3))
    out = ((out - mean.view(n, 1, 1, 1)) * gain.view(n, 1, 1, 1) + (mean + bias).view(n, 1, 1, 1)).clamp_(0, 1)
    if how.gamma > 0:
        out = out ** (2 ** uniform(-how.gamma, how.gamma)).view(n, 1, 1, 1)
    if how.jpeg > 0:
        out = _compress(out, uniform(0, 1) < how.jpeg, rng)
    return _erase(out, uniform(0, 1) < how.erase, rng)


def _coarsen(images: torch.Tensor, chosen: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Throw away detail, as a face of 16 to 30 pixels would."""
    if chosen.any():
        side = int(torch.randint(16, 31, (1,), generator=rng))
        small = F.interpolate(images[chosen], (side, side), mode="bilinear", align_corners=False, antialias=True)
        images[chosen] = F.interpolate(small, images.shape[-2:], mode="bilinear", align_corners=False)
    return images


def _blur(images: torch.Tensor, chosen: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Gaussian blur, one sigma for the chosen images: 0.5 to 2 pixels of a side of 48."""
    if chosen.any():
        sigma = float(torch.empty(1).uniform_(0.5, 2, generator=rng)) * images.shape[-1] / 48
        reach = math.ceil(3 * sigma)
        weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
        weights = weights / weights.sum()
        some = F.pad(images[chosen], (reach, reach, reach, reach), mode="replicate")
        images[chosen] = F.conv2d(F.conv2d(some, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
    return images


def _compress(images: torch.Tensor, chosen: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """JPEG at one quality for the chosen images, 20 to 70."""
    quality = int(torch.randint(20, 71, (1,), generator=rng))
    for i in chosen.nonzero()[:, 0].tolist():
        grey = (images[i, 0] * 255).round().to(torch.uint8).numpy()
        _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.float32)
        images[i, 0] = torch.from_numpy(decoded / 255)
    return images


def _erase(images: torch.Tensor, chosen: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Random erasing (Zhong et al. 2017): one rectangle of 3 to 20 % of the area set to a random grey."""
    n, _, height, width = images.shape
    area = torch.empty(n).uniform_(0.03, 0.2, generator=rng) * height * width
    ratio = torch.empty(n).uniform_(-0.7, 0.7, generator=rng).exp()
    h, w = (area * ratio).sqrt(), (area / ratio).sqrt()
    top = torch.rand(n, generator=rng) * (height - h).clamp(min=1)
    left = torch.rand(n, generator=rng) * (width - w).clamp(min=1)
    y = torch.arange(height).view(1, height, 1)
    x = torch.arange(width).view(1, 1, width)
    inside = (y >= top.view(n, 1, 1)) & (y < (top + h).view(n, 1, 1))
    inside = inside & (x >= left.view(n, 1, 1)) & (x < (left + w).view(n, 1, 1)) & chosen.view(n, 1, 1)
    grey = torch.rand(n, 1, 1, 1, generator=rng)
    return torch.where(inside.unsqueeze(1), grey, images)
