"""The settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from emotion.data.augment import VIEW, Augmentation
from emotion.expressions import EMOTIONS
from emotion.models import BASELINES, MODELS

FERPLUS_TEACHER = "ferplus"
"""Stands among `TrainConfig.teacher` for the FER+ votes."""
LABEL_SOURCES = ("fer2013", "ferplus", "ferplus-majority", "ferplus-both")
"""What is learned: FER-2013's label; the shares of the FER+ votes; their majority; the mean of shares and majority."""
AUGMENTED_SHARES = ("flip", "low_resolution", "erase", "blur", "jpeg")
"""Fields of `Augmentation` that are shares of the images."""
CHOICES = {
    "optimiser": ("adamw", "sgd", "adam", "muon"),
    "schedule": ("cosine", "plateau", "constant"),
    "select": ("accuracy", "loss"),
    "labels": LABEL_SOURCES,
    "balance": ("none", "weights", "sampling"),
    "precision": ("auto", "float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}
"""Setting -> its possible values."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run. Sizes in pixels, rates per step, `size_schedule` as (from fraction, size).

    optimiser "muon": of convolutions that a norm follows; AdamW has the rest.
    schedule "plateau": the rate falls to `plateau_factor` after `plateau_patience` epochs without a lower loss on
    PublicTest. early_stopping: the run ends after so many such epochs; 0 is never. select: what makes best.pt better,
    PublicTest accuracy or loss. keep_falls: a checkpoint for every fall of that loss, named with epoch and accuracy.
    view: part of the face side that the network sees. free_upper_at: epoch from which a partly frozen network trains
    its upper part too. ferplus_weight: weight of an auxiliary head that learns the FER+ votes. 0 for `ema_decay`,
    `clip_norm`, `mixup` and `ferplus_weight` turns each off.

    eval_size: size of measuring; None is the size that is being trained at. Where the size of measuring changes, what
    is best begins anew, so that best.pt is always the best of the last size that the run reached.
    weights: start of the network: none (random), imagenet, or a checkpoint (.pt file or run folder) of an earlier run.
    mixup: alpha of the Beta distribution that says how two images are mixed. teacher: weight files, and FERPLUS_TEACHER
    for the FER+ votes, whose mean probabilities are learned with the share `distill_weight`, the labels with the rest.
    """

    model: str = "fer_resnet"
    epochs: int = 20
    batch_size: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 0.7
    label_smoothing: float = 0.1
    ferplus_weight: float = 0.5
    ema_decay: float = 0.9985
    size_schedule: tuple[tuple[float, int], ...] = ((0.0, 32), (0.65, 40))
    eval_size: int | None = None
    view: float = VIEW
    augmentation: Augmentation = field(default_factory=Augmentation)
    mixup: float = 0.0
    optimiser: str = "adamw"
    schedule: str = "cosine"
    plateau_factor: float = 0.1
    plateau_patience: int = 3
    early_stopping: int = 0
    select: str = "accuracy"
    keep_falls: bool = False
    clip_norm: float = 5.0
    classes: tuple[str, ...] = EMOTIONS
    labels: str = "fer2013"
    balance: str = "none"
    weights: str = "none"
    teacher: tuple[str, ...] = ()
    distill_weight: float = 0.5
    free_upper_at: int | None = None
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0

    def faults(self) -> list[str]:
        """Every setting that cannot work, one sentence each."""
        faults = [
            f"{name} {getattr(self, name)!r}: expected one of {', '.join(choices)}"
            for name, choices in {"model": tuple(MODELS), **CHOICES}.items()
            if getattr(self, name) not in choices
        ]
        checks = [
            (self.epochs >= 1, f"epochs {self.epochs}: expected at least 1"),
            (self.batch_size >= 2, f"batch_size {self.batch_size}: expected at least 2"),
            (self.lr > 0, f"lr {self.lr}: expected more than 0"),
            (0 <= self.label_smoothing < 1, f"label_smoothing {self.label_smoothing}: expected 0 to below 1"),
            (0 <= self.ema_decay < 1, f"ema_decay {self.ema_decay}: expected 0 to below 1"),
            (self.weight_decay >= 0, f"weight_decay {self.weight_decay}: expected 0 (none) or more"),
            (self.warmup_epochs >= 0, f"warmup_epochs {self.warmup_epochs}: expected 0 (none) or more"),
            (self.clip_norm >= 0, f"clip_norm {self.clip_norm}: expected 0 (no clipping) or more"),
            (0 <= self.seed < 2**32, f"seed {self.seed}: expected 0 to {2**32 - 1}"),
            (self.ferplus_weight >= 0, f"ferplus_weight {self.ferplus_weight}: expected 0 or more"),
            (
                all(0 <= v < math.inf for v in vars(self.augmentation).values()) and self.augmentation.scale < 1,
                f"augmentation {vars(self.augmentation)}: expected ranges of 0 or more, and scale below 1",
            ),
            (
                not any(vars(self.augmentation)[name] > 1 for name in AUGMENTED_SHARES),
                f"augmentation {vars(self.augmentation)}: expected shares of the images, 0 to 1, as "
                f"{', '.join(AUGMENTED_SHARES)}",
            ),
            (self.mixup >= 0, f"mixup {self.mixup}: expected 0 (none) or more"),
            (0 < self.distill_weight <= 1, f"distill_weight {self.distill_weight}: expected a share in (0, 1]"),
            (0 < self.plateau_factor < 1, f"plateau_factor {self.plateau_factor}: expected between 0 and 1"),
            (self.plateau_patience >= 1, f"plateau_patience {self.plateau_patience}: expected 1 or more epochs"),
            (0 < self.view <= 1, f"view {self.view}: expected a part of the face side in (0, 1]"),
            (self.early_stopping >= 0, f"early_stopping {self.early_stopping}: expected 0 (never) or more epochs"),
            (
                self.free_upper_at is None or 0 <= self.free_upper_at < self.epochs,
                f"free_upper_at {self.free_upper_at}: expected 0 or more, below epochs {self.epochs}, "
                "or the upper part never learns",
            ),
            (
                _is_schedule(self.size_schedule),
                f"size_schedule {self.size_schedule}: expected (0.0, size) first and sizes of 24 px or more, "
                "each from a later fraction below 1",
            ),
            (
                self.eval_size is None or self.eval_size >= 24,
                f"eval_size {self.eval_size}: expected 24 px or more, or None for the size being trained at",
            ),
            (
                len(set(self.classes)) == len(self.classes) >= 2 and set(self.classes) <= set(EMOTIONS),
                f"classes {', '.join(self.classes)}: expected two or more different names out of {', '.join(EMOTIONS)}",
            ),
        ]
        return faults + [message for good, message in checks if not good]

    def size_of(self, epoch: int) -> int:
        """Side of the training images in epoch `epoch`, counted from 0."""
        return [size for start, size in self.size_schedule if epoch >= start * self.epochs][-1]

    def measured_size(self, epoch: int) -> int:
        """Side of the images that epoch `epoch` is measured with."""
        return self.size_of(epoch) if self.eval_size is None else self.eval_size

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every side, in pixels, that the network is trained or measured at."""
        return tuple(sorted({size for _, size in self.size_schedule} | ({self.eval_size} if self.eval_size else set())))

    @property
    def final_size(self) -> int:
        """Side of the images that the finished network is measured with, and expects."""
        return self.measured_size(self.epochs - 1)

    @property
    def last_phase(self) -> int:
        """The epoch from which nothing changes any more: neither the size of measuring nor what is frozen."""
        last_size = min(epoch for epoch in range(self.epochs) if self.measured_size(epoch) == self.final_size)
        return max(self.free_upper_at or 0, last_size)

    @property
    def needs_votes(self) -> bool:
        """Whether the run needs the FER+ votes file."""
        return self.ferplus_weight > 0 or self.labels != "fer2013" or FERPLUS_TEACHER in self.teacher

    @property
    def is_baseline(self) -> bool:
        """Whether the model is a scikit-learn estimator, fitted in one go."""
        return self.model in BASELINES


def _is_schedule(schedule: tuple[tuple[float, int], ...]) -> bool:
    starts = [*(start for start, _ in schedule), 1.0]
    rising = all(a < b for a, b in pairwise(starts))
    return len(schedule) > 0 and starts[0] == 0 and rising and all(size >= 24 for _, size in schedule)
