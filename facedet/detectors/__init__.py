"""What a detector is, and the detectors by name. Adding one is a builder and a line in DETECTORS."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from facedet.errors import ConfigError, MissingExtra, WeightsError
from facedet.faces import Faces


class FaceDetector(Protocol):
    """Finds faces. `name` goes into every result."""

    @property
    def name(self) -> str: ...

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Faces]:
        """One Faces per image, in order. images: upright, BGR uint8 [H, W, 3], sizes may differ."""
        ...


class Builder(Protocol):
    """Makes a detector; None means the detector's own measured default. Units as in `load_detector`."""

    def __call__(
        self, *, scale: int | None, threads: int | None, min_score: float | None, min_face_px: int | None
    ) -> FaceDetector: ...


class CheckpointBuilder(Protocol):
    """Makes a detector of a weight file."""

    def __call__(
        self, path: Path, *, scale: int | None, threads: int | None, min_score: float | None, min_face_px: int | None
    ) -> FaceDetector: ...


def _haar(*, scale: int | None, threads: int | None, min_score: float | None, min_face_px: int | None) -> FaceDetector:
    from facedet.detectors.haar import HaarDetector

    return HaarDetector(scale=scale, threads=threads, min_score=min_score, min_face_px=min_face_px)


def _faster_rcnn(
    path: Path, *, scale: int | None, threads: int | None, min_score: float | None, min_face_px: int | None
) -> FaceDetector:
    try:
        from facedet.detectors.faster_rcnn import FasterRCNNDetector
    except ImportError as e:
        raise MissingExtra(f"{path}: Faster R-CNN needs torch and torchvision: pip install 'crowdmood[train]'") from e
    return FasterRCNNDetector(path, scale=scale, threads=threads, min_score=min_score, min_face_px=min_face_px)


def _compact(
    *, scale: int | None, threads: int | None, min_score: float | None, min_face_px: int | None
) -> FaceDetector:
    from facedet.detectors.compact import load_compact

    return load_compact(scale=scale, threads=threads, min_score=min_score, min_face_px=min_face_px)


def _compact_file(
    path: Path, *, scale: int | None, threads: int | None, min_score: float | None, min_face_px: int | None
) -> FaceDetector:
    from facedet.detectors.compact import load_compact

    return load_compact(path, scale=scale, threads=threads, min_score=min_score, min_face_px=min_face_px)


DETECTORS: dict[str, Builder] = {
    "compact": _compact,
    "haar": _haar,
}
"""Detectors that need no file from the user, by name."""

CHECKPOINTS: dict[str, CheckpointBuilder] = {
    ".onnx": _compact_file,
    ".pth": _faster_rcnn,
    ".pkl": _faster_rcnn,
}
"""Detectors that are made of a user's weight file, by the file's suffix in lower case, with the dot."""

DEFAULT_DETECTOR = "compact"


def load_detector(
    name_or_path: str | Path = DEFAULT_DETECTOR,
    *,
    scale: int | None = None,
    threads: int | None = None,
    min_score: float | None = None,
    min_face_px: int | None = None,
) -> FaceDetector:
    """A detector by name (a key of DETECTORS) or by weight file (a suffix of CHECKPOINTS).

    scale: long side in pixels to which larger photos are reduced first; boxes always refer to the photo as given.
    threads: number of processor threads. min_score: faces below it are left out, in [0, 1].
    min_face_px: faces whose shorter side is less are left out, in pixels of the photo as given.
    None means the detector's own default. Raises ConfigError for settings that cannot work and unknown names,
    WeightsError for a missing or damaged file, MissingExtra when the detector needs an extra.
    """
    checks = [
        (scale is None or scale >= 16, f"scale {scale}: expected a long side of at least 16 px"),
        (threads is None or threads >= 1, f"threads {threads}: expected at least 1"),
        (min_score is None or 0 <= min_score <= 1, f"min_score {min_score}: expected 0 to 1"),
        (min_face_px is None or min_face_px >= 1, f"min_face_px {min_face_px}: expected at least 1 px"),
    ]
    faults = [message for good, message in checks if not good]
    name, suffix = str(name_or_path), Path(name_or_path).suffix.lower()
    if name not in DETECTORS and suffix not in CHECKPOINTS:
        files = "".join(f", or a {known} file" for known in sorted(CHECKPOINTS))
        faults.append(f"detector {name!r}: expected one of {', '.join(sorted(DETECTORS))}{files}")
    if faults:
        raise ConfigError(faults)
    if name in DETECTORS:
        return DETECTORS[name](scale=scale, threads=threads, min_score=min_score, min_face_px=min_face_px)
    path = Path(name_or_path)
    if not os.path.isfile(path):
        raise WeightsError(f"{path}: no such weight file")
    return CHECKPOINTS[suffix](path, scale=scale, threads=threads, min_score=min_score, min_face_px=min_face_px)
