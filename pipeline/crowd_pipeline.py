"""The chain on photos in memory: decode, detect, crop, classify. Files, folders and outputs are in run.py."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

import emotion
import facedet
from pipeline.crops import CROP_RULES, CropRule, crop_faces, rule_for
from pipeline.errors import DetectorError, PhotoError, UsageError
from pipeline.fallback import Detection, DetectorChain
from pipeline.photos import DEFAULT_MAX_PIXELS, Photo, load_photo
from pipeline.reading import FaceReading, PhotoReading

if TYPE_CHECKING:
    from PIL import Image

    PhotoLike = str | os.PathLike[str] | bytes | npt.NDArray[np.uint8] | Image.Image

MIN_LEGIBLE_PX = 12
"""Faces whose mean side is less are reported as `too_small`, without an emotion. Measured by benchmarks/face_size.py:
below it the classifier keeps less than half of what it is better than always naming the commonest emotion."""


class Classifier(Protocol):
    """What the pipeline asks of `emotion.ExpressionClassifier`."""

    @property
    def identity(self) -> str: ...

    def classify(self, crops: Sequence[npt.NDArray[np.uint8]]) -> emotion.Expressions:
        """One row per crop, in order."""
        ...


@dataclass(frozen=True, eq=False)
class Detected:
    """A photo between detection and classification, or one that failed before it (`error`)."""

    source: str
    photo: Photo | None = None
    detection: Detection | None = None
    crops: tuple[npt.NDArray[np.uint8], ...] = ()
    elapsed_ms: float = 0.0
    error: str | None = None


class CrowdPipeline:
    """Faces and emotions of photos. Made by `default`, or of parts: a chain of detectors and a classifier."""

    def __init__(
        self,
        detectors: DetectorChain,
        classifier: Classifier,
        *,
        min_legible_px: float = MIN_LEGIBLE_PX,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        crop_rules: Mapping[str, CropRule] = CROP_RULES,
    ) -> None:
        self.detectors = detectors
        self.classifier = classifier
        self._min_legible_px = min_legible_px
        self._max_pixels = max_pixels
        self._crop_rules = crop_rules

    @classmethod
    def default(
        cls,
        detector: str | None = None,
        emotion_model: str = "default",
        *,
        scale: int | None = None,
        min_score: float | None = None,
        min_face_px: int | None = None,
        min_legible_px: float | None = None,
        threads: int | None = None,
        fallback: bool = True,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> CrowdPipeline:
        """The shipped models, or others by name or weight file.

        scale, min_score, min_face_px: as in `facedet.load_detector`. min_legible_px: smaller faces get no emotion;
        None means MIN_LEGIBLE_PX. threads: processor threads of each model. fallback: whether another detector may
        step in. max_pixels: larger photos are refused. Raises UsageError, DetectorError, or `emotion.WeightsError`.
        """
        _check_named_file(detector)
        load = partial(
            facedet.load_detector, scale=scale, threads=threads, min_score=min_score, min_face_px=min_face_px
        )
        chain = DetectorChain(detector or facedet.DEFAULT_DETECTOR, load, allow_fallback=fallback)
        classifier = emotion.load_classifier(emotion_model, threads=threads)
        legible_px = MIN_LEGIBLE_PX if min_legible_px is None else min_legible_px
        return cls(chain, classifier, min_legible_px=legible_px, max_pixels=max_pixels)

    def read(self, photo: PhotoLike, *, source: str | None = None) -> PhotoReading:
        """Read one photo: a path, an encoded file's bytes, a PIL image, or uint8 [H, W, 3] BGR or [H, W] grey.

        source: the name it gets in the reading; the path as given, or "array" and so on, when None.
        Raises PhotoError when it cannot be read or the classifier fails, DetectorError when no detector can be used.
        """
        name = source if source is not None else _name_of(photo)
        started = time.perf_counter()
        try:
            decoded = load_photo(photo, max_pixels=self._max_pixels)
            decode_ms = 1000 * (time.perf_counter() - started)
            return self.classify([self.detect(decoded, source=name, decode_ms=decode_ms)])[0]
        except PhotoError as error:
            raise PhotoError(error.reason, source=name) from error

    def read_many(self, photos: Iterable[PhotoLike], *, batch: int = 8) -> Iterator[PhotoReading]:
        """Read photos in order; `batch` photos share a call of the classifier. A bad photo: `error` is set."""
        waiting: list[Detected] = []
        for photo in photos:
            waiting.append(self._detect_or_error(photo))
            if len(waiting) >= batch:
                yield from self.classify_or_error(waiting)
                waiting = []
        yield from self.classify_or_error(waiting)

    def detect(self, photo: Photo, *, source: str, decode_ms: float = 0.0) -> Detected:
        """First half: find the faces of a decoded photo and cut them out. decode_ms is added to the time it took."""
        started = time.perf_counter()
        detection = self.detectors.detect(photo.pixels_bgr)
        rule = rule_for(detection.detector, self._crop_rules)
        legible = detection.faces.boxes_xyxy[_sizes_px(detection.faces) >= self._min_legible_px]
        crops = crop_faces(photo.pixels_bgr, legible, rule=rule)
        elapsed_ms = decode_ms + 1000 * (time.perf_counter() - started)
        return Detected(source, photo, detection, tuple(crops), elapsed_ms)

    def classify(self, photos: Sequence[Detected]) -> list[PhotoReading]:
        """Second half: the faces of all these photos in one call of the classifier; one reading per photo, in order.

        Raises PhotoError when the classifier fails.
        """
        started = time.perf_counter()
        crops = [crop for photo in photos for crop in photo.crops]
        try:
            probabilities = self.classifier.classify(crops).probabilities
        except Exception as error:  # out of memory, weights that take other inputs; as with detectors, any is told
            reason = f"{self.classifier.identity} failed: {str(error) or type(error).__name__}"
            raise PhotoError(reason) from error
        ms_per_face = 1000 * (time.perf_counter() - started) / max(len(crops), 1)
        readings, end = [], 0
        for photo in photos:
            start, end = end, end + len(photo.crops)
            readings.append(self._reading(photo, probabilities[start:end], (end - start) * ms_per_face))
        return readings

    def classify_or_error(self, photos: Sequence[Detected]) -> list[PhotoReading]:
        """As `classify`. When the classifier fails each photo is tried alone, and one on which it fails has `error`."""
        try:
            return self.classify(photos)
        except PhotoError as error:
            if len(photos) > 1:
                return [reading for photo in photos for reading in self.classify_or_error([photo])]
            return [PhotoReading(photo.source, elapsed_ms=photo.elapsed_ms, error=error.reason) for photo in photos]

    def _reading(self, found: Detected, probabilities: npt.NDArray[np.float32], classify_ms: float) -> PhotoReading:
        elapsed_ms = found.elapsed_ms + classify_ms
        if found.photo is None or found.detection is None:
            return PhotoReading(found.source, elapsed_ms=elapsed_ms, error=found.error)
        width, height = found.photo.size_wh
        return PhotoReading(
            source=found.source,
            width=width,
            height=height,
            exif_orientation=found.photo.exif_orientation,
            detector=found.detection.detector,
            fallback_reason=found.detection.fallback_reason,
            emotion_model=self.classifier.identity,
            faces=self._faces(found.detection.faces, probabilities),
            elapsed_ms=elapsed_ms,
        )

    def _faces(self, faces: facedet.Faces, probabilities: npt.NDArray[np.float32]) -> tuple[FaceReading, ...]:
        rows = iter(probabilities.tolist())
        readings = []
        for box, score, size in zip(faces.boxes_xyxy.tolist(), faces.scores.tolist(), _sizes_px(faces), strict=True):
            legible = size >= self._min_legible_px
            named = dict(zip(emotion.EMOTIONS, next(rows), strict=True)) if legible else None
            readings.append(FaceReading((box[0], box[1], box[2], box[3]), score, named))
        return tuple(readings)

    def _detect_or_error(self, photo: PhotoLike) -> Detected:
        started = time.perf_counter()
        try:
            decoded = load_photo(photo, max_pixels=self._max_pixels)
            decode_ms = 1000 * (time.perf_counter() - started)
            return self.detect(decoded, source=_name_of(photo), decode_ms=decode_ms)
        except (PhotoError, DetectorError) as error:
            reason = error.reason if isinstance(error, PhotoError) else str(error)
            return Detected(_name_of(photo), elapsed_ms=1000 * (time.perf_counter() - started), error=reason)


def _check_named_file(detector: str | None) -> None:
    """A weight file that is not there is a slip of the pen, and no reason to fall back."""
    if detector is None or detector in facedet.DETECTORS:
        return
    if Path(detector).suffix and not os.path.isfile(detector):
        raise UsageError(f"{detector}: no such weight file, and no detector of that name")


def _sizes_px(faces: facedet.Faces) -> npt.NDArray[np.float32]:
    x1, y1, x2, y2 = faces.boxes_xyxy.T
    return np.asarray((x2 - x1 + y2 - y1) / 2, np.float32)


def _name_of(photo: PhotoLike) -> str:
    if isinstance(photo, str | os.PathLike):
        return os.fspath(photo)
    return {"ndarray": "array", "bytes": "bytes"}.get(type(photo).__name__, "image")
