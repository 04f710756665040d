"""What the pipeline says about one photo, and its form in results.jsonl (schema crowdmood/1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from emotion import EMOTIONS
from pipeline.errors import DataError

SCHEMA = "crowdmood/1"
SCHEMA_FILE = "crowdmood-1.schema.json"
"""JSON Schema of one line of results.jsonl, in the package folder pipeline/schema."""


@dataclass(frozen=True)
class FaceReading:
    """One face of a photo.

    box_xyxy: pixels of the upright photo, 0 <= x1 < x2 <= width, 0 <= y1 < y2 <= height. score: [0, 1].
    probabilities: every emotion by name, or None when the face is too small to be judged (`too_small`).
    corrected: the emotion that somebody has put in the place of the likeliest one, in a results.jsonl; else None.
    """

    box_xyxy: tuple[float, float, float, float]
    score: float
    probabilities: Mapping[str, float] | None
    corrected: str | None = None

    @property
    def too_small(self) -> bool:
        """True when the face was found but is under the legible size, so that no emotion is claimed."""
        return self.probabilities is None

    @property
    def emotion(self) -> str | None:
        """The likeliest emotion by name, or the corrected one; None when too small. Of equals FER-2013's first."""
        if self.probabilities is None or self.corrected is not None:
            return self.corrected
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float | None:
        """Probability of `emotion`; None when too small."""
        return None if self.probabilities is None else self.probabilities[str(self.emotion)]

    @property
    def size_px(self) -> float:
        """Mean of the box's width and height, in pixels."""
        x1, y1, x2, y2 = self.box_xyxy
        return (x2 - x1 + y2 - y1) / 2

    def to_dict(self) -> dict[str, Any]:
        """The face as an object of schema crowdmood/1: boxes to 1/100 px, probabilities to 1/10,000."""
        p = (
            None
            if self.probabilities is None
            else {name: round(value, 4) for name, value in self.probabilities.items()}
        )
        rounded = replace(self, probabilities=p)
        return {
            "box_xyxy": [round(value, 2) for value in self.box_xyxy],
            "score": round(self.score, 4),
            "emotion": rounded.emotion,
            "confidence": rounded.confidence,
            "probabilities": p,
            "too_small": self.too_small,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FaceReading:
        """Read an object of schema crowdmood/1. Raises DataError when it is not one."""
        try:
            x1, y1, x2, y2 = (_number(value) for value in data["box_xyxy"])
            if not (0 <= x1 < x2 and 0 <= y1 < y2):
                raise ValueError("expected a box with 0 <= x1 < x2 and 0 <= y1 < y2")
            p = data["probabilities"]
            named = None if p is None else {str(name): _share(value) for name, value in p.items()}
            if named is not None and set(named) != set(EMOTIONS):
                raise ValueError(f"expected probabilities of {', '.join(EMOTIONS)}")
            face = cls((x1, y1, x2, y2), _share(data["score"]), named)
            said = data.get("emotion", face.emotion)
            if said == face.emotion:
                return face
            if named is None:
                raise ValueError("expected no emotion without probabilities")
            if said not in EMOTIONS:
                raise ValueError(f"expected the emotion as one of {', '.join(EMOTIONS)}")
            return replace(face, corrected=said)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise DataError(f"expected a face of schema {SCHEMA}, got {data!r:.200} ({error!r})") from error


@dataclass(frozen=True)
class PhotoReading:
    """All that is known about one photo; `error` is set when it could not be read or its picture not written.

    source: the photo's path relative to what was asked for, with "/", or the name the caller gave.
    width, height: of the upright photo; None when it was never decoded. exif_orientation: 1 to 8, as stored in the
    file; 1 means that the file's pixels already stand upright. detector: name of the detector that made the boxes,
    fallback_reason: why it is not the wanted one. elapsed_ms: decoding, detection and the photo's share of the
    classification; None when timing was switched off.
    """

    source: str
    width: int | None = None
    height: int | None = None
    exif_orientation: int = 1
    detector: str | None = None
    fallback_reason: str | None = None
    emotion_model: str | None = None
    faces: tuple[FaceReading, ...] = ()
    elapsed_ms: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The photo as one object of schema crowdmood/1."""
        return {
            "schema": SCHEMA,
            "photo": self.source,
            "width": self.width,
            "height": self.height,
            "exif_orientation": self.exif_orientation,
            "detector": self.detector,
            "fallback_reason": self.fallback_reason,
            "emotion_model": self.emotion_model,
            "faces": [face.to_dict() for face in self.faces],
            "elapsed_ms": None if self.elapsed_ms is None else round(self.elapsed_ms, 2),
            "error": self.error,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PhotoReading:
        """Read an object of schema crowdmood/1. Raises DataError when it is not one."""
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, Mapping) else data
            raise DataError(f"expected an object with schema {SCHEMA!r}, got {found!r:.100}")
        try:
            elapsed_ms = data["elapsed_ms"]
            width, height = _pixels(data["width"]), _pixels(data["height"])
            faces = tuple(FaceReading.from_dict(face) for face in data["faces"])
            if any(face.box_xyxy[2] > (width or 0) or face.box_xyxy[3] > (height or 0) for face in faces):
                raise ValueError(f"expected boxes within the photo, which is {width} x {height} pixels")
            return cls(
                source=_file_name(data["photo"]),
                width=width,
                height=height,
                exif_orientation=_orientation(data.get("exif_orientation", 1)),
                detector=_text(data["detector"]),
                fallback_reason=_text(data.get("fallback_reason")),
                emotion_model=_text(data["emotion_model"]),
                faces=faces,
                elapsed_ms=None if elapsed_ms is None else _number(elapsed_ms),
                error=_text(data["error"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"photo {data.get('photo')!r}: not of schema {SCHEMA}: {error!r}") from error


def _number(value: Any) -> float:
    """Raises TypeError, ValueError or OverflowError when it is not a finite number."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {value}")
    return number


def _share(value: Any) -> float:
    """Raises as `_number`, and ValueError when it is not from 0 to 1."""
    number = _number(value)
    if not 0 <= number <= 1:
        raise ValueError(f"expected a number from 0 to 1, got {value}")
    return number


def _text(value: Any) -> str | None:
    """Raises ValueError when it is neither None nor text that UTF-8 can hold."""
    if value is None or isinstance(value, str):
        (value or "").encode()
        return value
    raise ValueError(f"expected text, got {value!r:.100}")


def _file_name(value: Any) -> str:
    """Raises ValueError when it cannot be the name of a file."""
    name = _text(value)
    if name is None or "\0" in name or not PurePosixPath(name).name:
        raise ValueError(f"expected the name of a photo, got {value!r}")
    return name


def _orientation(value: Any) -> int:
    """Raises ValueError when it is not one of EXIF's."""
    if isinstance(value, int) and 1 <= value <= 8:
        return value
    raise ValueError(f"expected an exif_orientation from 1 to 8, got {value!r}")


def _pixels(value: Any) -> int | None:
    """Raises ValueError when it is neither a positive whole number nor None."""
    if value is None or (isinstance(value, int) and value > 0):
        return value
    raise ValueError(f"expected a size in pixels, got {value!r}")
