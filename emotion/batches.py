"""One step's images and what they should be called."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from emotion.config import TrainConfig
from emotion.data.augment import augment
from emotion.targets import TrainingSet


@dataclass(frozen=True, eq=False)
class Batch:
    """images: float32 [n, 1, S, S] in [0, 1]. targets: int64 [n] or float32 [n, C]. votes: float32 [n, 8].

    labels: int64 [n], what accuracy is counted by; of two mixed images, the one that shows more.
    """

    images: torch.Tensor
    targets: torch.Tensor
    votes: torch.Tensor
    labels: torch.Tensor


def draw_batch(
    data: TrainingSet, chosen: torch.Tensor, size: int, *, config: TrainConfig, rng: torch.Generator
) -> Batch:
    """The images `chosen` (int64 [n]), augmented, at `size` pixels; mixed with one another where the run wants that."""
    images = augment(data.images[chosen].float() / 255, size, config.augmentation, rng, view=config.view)
    batch = Batch(images, data.targets[chosen], data.votes[chosen], data.labels[chosen])
    return mixup(batch, config, rng) if config.mixup > 0 else batch


def mixup(batch: Batch, config: TrainConfig, rng: torch.Generator) -> Batch:
    """mixup (Zhang et al. 2018): every image blended with another of the batch, its targets and votes likewise."""
    n = len(batch.labels)
    # torch draws no Beta variates from a generator, but a Beta is the share of one of two Gamma variates, and
    # torch._standard_gamma takes a generator.
    first, second = torch._standard_gamma(torch.full((2, n), config.mixup), generator=rng)
    share = first / (first + second).clamp(min=1e-12)
    share = torch.maximum(share, 1 - share)
    other = torch.randperm(n, generator=rng)

    def blend(values: torch.Tensor) -> torch.Tensor:
        weight = share.view(n, *[1] * (values.ndim - 1))
        return values * weight + values[other] * (1 - weight)

    targets = batch.targets if batch.targets.is_floating_point() else F.one_hot(batch.targets, len(config.classes))
    return Batch(blend(batch.images), blend(targets.float()), blend(batch.votes), batch.labels)
