"""The wanted detector, and the next one when it cannot load or fails; never in silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

import facedet
from pipeline.errors import DetectorError, UsageError

FALLBACKS = ("haar",)
"""What is tried, in this order, after the wanted detector. Haar needs no weights."""

Loader = Callable[[str], facedet.FaceDetector]


@dataclass(frozen=True)
class Detection:
    """The faces of one photo, who found them, and why not the wanted detector (None: it was the wanted one)."""

    faces: facedet.Faces
    detector: str
    fallback_reason: str | None


@dataclass
class DetectorChain:
    """Detects with the first detector that works. `wanted` is a name or a weight file, `load` makes a detector of it.

    Detectors after the first are loaded when they are needed. allow_fallback False: only the wanted one may be used.
    Raises UsageError for a setting that no detector can work with, DetectorError when none can be loaded.
    """

    wanted: str
    load: Loader
    allow_fallback: bool = True
    _loaded: dict[str, facedet.FaceDetector] = field(default_factory=dict, init=False)
    _refused: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not any(self._ready(name) for name in self.names):
            raise DetectorError(self._all_refusals())

    @property
    def names(self) -> tuple[str, ...]:
        """What may be tried, in order."""
        others = tuple(name for name in FALLBACKS if name != self.wanted)
        return (self.wanted, *(others if self.allow_fallback else ()))

    @property
    def load_failure(self) -> str | None:
        """Why the wanted detector is not used at all; None when it loaded."""
        return self._refused.get(self.wanted)

    @property
    def first(self) -> str:
        """The name of the detector that a photo meets first."""
        return next(self._loaded[name].name for name in self.names if name in self._loaded)

    def detect(self, pixels_bgr: npt.NDArray[np.uint8]) -> Detection:
        """Faces of one upright photo, BGR uint8 [H, W, 3]. Raises DetectorError when every detector fails on it."""
        failures: dict[str, str] = {}
        for name in self.names:
            if not self._ready(name):
                failures[name] = self._refused[name]
                continue
            detector = self._loaded[name]
            try:
                faces = _only(detector.detect([pixels_bgr]))
            except Exception as error:  # any failure of a detector is a reason to try the next, and is told
                failures[name] = f"{name} failed: {str(error) or type(error).__name__}"
                continue
            return Detection(faces, detector.name, "; ".join(failures.values()) or None)
        raise DetectorError("; ".join(failures.values()))

    def _ready(self, name: str) -> bool:
        """Load a detector once, and remember why when it cannot be."""
        if name not in self._loaded and name not in self._refused:
            try:
                self._loaded[name] = self.load(name)
            except facedet.ConfigError as error:
                raise UsageError(str(error)) from error
            except Exception as error:  # missing or damaged weights, a missing extra, a broken runtime
                self._refused[name] = f"{name} could not be loaded: {str(error) or type(error).__name__}"
        return name in self._loaded

    def _all_refusals(self) -> str:
        return "; ".join(self._refused[name] for name in self.names)


def _only(results: Sequence[facedet.Faces]) -> facedet.Faces:
    if len(results) != 1:
        raise ValueError(f"expected the faces of 1 image, got {len(results)}")
    return results[0]
