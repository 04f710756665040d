"""Measure any detector on any data set: COCO's AP, or WIDER FACE's easy, medium and hard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from facedet.coco_protocol import MAX_DETECTIONS, coco_metrics, pycocotools_classes
from facedet.data.coco import FaceDataset
from facedet.errors import ConfigError
from facedet.faces import Faces
from facedet.intervals import FloatArray, Interval, Resampled, intervals
from facedet.mistakes import Mistakes, mistakes_by_score
from facedet.operating_point import OperatingPoint, match_all, operating_point
from facedet.wider_protocol import WiderPhoto, load_wider_truth, photos_of, wider_ap

PROTOCOLS = ("coco", "wider")


@dataclass(frozen=True, eq=False)
class Measured:
    """Metrics, curves and faces as in `Evaluation`; resampled: the APs, to be taken of other draws of the photos."""

    metrics: dict[str, float | None]
    curves: Mapping[str, FloatArray]
    faces: int
    resampled: Mapping[str, Resampled]


class Detector(Protocol):
    """What evaluation needs: `detect` of BGR uint8 [H, W, 3] images. Every detector of this package qualifies.

    The report also takes its `name` and `test_scale`, a few words, where it has them.
    """

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Faces]: ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one detector reaches on one data set.

    scale: the test scale in words, say "native" or "long side 640 px". faces: those that count (WIDER: at "hard").
    metrics: name -> value in [0, 1], None where the set holds nothing to measure. intervals: 95 %, by resampling the
    photos, of each AP but those by size; empty without faces. curves: name -> float64 [K, 2],
    recall and precision. detections: one value per photo, in the data set's order. operating_point: the score
    threshold with the best F1 at IoU 0.5. by_score: what is right and wrong at rising thresholds.
    """

    detector: str
    dataset: str
    protocol: str
    scale: str
    photos: int
    faces: int
    ms_per_photo: float
    metrics: dict[str, float | None]
    intervals: dict[str, Interval]
    curves: Mapping[str, FloatArray]
    detections: tuple[Faces, ...]
    operating_point: OperatingPoint | None
    by_score: tuple[Mistakes, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything but curves and detections, ready for JSON."""
        point = asdict(self.operating_point) if self.operating_point else None
        plain = ("detector", "dataset", "protocol", "scale", "photos", "faces")
        return {
            **{name: getattr(self, name) for name in plain},
            "max_detections": MAX_DETECTIONS,
            "ms_per_photo": round(self.ms_per_photo, 2),
            "metrics": {k: _rounded(v) for k, v in self.metrics.items()},
            "intervals": {k: [_rounded(v) for v in ends] for k, ends in self.intervals.items()},
            "operating_point": {k: round(v, 4) for k, v in point.items()} if point else None,
            "by_score": [
                {**asdict(row), "precision": _rounded(row.precision), "recall": _rounded(row.recall)}
                for row in self.by_score
            ],
        }


def evaluate(
    detector: Detector,
    dataset: FaceDataset,
    protocol: str = "coco",
    *,
    on_photo: Callable[[int], None] | None = None,
) -> Evaluation:
    """Run `detector` on every photo and measure it.

    protocol: "coco", or "wider", which needs WIDER's `ground_truth` folder beside the data set's images and counts
    the photos present only.
    on_photo: called with the number of photos done. For full curves give the detector a low score threshold.
    Raises, before the first photo, ConfigError for an unknown protocol, DataError without WIDER's truth, MissingExtra;
    then DataError for a photo that cannot be read or has another size than its annotation says.
    """
    ready = _ready(dataset, protocol)
    start = perf_counter()
    detections = []
    for done, photo in enumerate(dataset.photos, 1):
        detections.extend(detector.detect([photo.read()]))
        if on_photo:
            on_photo(done)
    ms = 1000 * (perf_counter() - start) / max(len(dataset), 1)
    measured = ready(detections)
    name = str(getattr(detector, "name", type(detector).__name__))
    scale = str(getattr(detector, "test_scale", "native"))
    matches = match_all(dataset, detections)
    return Evaluation(
        name, dataset.name, protocol, scale,
        len(dataset), measured.faces, ms,
        measured.metrics, intervals(measured.resampled, len(dataset)), measured.curves, tuple(detections),
        operating_point(dataset, detections, matches), tuple(mistakes_by_score(dataset, detections, matches)),
    )  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def measure(dataset: FaceDataset, detections: Sequence[Faces], protocol: str = "coco") -> Measured:
    """What detections that are already there reach.

    Raises DataError for detections on a photo of another size than its annotation says.
    """
    ready = _ready(dataset, protocol)
    if len(detections) != len(dataset):
        raise ValueError(f"detections: expected one per photo, {len(dataset)}, got {len(detections)}")
    for photo, faces in zip(dataset.photos, detections, strict=True):
        photo.check_size(faces.image_size_wh)
    return ready(detections)


def _ready(dataset: FaceDataset, protocol: str) -> Callable[[Sequence[Faces]], Measured]:
    """The measurement of detections, once all that it needs is there; errors as in `evaluate`."""
    if protocol not in PROTOCOLS:
        raise ConfigError([f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}"])
    if protocol == "coco":
        pycocotools_classes()
        return partial(_measure_coco, dataset)
    truth = load_wider_truth(dataset.images_dir.parent / "ground_truth")
    photos_of(truth, [photo.name for photo in dataset.photos])
    return partial(_measure_wider, truth, dataset)


def _measure_coco(dataset: FaceDataset, detections: Sequence[Faces]) -> Measured:
    metrics, curves, resampled = coco_metrics(dataset, detections)
    return Measured(metrics, curves, dataset.face_count, resampled)


def _measure_wider(truth: Mapping[str, WiderPhoto], dataset: FaceDataset, detections: Sequence[Faces]) -> Measured:
    results = wider_ap(truth, {p.name: d for p, d in zip(dataset.photos, detections, strict=True)})
    metrics: dict[str, float | None] = {level: r.ap if r.faces else None for level, r in results.items()}
    resampled = {level: r.resampled for level, r in results.items() if r.faces}
    return Measured(metrics, {level: r.curve for level, r in results.items()}, results["hard"].faces, resampled)
