"""Figures of a classifier on one labelled split. "Accuracy" is top-1 over all classes, never binary."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from emotion.calibration import expected_calibration_error, log_loss
from emotion.card import ModelCard
from emotion.classifier import load_classifier, shipped_classifiers
from emotion.data import FerSplit, ferplus_relabelled, near_copies
from emotion.views import probabilities

BOOTSTRAP_SAMPLES = 2_000


class Scorer(Protocol):
    """What can be evaluated: an `ExpressionClassifier` or a torch `Checkpoint`."""

    @property
    def card(self) -> ModelCard: ...
    @property
    def identity(self) -> str: ...
    def logits(self, faces: npt.NDArray[np.uint8], *, test_time: str | None = None) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class Predictions:
    """Outputs for a labelled split, restricted to the model's classes.

    split: the images, labels int64 [N] being columns of `names`; logits: float32 [N, C]; temperature: the card's.
    """

    split: FerSplit
    logits: npt.NDArray[np.float32]
    names: tuple[str, ...]
    temperature: float

    @property
    def chosen(self) -> npt.NDArray[np.intp]:
        """int [N], the likeliest class."""
        columns: npt.NDArray[np.intp] = self.logits.argmax(1)
        return columns

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """bool [N], whether the likeliest class is the label."""
        same: npt.NDArray[np.bool_] = self.chosen == self.split.labels
        return same

    @property
    def shares(self) -> npt.NDArray[np.float32]:
        """float32 [N, C], probabilities after the temperature."""
        return probabilities(self.logits, temperature=self.temperature)


@dataclass(frozen=True)
class ClassFigures:
    """One class against the rest; values in [0, 1]. auc is None where the split has one kind of label only.

    recall_interval: 95 %, None for a class without images.
    """

    name: str
    images: int
    precision: float
    recall: float
    f1: float
    auc: float | None
    recall_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Evaluation:
    """All figures, ready for JSON. Rows of `confusion` are labels, columns predictions, in the order of `per_class`.

    Intervals: 95 %, by resampling the images. binary_accuracy: what Keras' "binary_accuracy" calls accuracy,
    over one-hot labels at threshold 0.5, and binary_recall, the share of labels given more than that; kept to show how
    little they say. without_duplicates: accuracy on the images whose pixels do not occur in Training, None when
    Training was not at hand or has them all; without_near_copies likewise on those that do not occur there a little
    differently cut or saved either. duplicates, near_copies: how many are left out. duplicates_by_heart: accuracy had
    the duplicates got the labels that Training gives them, to compare with figures of networks trained on them.
    """

    model: str
    split: str
    images: int
    test_time: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    binary_accuracy: float
    binary_recall: float
    log_loss: float
    temperature: float
    ece_before: float
    ece_after: float
    per_class: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    duplicates: int | None = None
    without_duplicates: float | None = None
    duplicates_by_heart: float | None = None
    near_copies: int | None = None
    without_near_copies: float | None = None
    ferplus_accuracy: float | None = None
    ferplus_images: int | None = None
    balanced_accuracy_interval: tuple[float, float] | None = None
    macro_f1_interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return dataclasses.asdict(self)


def load_scorer(weights: str | Path, *, threads: int | None = None) -> Scorer:
    """A shipped name or .onnx file as an `ExpressionClassifier`; a .pt file or run folder as a torch `Checkpoint`."""
    if _is_checkpoint(weights):
        import torch

        from emotion.checkpoint import load_checkpoint

        if threads is not None:
            torch.set_num_threads(threads)
        return load_checkpoint(weights)
    return load_classifier(weights, threads=threads)


def run_of(weights: str | Path) -> Path | None:
    """The run folder that weights lie in; None for a shipped name, an .onnx file and a checkpoint on its own."""
    path = Path(weights)
    run = path if path.is_dir() else path.parent
    return run if _is_checkpoint(weights) and (run / "log.jsonl").is_file() else None


def _is_checkpoint(weights: str | Path) -> bool:
    path = Path(weights)
    return str(weights) not in shipped_classifiers() and (path.suffix == ".pt" or path.is_dir())


def predict(scorer: Scorer, split: FerSplit, *, test_time: str | None = None) -> Predictions:
    """Score a split (labels in `EMOTIONS` order); images of classes that the model does not know are left out."""
    mine = split.of_classes(scorer.card.labels)
    logits = scorer.logits(mine.images, test_time=test_time)
    return Predictions(mine, logits, scorer.card.labels, scorer.card.temperature)


def evaluate(
    predictions: Predictions,
    model: str,
    *,
    split: str,
    test_time: str = "none",
    train: FerSplit | None = None,
    ferplus: tuple[float, int] | None = None,
) -> Evaluation:
    """All figures. `train` adds accuracy without what it shares; `ferplus` is what `ferplus_accuracy` gave."""
    labels, chosen, right = predictions.split.labels, predictions.chosen, predictions.right
    classes = range(len(predictions.names))
    raw, shares = probabilities(predictions.logits), predictions.shares
    binary, binary_recall = binary_figures(shares, labels)
    confusion = metrics.confusion_matrix(labels, chosen, labels=classes)
    intervals = confusion_intervals(confusion)
    per_class = _per_class(predictions, intervals.recall)
    evaluation = Evaluation(
        model=model, split=split, images=len(labels), test_time=test_time,
        accuracy=float(right.mean()),
        accuracy_interval=bootstrap_interval(right),
        balanced_accuracy=float(np.mean([c.recall for c in per_class if c.images])),
        macro_f1=float(np.mean([c.f1 for c in per_class if c.images])),
        binary_accuracy=binary,
        binary_recall=binary_recall,
        log_loss=log_loss(predictions.logits, labels, predictions.temperature),
        temperature=predictions.temperature,
        ece_before=expected_calibration_error(raw, labels),
        ece_after=expected_calibration_error(shares, labels),
        per_class=per_class,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        balanced_accuracy_interval=intervals.balanced_accuracy,
        macro_f1_interval=intervals.macro_f1,
    )  # fmt: skip
    if train is not None:
        same = duplicate_images(predictions.split, train)
        near = same | near_copies(predictions.split, train)
        without = [float(right[~left_out].mean()) if not left_out.all() else None for left_out in (same, near)]
        evaluation = dataclasses.replace(
            evaluation,
            duplicates=int(same.sum()), without_duplicates=without[0],
            duplicates_by_heart=float(_by_heart(predictions, train).mean()) if same.any() else None,
            near_copies=int(near.sum()), without_near_copies=without[1],
        )  # fmt: skip
    if ferplus is not None:
        evaluation = dataclasses.replace(evaluation, ferplus_accuracy=ferplus[0], ferplus_images=ferplus[1])
    return evaluation


def binary_figures(shares: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Accuracy and recall of N x C yes-or-no answers, "probability above 0.5", against one-hot labels.

    A model that never says yes has accuracy (C - 1) / C and recall 0.
    """
    one_hot = labels[:, None] == np.arange(shares.shape[1])
    yes = shares > 0.5
    return float((yes == one_hot).mean()), float(yes[one_hot].mean())


def bootstrap_interval(right: npt.NDArray[np.bool_], *, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of `right`; resampling N images with replacement draws from a binomial."""
    return _middle(np.random.default_rng(seed).binomial(len(right), right.mean(), BOOTSTRAP_SAMPLES) / len(right))


@dataclass(frozen=True)
class Intervals:
    """95 % intervals; of recall one per class, None for a class without images."""

    balanced_accuracy: tuple[float, float]
    macro_f1: tuple[float, float]
    recall: tuple[tuple[float, float] | None, ...]


def confusion_intervals(confusion: npt.NDArray[np.int64], *, seed: int = 0) -> Intervals:
    """Intervals of what a confusion matrix [C, C], rows being labels, says of its classes.

    Resampling N images with replacement draws the matrix from a multinomial; every figure is taken from the same draws,
    over the classes that a draw has.
    """
    count, cells = len(confusion), confusion.sum()
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(cells, confusion.ravel() / cells, BOOTSTRAP_SAMPLES).reshape(-1, count, count)
    hits, labelled, said = drawn.diagonal(axis1=1, axis2=2), drawn.sum(2), drawn.sum(1)
    present = labelled > 0
    classes = present.sum(1)
    recall = hits / np.maximum(labelled, 1)
    f1 = np.where(present, 2 * hits / np.maximum(labelled + said, 1), 0.0)
    known = confusion.sum(1) > 0
    return Intervals(
        balanced_accuracy=_middle(recall.sum(1) / classes),
        macro_f1=_middle(f1.sum(1) / classes),
        recall=tuple(_middle(recall[present[:, i], i]) if known[i] else None for i in range(count)),
    )


def _middle(draws: npt.NDArray[np.floating[Any]]) -> tuple[float, float]:
    """The middle 95 % of draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def duplicate_images(split: FerSplit, train: FerSplit) -> npt.NDArray[np.bool_]:
    """bool [N]: which images of `split` occur, byte for byte, in `train`."""
    return np.array([bool(labels) for labels in _labels_of_copies(split, train)], bool)


def _by_heart(predictions: Predictions, train: FerSplit) -> npt.NDArray[np.bool_]:
    """bool [N]: what would be right with the commonest label of its copies in `train` for each image that has any."""
    right = predictions.right.copy()
    for i, labels in enumerate(_labels_of_copies(predictions.split, train.of_classes(predictions.names))):
        if labels:
            right[i] = labels.most_common(1)[0][0] == predictions.split.labels[i]
    return right


def _labels_of_copies(split: FerSplit, train: FerSplit) -> list[Counter[int]]:
    """For each image of `split` the labels in `train` of those that are the same byte for byte, mostly none."""
    known: dict[bytes, Counter[int]] = {}
    for image, label in zip(train.images, train.labels, strict=True):
        known.setdefault(image.tobytes(), Counter())[int(label)] += 1
    return [known.get(image.tobytes(), Counter()) for image in split.images]


def ferplus_accuracy(
    scorer: Scorer, split: FerSplit, votes_file: Path, *, test_time: str | None = None
) -> tuple[float, int]:
    """Agreement with the FER+ majority, over the images whose majority is one of the model's classes, and their number.

    split: all images; their labels do not count. An image whose majority is contempt or a tie, or that has no votes, is
    left out. Raises DataError when none is left.
    """
    right = predict(scorer, ferplus_relabelled(split, votes_file), test_time=test_time).right
    return float(right.mean()), len(right)


def _per_class(
    predictions: Predictions, recall_intervals: Sequence[tuple[float, float] | None]
) -> tuple[ClassFigures, ...]:
    labels, count = predictions.split.labels, len(predictions.names)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predictions.chosen, labels=range(count), zero_division=0.0
    )
    figures = []
    for i, name in enumerate(predictions.names):
        both_kinds = 0 < support[i] < len(labels)
        auc = float(metrics.roc_auc_score(labels == i, predictions.shares[:, i])) if both_kinds else None
        figures.append(
            ClassFigures(
                name, int(support[i]), float(precision[i]), float(recall[i]), float(f1[i]), auc, recall_intervals[i]
            )
        )
    return tuple(figures)
