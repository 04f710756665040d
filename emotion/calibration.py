"""Are probabilities worth their face value? Expected calibration error, and temperature scaling (Guo et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotion.errors import DataError
from emotion.views import probabilities

BINS = 15
FOLDS = 5


@dataclass(frozen=True)
class Calibration:
    """temperature: fitted on all images. ece_before, ece_after: in [0, 1]; after is measured by cross-fitting, each
    fold with the temperature of the others, so that no image judges a temperature that it chose."""

    temperature: float
    ece_before: float
    ece_after: float


def calibrate(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], *, seed: int = 0) -> Calibration:
    """Fit the temperature that minimises the log loss of logits [N, C] for labels [N].

    Raises DataError for fewer than `FOLDS` images.
    """
    if len(labels) < FOLDS:
        raise DataError(f"{len(labels)} images: expected at least {FOLDS} to fit a temperature")
    fold = np.random.default_rng(seed).permutation(len(labels)) % FOLDS
    after = np.empty(logits.shape, np.float32)
    for k in range(FOLDS):
        others, mine = fold != k, fold == k
        after[mine] = probabilities(logits[mine], temperature=fit_temperature(logits[others], labels[others]))
    return Calibration(
        temperature=fit_temperature(logits, labels),
        ece_before=expected_calibration_error(probabilities(logits), labels),
        ece_after=expected_calibration_error(after, labels),
    )


def fit_temperature(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Temperature in [0.05, 20] of least log loss, by golden-section search: the loss has one minimum over log T."""
    shrink = (np.sqrt(5) - 1) / 2
    low, high = np.log(0.05), np.log(20.0)
    for _ in range(40):
        left, right = high - shrink * (high - low), low + shrink * (high - low)
        if log_loss(logits, labels, np.exp(left)) < log_loss(logits, labels, np.exp(right)):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def log_loss(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean negative log probability of the labels, in nats."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    return float((np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(labels)), labels]).mean())


def expected_calibration_error(shares: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """Mean over images of |confidence - accuracy| of their confidence bin, in [0, 1]. shares: probabilities [N, C]."""
    _, confidence, accuracy, weight = reliability(shares, labels)
    return float((np.abs(confidence - accuracy) * weight).sum())


def reliability(
    shares: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Per occupied confidence bin: its middle, mean confidence, accuracy, share of the images; each float64 [bins]."""
    confidence = shares.max(1).astype(np.float64)
    right = (shares.argmax(1) == labels).astype(np.float64)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS).astype(np.float64)
    used = count > 0
    middle = (np.arange(BINS)[used] + 0.5) / BINS
    mean_confidence = np.bincount(bins, confidence, BINS)[used] / count[used]
    accuracy = np.bincount(bins, right, BINS)[used] / count[used]
    return middle, mean_confidence, accuracy, count[used] / len(labels)
