"""Measure where a detector's boxes should be cut: fit its `CropRule` on faces whose true squares are known.

Half of the photos fit the rule, the other half say what it gains over cutting the box as it comes. The fit begins with
geometry (which rule turns the detector's boxes into the true squares) and goes on to what counts, the classifier's log
loss on the crops, because it is smoother than accuracy and so needs fewer faces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from facedet import FaceDetector
from facedet.intervals import draws, middle
from pipeline.crops import CropRule, Grey, Padding, Resampling, Side, crop_faces, rule_for, square_boxes
from pipeline.crowd_pipeline import Classifier
from pipeline.errors import DataError
from pipeline.evaluate import Figure
from pipeline.evaluate_run import AS_GIVEN, load_true_photo
from pipeline.matching import match_boxes
from pipeline.truth import Truth

LOOSE_IOU = 0.3
"""A box this near to a true square was meant for it; 0.5 would leave out the very boxes whose rule is sought."""
REACH = 1.5
"""What is kept of a photo around each box, in box sides to every side; a square beyond it is not tried."""
SCALES, SHIFTS = (0.8, 0.9, 1.0, 1.1, 1.2), (-0.08, -0.04, 0.0, 0.04, 0.08)
"""First steps of the search around the geometric rule; the second steps are a third of them."""
DETAILS: dict[str, tuple[Any, ...]] = {
    "padding": get_args(Padding),
    "grey": get_args(Grey),
    "resampling": get_args(Resampling),
}
"""What is tried last, one after the other."""
SURE_ERRORS = 3.0
"""By so many standard errors a searched rule must beat the geometric one."""
MIN_FACES = 20
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Sample:
    """A face that the detector found. patch: the photo around it, uint8 [H, W, 3]; boxes: float32 [4], in the patch."""

    photo: int
    patch: npt.NDArray[np.uint8]
    box_xyxy: npt.NDArray[np.float32]
    true_xyxy: npt.NDArray[np.float32]
    label: int


@dataclass(frozen=True)
class Trial:
    """A rule on the faces that were not used for the fit. gain: of accuracy over the box as it comes."""

    name: str
    rule: CropRule | None
    accuracy: float
    log_loss: float
    gain: Figure


@dataclass(frozen=True)
class Calibration:
    """What was found for one detector. spread: standard deviation of log(true side / box side), per `Side`."""

    detector: str
    emotion_model: str
    fitted_on: int
    validated_on: int
    spread: dict[str, float]
    rule: CropRule
    trials: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """A table, and the line for CROP_RULES."""
        lines = [
            f"{self.detector}, {self.emotion_model}: fitted on {self.fitted_on} faces, checked on {self.validated_on}"
        ]
        lines.append(f"{'crop':<22}{'accuracy':>9}{'log loss':>10}   gain in points")
        for t in self.trials:
            low, value, high = (100 * (v or 0) for v in (t.gain.low, t.gain.value, t.gain.high))
            gain = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
            lines.append(f"{t.name:<22}{100 * t.accuracy:>8.1f}%{t.log_loss:>10.3f}   {gain}")
        return "\n".join([*lines, f'    "{self.detector}": {self.rule},'])


def collect(
    detector: FaceDetector,
    truth: Truth,
    paths: Sequence[Path],
    *,
    limit: int = 2000,
    on_photo: Callable[[], None] = lambda: None,
) -> list[Sample]:
    """Detect on every photo, until `limit` true faces are found, and keep each with its surroundings.

    Raises DataError for photos that cannot be read or have another size than the truth says.
    """
    samples: list[Sample] = []
    for number, (photo, path) in enumerate(zip(truth.photos, paths, strict=True)):
        if len(samples) >= limit:
            break
        pixels = load_true_photo(photo, path).pixels_bgr
        boxes = detector.detect([pixels])[0].boxes_xyxy
        owners = match_boxes(boxes, photo.boxes_xyxy, photo.labels >= 0, LOOSE_IOU)
        for box, owner in zip(boxes, owners.tolist(), strict=True):
            if owner >= 0:
                samples.append(_sample(number, pixels, box, photo.boxes_xyxy[owner], int(photo.labels[owner])))
        on_photo()
    return samples[:limit]


def calibrate(
    samples: Sequence[Sample],
    classifier: Classifier,
    detector: str,
    *,
    seed: int = 0,
    starts: Iterable[Side] | None = None,
) -> Calibration:
    """Fit on half of the photos, measure on the other. starts: sides to try; None: the one with the least spread.

    Raises DataError when fewer than MIN_FACES faces fall into either half.
    """
    fit, check = _halves(samples, seed)
    if min(len(fit), len(check)) < MIN_FACES:
        raise DataError(
            f"{detector} found {len(fit) + len(check)} of the true faces: too few to fit and check a crop rule on"
        )
    spread = {side: geometric_rule(fit, side)[1] for side in get_args(Side)}
    sides = list(starts or [min(spread, key=spread.__getitem__)])
    best = min((_search(fit, geometric_rule(fit, side)[0], classifier) for side in sides), key=lambda found: found[1])[
        0
    ]
    rules = {
        "box as it comes": AS_GIVEN,
        "rule in crops.py": rule_for(detector),
        "geometric": geometric_rule(fit, best.side)[0],
        "fitted": best,
    }
    return Calibration(
        detector, classifier.identity, len(fit), len(check), spread, best, tuple(_trials(check, rules, classifier))
    )


def geometric_rule(samples: Sequence[Sample], side: Side) -> tuple[CropRule, float]:
    """The rule of this side that makes squares like the true ones (medians), and its spread, see `Calibration`."""
    boxes, true_boxes = np.stack([s.box_xyxy for s in samples]), np.stack([s.true_xyxy for s in samples])
    squares, wanted = square_boxes(boxes, rule=CropRule(side)), square_boxes(true_boxes, rule=AS_GIVEN)
    ratios = np.log((wanted[:, 2] - wanted[:, 0]) / (squares[:, 2] - squares[:, 0]))
    lower = (wanted[:, 1] + wanted[:, 3] - squares[:, 1] - squares[:, 3]) / 2
    shift = np.median(lower / (wanted[:, 2] - wanted[:, 0]))
    return CropRule(side, round(float(np.exp(np.median(ratios))), 3), round(float(shift), 3)), round(
        float(ratios.std()), 4
    )


def log_losses(
    samples: Sequence[Sample], rule: CropRule | None, classifier: Classifier
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Log loss and "is right" of every sample, float64 [N] and bool [N]. rule None: the true squares are cut."""
    crops = []
    for s in samples:
        box = s.true_xyxy if rule is None else s.box_xyxy
        crops += crop_faces(s.patch, box[None], rule=AS_GIVEN if rule is None else rule)
    shares = classifier.classify(crops).probabilities.astype(np.float64)
    labels = np.array([s.label for s in samples])
    own = shares[np.arange(len(labels)), labels]
    return -np.log(np.maximum(own, 1e-6)), shares.argmax(1) == labels


def _sample(
    number: int, pixels: npt.NDArray[np.uint8], box: npt.NDArray[np.float32], true: npt.NDArray[np.float32], label: int
) -> Sample:
    """Cut a patch; where it ends at the photo's border, crops are padded as they would be in the photo."""
    height, width = pixels.shape[:2]
    reach = REACH * float(max(box[2] - box[0], box[3] - box[1]))
    x1, y1 = max(int(box[0] - reach), 0), max(int(box[1] - reach), 0)
    x2, y2 = min(int(box[2] + reach) + 1, width), min(int(box[3] + reach) + 1, height)
    corner = np.array([x1, y1, x1, y1], np.float32)
    return Sample(number, pixels[y1:y2, x1:x2].copy(), box - corner, true - corner, label)


def _halves(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    photos = sorted({s.photo for s in samples})
    chosen = set(np.random.default_rng(seed).permutation(photos)[: len(photos) // 2].tolist())
    return [s for s in samples if s.photo in chosen], [s for s in samples if s.photo not in chosen]


def _search(samples: Sequence[Sample], start: CropRule, classifier: Classifier) -> tuple[CropRule, float]:
    """The rule with the least mean log loss near `start`: a coarse grid, a fine one, then padding, grey, resampling.

    Some fifty rules are tried, and with few faces chance picks the best of them: unless it is better than `start` by
    SURE_ERRORS standard errors of the paired difference, `start` stays.
    """
    losses: dict[CropRule, npt.NDArray[np.float64]] = {}

    def loss(rule: CropRule) -> float:
        if rule not in losses:
            losses[rule] = log_losses(samples, rule, classifier)[0]
        return float(losses[rule].mean())

    centre = start
    for fine in (1, 1 / 3):
        grid = [
            replace(
                centre,
                scale=round(centre.scale * (1 + fine * (scale - 1)), 3),
                shift_y=round(centre.shift_y + fine * shift, 3),
            )
            for scale in SCALES
            for shift in SHIFTS
        ]
        centre = min(grid, key=loss)
    best = centre
    for trials in DETAILS.items():
        best = min(_changed(best, *trials), key=loss)
    loss(start)
    gains = losses[start] - losses[best]
    sure = gains.mean() > SURE_ERRORS * gains.std() / np.sqrt(len(gains))
    chosen = best if sure else start
    return chosen, loss(chosen)


def _changed(rule: CropRule, detail: str, values: Sequence[Any]) -> list[CropRule]:
    """The rule with each value of one detail, its own first: of equals it stays."""
    own = getattr(rule, detail)
    return [rule, *(replace(rule, **{detail: value}) for value in values if value != own)]


def _trials(samples: Sequence[Sample], rules: dict[str, CropRule], classifier: Classifier) -> Iterable[Trial]:
    """Every rule, and the true squares, with the gain over the first rule; intervals over photos, paired."""
    _, photo_of = np.unique([s.photo for s in samples], return_inverse=True)
    photos = int(photo_of.max()) + 1
    drawn = draws(photos, RESAMPLES)
    sizes = drawn @ np.bincount(photo_of)
    base: npt.NDArray[np.bool_] | None = None
    for name, rule in [*rules.items(), ("true squares", None)]:
        losses, right = log_losses(samples, rule, classifier)
        base = right if base is None else base
        gain = right.astype(float) - base
        ends = middle((drawn @ np.bincount(photo_of, weights=gain)) / np.maximum(sizes, 1))
        figure = Figure(*(round(float(v), 4) for v in (gain.mean(), *ends)))
        yield Trial(name, rule, float(right.mean()), float(losses.mean()), figure)
