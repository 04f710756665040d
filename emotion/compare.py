"""Models side by side on one split: accuracy, a paired test against the first, size and time per face."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emotion.checkpoint import checkpoint_path
from emotion.classifier import shipped_classifiers
from emotion.data import FerSplit
from emotion.errors import DataError
from emotion.evaluate import Scorer, bootstrap_interval, load_scorer, predict

TIMED_FACES = 64


@dataclass(frozen=True)
class ComparisonRow:
    """One model. only_this, only_first: images that this model alone, or the first alone, gets right; mcnemar_p: exact
    two-sided p of such a difference by chance; None for the first row. ms_per_face: one thread, batches of 64."""

    model: str
    accuracy: float
    interval: tuple[float, float]
    only_this: int | None
    only_first: int | None
    mcnemar_p: float | None
    megabytes: float
    ms_per_face: float


def compare(weights: Sequence[str | Path], split: FerSplit) -> list[ComparisonRow]:
    """A row per weight file, in order.

    Raises WeightsError, and DataError when the models do not know the same classes, before any is measured.
    """
    scorers = [load_scorer(name, threads=1) for name in weights]
    known = [sorted(scorer.card.labels) for scorer in scorers]
    for name, labels in zip(weights, known, strict=True):
        if labels != known[0]:
            raise DataError(f"{name} knows {labels}, {weights[0]} {known[0]}: expected the same classes")
    rows: list[ComparisonRow] = []
    first: npt.NDArray[np.bool_] | None = None
    for name, scorer in zip(weights, scorers, strict=True):
        right = predict(scorer, split).right
        only_this, only_first, p = (None, None, None) if first is None else mcnemar(right, first)
        row = ComparisonRow(
            str(name), float(right.mean()), bootstrap_interval(right), only_this, only_first, p,
            megabytes=megabytes(name), ms_per_face=ms_per_face(scorer, split.images),
        )  # fmt: skip
        rows.append(row)
        first = right if first is None else first
    return rows


def mcnemar(this: npt.NDArray[np.bool_], first: npt.NDArray[np.bool_]) -> tuple[int, int, float]:
    """Images right by `this` alone, by `first` alone, and the exact two-sided McNemar p."""
    only_this, only_first = int((this & ~first).sum()), int((~this & first).sum())
    disagreements = only_this + only_first
    tail = sum(math.comb(disagreements, k) for k in range(min(only_this, only_first) + 1))
    return only_this, only_first, min(1.0, 2 * tail / 2**disagreements)


def ms_per_face(scorer: Scorer, faces: npt.NDArray[np.uint8], *, repeats: int = 5) -> float:
    """Best of `repeats` timings over up to 64 faces uint8 [N, 48, 48], in milliseconds per face."""
    some = faces[:TIMED_FACES]
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        scorer.logits(some)
        times.append(time.perf_counter() - started)
    return min(times[1:]) / len(some) * 1e3


def megabytes(weights: str | Path) -> float:
    """Size of a shipped classifier, an .onnx file or a checkpoint."""
    path = Path(weights)
    if str(weights) in shipped_classifiers():
        path = Path(__file__).parent / "weights" / f"{weights}.onnx"
    return (path if path.suffix == ".onnx" else checkpoint_path(path)).stat().st_size / 1e6
