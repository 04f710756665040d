"""What each image should be called: labels, vote shares, class weights, and the order in which images are drawn."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from emotion.config import TrainConfig
from emotion.data import FERPLUS_CLASSES, FerSplit, ferplus_majority, ferplus_relabelled, votes_of
from emotion.data.ferplus import TO_FER2013
from emotion.errors import DataError
from emotion.expressions import EMOTIONS
from emotion.teacher import taught_targets

ENOUGH_VOTED = 0.9
"""Share of the images with FER+ votes below which a run says so; of FER-2013's Training it is above 0.95."""
ENOUGH_AGREE = 0.3
"""Share of the images with FER+ votes that have the majority's label below which the votes are of other images: of
FER-2013's Training it is 0.62, and 0.17 when the votes are shuffled."""
ENOUGH_TO_JUDGE = 100
"""Images with votes from which on that share says something."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Images uint8 [N, 1, 48, 48], labels int64 [N] (columns of the run's classes) and what to learn.

    targets: int64 [N], or float32 [N, C] for vote shares and teachers. votes: float32 [N, 8], FER+ shares for the
    auxiliary head, zeros where there are none. class_weights: float32 [C] for the loss, or None. teachers: identities.
    """

    images: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor
    votes: torch.Tensor
    class_weights: torch.Tensor | None
    teachers: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def training_set(split: FerSplit, config: TrainConfig, votes_file: Path | None) -> TrainingSet:
    """Images and targets of a split whose labels are in `EMOTIONS` order.

    Raises DataError when no image is left or the votes are of other images, WeightsError for a teacher that cannot
    teach.
    """
    if len(split) and votes_file is not None and config.needs_votes:
        _check_votes(split, votes_file)
    if config.labels != "fer2013":
        split = ferplus_relabelled(split, votes_file)
    split = of_classes(split, config.classes)
    votes = _vote_shares(split, votes_file)
    labels = torch.from_numpy(split.labels)
    weights = None
    if config.balance == "weights":
        counts = torch.bincount(labels, minlength=len(config.classes)).clamp(min=1)
        weights = len(labels) / (len(config.classes) * counts.float())
    targets = _targets(labels, votes, config)
    teachers: tuple[str, ...] = ()
    if config.teacher:
        targets, teachers = taught_targets(split, targets, votes, config)
    return TrainingSet(
        images=torch.from_numpy(split.images).unsqueeze(1),
        labels=labels,
        targets=targets,
        votes=torch.from_numpy(votes),
        class_weights=weights,
        teachers=teachers,
    )


def of_classes(split: FerSplit, classes: tuple[str, ...]) -> FerSplit:
    """The split reduced to `classes`; the same split when they are all seven."""
    return split if classes == EMOTIONS else split.of_classes(classes)


def drawing_order(data: TrainingSet, config: TrainConfig, rng: torch.Generator) -> torch.Tensor:
    """int64 [N], the images of one epoch: each once, or, with balanced sampling, every class equally often."""
    if config.balance != "sampling":
        return torch.randperm(len(data), generator=rng)
    counts = torch.bincount(data.labels, minlength=len(config.classes)).clamp(min=1)
    return torch.multinomial(1 / counts[data.labels].float(), len(data), replacement=True, generator=rng)


def _check_votes(split: FerSplit, votes_file: Path) -> None:
    """DataError when no image has votes, or they are of other images; a warning when few have."""
    votes = votes_of(split, votes_file)
    voted = votes.any(1)
    if not voted.any():
        raise DataError(
            f"{votes_file}: no votes for any of the {len(split):,} training images, such as {split.names[0]!r}: "
            "expected votes keyed by file name for archive.zip or its folder, Microsoft's fer2013new.csv for "
            "fer2013.csv"
        )
    agreeing = (ferplus_majority(votes) == split.labels)[voted]
    if len(agreeing) >= ENOUGH_TO_JUDGE and agreeing.mean() < ENOUGH_AGREE:
        raise DataError(
            f"{votes_file}: only {100 * agreeing.mean():.0f} % of the training images have the label that most votes "
            "name, of FER-2013's 62 %: expected the votes of these images, line by line where they have no names"
        )
    if voted.mean() < ENOUGH_VOTED:
        logging.getLogger(__name__).warning(
            "note: %s has votes for %s of %s training images (%.0f %%)",
            votes_file, f"{voted.sum():,}", f"{len(split):,}", 100 * voted.mean(),
        )  # fmt: skip


def _vote_shares(split: FerSplit, votes_file: Path | None) -> npt.NDArray[np.float32]:
    votes = votes_of(split, votes_file)
    shares: npt.NDArray[np.float32] = votes / np.maximum(votes.sum(1, keepdims=True), 1)
    return shares


def _targets(labels: torch.Tensor, votes: npt.NDArray[np.float32], config: TrainConfig) -> torch.Tensor:
    if config.labels in ("fer2013", "ferplus-majority"):
        return labels
    columns = [FERPLUS_CLASSES.index(ferplus) for name in config.classes for ferplus in _ferplus_names(name)]
    shares = torch.from_numpy(votes[:, columns])
    shares = shares / shares.sum(1, keepdim=True)  # never 0: every image has votes for its majority
    if config.labels == "ferplus":
        return shares
    return (shares + torch.nn.functional.one_hot(labels, len(config.classes))) / 2


def _ferplus_names(name: str) -> list[str]:
    return [ferplus for ferplus, fer2013 in TO_FER2013.items() if fer2013 == name]
