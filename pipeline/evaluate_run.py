"""Settings to evaluate: run the chain on photos whose truth is known, or take what an earlier run wrote."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from pipeline.crops import CropRule, crop_faces
from pipeline.crowd_pipeline import Classifier, CrowdPipeline
from pipeline.errors import DataError, PhotoError, UsageError
from pipeline.evaluate import Setting
from pipeline.matching import Ints
from pipeline.photos import DEFAULT_MAX_PIXELS, Photo, load_photo
from pipeline.sinks import read_results
from pipeline.truth import TruePhoto, Truth

AS_GIVEN = CropRule()
"""True boxes that already are the squares a classifier is meant to see."""

OnPhoto = Callable[[], None]


def load_true_photo(photo: TruePhoto, path: Path) -> Photo:
    """Decode a photo. Raises DataError when it cannot be read or does not have the size that the truth says."""
    try:
        decoded = load_photo(path, max_pixels=max(DEFAULT_MAX_PIXELS, photo.width * photo.height))
    except PhotoError as error:
        raise DataError(f"{path}: {error.reason}") from error
    _check_size(photo, decoded.size_wh, str(path))
    return decoded


def run_setting(
    name: str, pipeline: CrowdPipeline, truth: Truth, paths: Sequence[Path], *, on_photo: OnPhoto = lambda: None
) -> Setting:
    """Read every photo with `pipeline`. Raises DataError for a photo that cannot be read or has another size."""
    readings = []
    for photo, path in zip(truth.photos, paths, strict=True):
        decoded = load_true_photo(photo, path)
        readings.append(pipeline.classify([pipeline.detect(decoded, source=photo.source)])[0])
        on_photo()
    return Setting(name, pipeline.detectors.first, pipeline.classifier.identity, readings)


def say_on_true_boxes(
    classifier: Classifier,
    truth: Truth,
    paths: Sequence[Path],
    *,
    rule: CropRule = AS_GIVEN,
    on_photo: OnPhoto = lambda: None,
) -> Ints:
    """What the classifier says when the detector is perfect: int64 [judged faces], columns of EMOTIONS.

    rule: how a true box becomes a crop. Raises DataError as `run_setting` does.
    """
    said: list[Ints] = []
    for photo, path in zip(truth.photos, paths, strict=True):
        judged = photo.labels >= 0
        if judged.any():
            crops = crop_faces(load_true_photo(photo, path).pixels_bgr, photo.boxes_xyxy[judged], rule=rule)
            said.append(classifier.classify(crops).indices.astype(np.int64))
        on_photo()
    return np.concatenate(said)


def read_setting(out: str | Path, truth: Truth) -> Setting:
    """Take the results of `crowdmood annotate`: its output folder or its results.jsonl. A failed photo has no faces.

    Raises DataError when photos of the truth are not in it or have another size, and when it is no results file.
    """
    path = Path(out)
    path = path / "results.jsonl" if os.path.isdir(path) else path
    found = {reading.source: reading for reading in read_results(path)}
    missing = [photo.source for photo in truth.photos if photo.source not in found]
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(f"{path}: {len(missing)} of {len(truth.photos)} photos of {truth.path} are not in it: {some}")
    readings = [found[photo.source] for photo in truth.photos]
    for photo, reading in zip(truth.photos, readings, strict=True):
        if reading.width and reading.height:
            _check_size(photo, (reading.width, reading.height), f"{path}: {photo.source}")
    return Setting(
        str(out), _all_of(r.detector for r in readings), _all_of(r.emotion_model for r in readings), readings
    )


def check_same_classifier(setting: Setting, classifier: Classifier) -> None:
    """Raises UsageError when the results were made with another classifier than the one that judges true boxes."""
    if setting.emotion_model != classifier.identity:
        raise UsageError(
            f"{setting.name} was made with {setting.emotion_model}, not with {classifier.identity}: name that one "
            "with --emotion, or leave --photos out"
        )


def _check_size(photo: TruePhoto, size_wh: tuple[int, int], where: str) -> None:
    if size_wh != (photo.width, photo.height):
        width, height = size_wh
        raise DataError(f"{where}: {width} x {height} pixels, but the truth was made on {photo.width} x {photo.height}")


def _all_of(names: Iterable[str | None]) -> str:
    """The different names, in order of appearance."""
    known = dict.fromkeys(name for name in names if name)
    return ", ".join(known) or "none"
