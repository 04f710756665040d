"""How good the whole chain is: every true face is one of correct, wrong emotion, missed; the rest is false alarms.

Of 100 faces so many are lost by the detector (missed, though their emotion would have been read rightly from the true
box), by the crop (found, but read worse from the detector's box than from the true one) and by the classifier (read
wrongly from the true box too). The three losses and the correct faces always sum to 100.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emotion import EMOTIONS
from facedet.intervals import draws, middle
from pipeline.matching import Floats, Ints, Matches, average_precision, match_readings
from pipeline.reading import PhotoReading
from pipeline.truth import Truth

SIZE_EDGES_PX = (16, 24, 32, 48, 64, 96)
"""Face sizes (mean side) at which one row of the table ends and the next begins."""
RESAMPLES = 1000
CLASSES = len(EMOTIONS)


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval, from resampling the photos. None: there is nothing to measure it on."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """A line of the table: faces = correct + wrong + missed.

    not_judged: those of `missed` that were found, but are too small for an emotion. false_alarms: by the detection's
    own size, or by the emotion it claimed.
    """

    name: str
    faces: int
    correct: int
    wrong: int
    missed: int
    not_judged: int
    false_alarms: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one setting reached.

    total, by_size, by_emotion: the table; the rows of `by_size` sum to `total`, and so do those of `by_emotion`, but
    for false alarms without an emotion. confusion: int64 [8, 8], rows: true emotion, last "no face"; columns: claimed
    emotion, last "missed". figures: see `_measure`; shares in [0, 1]. gain: difference of `correct` to the first
    setting of the run, None for that one. curve: float64 [K, 2], recall and precision over falling scores.
    """

    setting: str
    detector: str
    emotion_model: str
    total: Row
    by_size: tuple[Row, ...]
    by_emotion: tuple[Row, ...]
    confusion: Ints
    figures: dict[str, Figure]
    gain: Figure | None
    curve: Floats

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the curve."""
        names = ("setting", "detector", "emotion_model")
        return {
            **{name: getattr(self, name) for name in names},
            "total": asdict(self.total),
            "by_size": [asdict(row) for row in self.by_size],
            "by_emotion": [asdict(row) for row in self.by_emotion],
            "confusion": {
                "rows": [*EMOTIONS, "no face"],
                "columns": [*EMOTIONS, "missed"],
                "n": self.confusion.tolist(),
            },
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
            "gain": None if self.gain is None else asdict(self.gain),
        }


@dataclass(frozen=True, eq=False)
class Setting:
    """One way of working and what it said: `readings` in the order of the truth's photos.

    said_on_true_boxes: int64 [judged faces], what the classifier says on crops of the true boxes; None: not known.
    """

    name: str
    detector: str
    emotion_model: str
    readings: Sequence[PhotoReading]
    said_on_true_boxes: Ints | None = None


def evaluate(
    truth: Truth, settings: Sequence[Setting], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Evaluation]:
    """Measure every setting on the same truth, with the same resampled photos, so that differences are paired."""
    photos = len(truth.photos)
    weights = np.vstack([np.ones((1, photos)), draws(photos, resamples, seed=seed)])
    evaluations: list[Evaluation] = []
    first: Floats | None = None
    for setting in settings:
        matches = match_readings(truth.photos, setting.readings)
        measured = _measure(matches, setting.said_on_true_boxes, weights)
        gain = None if first is None else _figure(measured["correct"] - first)
        first = measured["correct"] if first is None else first
        evaluations.append(_evaluation(setting, matches, measured, gain))
    return evaluations


def _evaluation(setting: Setting, m: Matches, measured: dict[str, Floats], gain: Figure | None) -> Evaluation:
    order = np.argsort(-m.det_score, kind="stable")
    right = np.cumsum(m.det_label[order] >= 0)
    curve = np.stack([right / max(len(m.face_label), 1), right / np.arange(1, len(order) + 1)], axis=1)
    everything = np.ones(len(m.face_label), bool), np.ones(len(m.det_label), bool)
    return Evaluation(
        setting.name, setting.detector, setting.emotion_model,
        total=_row("all", m, *everything),
        by_size=_by_size(m),
        by_emotion=tuple(_row(e, m, m.face_label == i, m.det_said == i) for i, e in enumerate(EMOTIONS)),
        confusion=_confusion(m),
        figures={name: _figure(values) for name, values in measured.items()},
        gain=gain,
        curve=curve,
    )  # fmt: skip


def _by_size(m: Matches) -> tuple[Row, ...]:
    edges = SIZE_EDGES_PX
    names = [f"under {edges[0]} px", *(f"{a} to {b} px" for a, b in itertools.pairwise(edges))]
    names.append(f"{edges[-1]} px and more")
    faces, detections = np.digitize(m.face_px, edges), np.digitize(m.det_px, edges)
    return tuple(_row(name, m, faces == i, detections == i) for i, name in enumerate(names))


def _row(name: str, m: Matches, faces: npt.NDArray[np.bool_], detections: npt.NDArray[np.bool_]) -> Row:
    said, found = m.face_said[faces], m.face_found[faces]
    correct, claimed = int((said == m.face_label[faces]).sum()), int((said >= 0).sum())
    false_alarms = int((m.det_label[detections] < 0).sum())
    total = int(faces.sum())
    return Row(name, total, correct, claimed - correct, total - claimed, int(found.sum()) - claimed, false_alarms)


def _confusion(m: Matches) -> Ints:
    counts = np.zeros((CLASSES + 1, CLASSES + 1), np.int64)
    np.add.at(counts, (m.face_label, m.face_said), 1)  # -1, no emotion claimed, is the last column
    alarms = m.det_label < 0
    np.add.at(counts, (m.det_label[alarms], m.det_said[alarms]), 1)
    return counts


def _measure(m: Matches, said_on_true_boxes: Ints | None, weights: Floats) -> dict[str, Floats]:
    """Every figure for R weightings of the photos, float64 [R, photos] -> [R]; NaN where nothing can be measured.

    found, precision, false_alarms_per_photo: of the detector as it is set. detection_ap: AP at IoU 0.5.
    joint_map: mean AP over the emotions, a detection's score for each being its own times that emotion's probability.
    correct: share of all faces. emotion_on_found: of the faces found and judged. The rest needs `said_on_true_boxes`:
    emotion_on_true_boxes, lost_by_detector, lost_by_crop, lost_by_classifier, all shares of all faces.
    """
    right, claimed = m.face_said == m.face_label, m.face_said >= 0
    alarms = _sums(m.det_photo, m.det_label < 0, weights)
    faces, found = _sums(m.face_photo, np.ones(len(right)), weights), _sums(m.face_photo, m.face_found, weights)
    correct = _sums(m.face_photo, right, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = {
            "correct": correct / faces,
            "found": found / faces,
            "precision": found / (found + alarms),
            "false_alarms_per_photo": alarms / weights.sum(1),
            "emotion_on_found": correct / _sums(m.face_photo, claimed, weights),
            "detection_ap": average_precision(m.det_score, m.det_label >= 0, weights[:, m.det_photo], faces),
            "joint_map": _joint_map(m, weights),
        }
        if said_on_true_boxes is not None:
            ideal = said_on_true_boxes == m.face_label
            by_detector = _sums(m.face_photo, ideal & ~claimed, weights)
            by_crop = _sums(m.face_photo, claimed * (ideal.astype(float) - right), weights)
            ideal_sum = _sums(m.face_photo, ideal, weights)
            figures |= {
                "emotion_on_true_boxes": ideal_sum / faces,
                "lost_by_detector": by_detector / faces,
                "lost_by_crop": by_crop / faces,
                "lost_by_classifier": 1 - ideal_sum / faces,
            }
    return figures


def _joint_map(m: Matches, weights: Floats) -> Floats:
    claimed = m.det_said >= 0
    det_weights = weights[:, m.det_photo[claimed]]
    per_class = []
    for c in range(CLASSES):
        faces = _sums(m.face_photo, m.face_label == c, weights)
        scores = m.det_score[claimed] * m.det_shares[claimed, c]
        per_class.append(average_precision(scores, m.det_label[claimed] == c, det_weights, faces))
    columns = np.stack(per_class)
    there = np.isfinite(columns)
    total: Floats = np.where(there, columns, 0).sum(0) / there.sum(0)
    return total


def _sums(photo_of: Ints, values: npt.NDArray[Any], weights: Floats) -> Floats:
    """Weighted sum over photos of what each photo's faces add up to: float64 [R]."""
    per_photo = np.bincount(photo_of, weights=values.astype(np.float64), minlength=weights.shape[1])
    sums: Floats = weights @ per_photo
    return sums


def _figure(values: Floats) -> Figure:
    """Row 0 is the value itself, the others are the resamples."""
    if not np.isfinite(values[0]):
        return Figure(None)
    resampled = values[1:][np.isfinite(values[1:])]
    low, high = middle(resampled) if resampled.size else (None, None)
    return Figure(*(None if v is None else round(float(v), 4) for v in (values[0], low, high)))
