"""Distillation (Hinton, Vinyals, Dean 2015): what trained networks make of the training images, as soft targets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from emotion.config import TrainConfig
from emotion.errors import WeightsError
from emotion.views import probabilities


def taught_targets(
    images: npt.NDArray[np.uint8], targets: torch.Tensor, config: TrainConfig
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Targets float32 [N, C] of the labels and `config.teacher` together, and the teachers' identities.

    images: uint8 [N, 48, 48]. targets: int64 [N] or float32 [N, C], what the labels say. Each teacher sees an image and
    its mirror image once, before training; the loss being linear in the targets, the mean of both losses is the loss of
    the mean. Raises WeightsError for a teacher that cannot be read or does not know a class.
    """
    shares = np.zeros((len(images), len(config.classes)), np.float32)
    identities = []
    for name in config.teacher:
        found, identity = _shares(name, images, config.classes)
        shares += found / np.float32(len(config.teacher))
        identities.append(identity)
    labelled = targets if targets.is_floating_point() else torch.nn.functional.one_hot(targets, len(config.classes))
    mixed = torch.lerp(labelled.float(), torch.from_numpy(shares), config.distill_weight)
    return mixed, tuple(identities)


def _shares(name: str, images: npt.NDArray[np.uint8], classes: tuple[str, ...]) -> tuple[npt.NDArray[np.float32], str]:
    """One teacher's probabilities float32 [N, C] over `classes`, after its own temperature, and its identity."""
    from emotion.evaluate import load_scorer

    scorer = load_scorer(name)
    missing = [label for label in classes if label not in scorer.card.labels]
    if missing:
        raise WeightsError(f"teacher {name}: knows {', '.join(scorer.card.labels)}: expected also {', '.join(missing)}")
    columns = [scorer.card.labels.index(label) for label in classes]
    logits = scorer.logits(images, test_time="flip")[:, columns]
    return probabilities(logits, temperature=scorer.card.temperature), scorer.identity
