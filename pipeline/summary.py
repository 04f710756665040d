"""What a run came to, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.reading import PhotoReading


@dataclass
class Summary:
    """Totals over readings. `seconds` and `measured` (photos read in that time) give the speed."""

    photos: int = 0
    faces: int = 0
    too_small: int = 0
    errors: int = 0
    fallbacks: int = 0
    emotions: Counter[str] = field(default_factory=Counter)
    detectors: Counter[str] = field(default_factory=Counter)
    first_errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    measured: int = 0

    def add(self, readings: Iterable[PhotoReading]) -> Summary:
        """Count these readings too; returns itself."""
        for reading in readings:
            self.photos += 1
            self.faces += len(reading.faces)
            self.too_small += sum(face.too_small for face in reading.faces)
            self.fallbacks += reading.fallback_reason is not None
            self.emotions.update(face.emotion for face in reading.faces if face.emotion)
            self.detectors.update([reading.detector] if reading.detector else [])
            if reading.error is not None:
                self.errors += 1
                if len(self.first_errors) < 5:
                    self.first_errors.append(f"{reading.source}: {reading.error}")
        return self

    @property
    def photos_per_second(self) -> float:
        """Speed of this session; 0 when nothing was read."""
        return self.measured / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON; emotions and detectors most frequent first."""
        return {
            "photos": self.photos,
            "faces": self.faces,
            "too_small": self.too_small,
            "errors": self.errors,
            "fallbacks": self.fallbacks,
            "seconds": round(self.seconds, 3),
            "photos_per_second": round(self.photos_per_second, 2),
            "emotions": dict(self.emotions.most_common()),
            "detectors": dict(self.detectors.most_common()),
            "first_errors": self.first_errors,
        }

    def to_text(self) -> str:
        """For people, several lines."""
        lines = [
            f"{_count(self.photos, 'photo')}, {_count(self.faces, 'face')}, {_count(self.errors, 'error')}, "
            f"{self.photos_per_second:.1f} photos per second ({self.seconds:.1f} s)"
        ]
        if self.emotions:
            told = sum(self.emotions.values())
            shares = (f"{name} {count} ({100 * count / told:.0f}%)" for name, count in self.emotions.most_common())
            lines.append("emotions: " + ", ".join(shares))
        if self.too_small:
            lines.append(f"too small to be judged: {self.too_small} faces")
        if self.fallbacks:
            made = ", ".join(f"{name} {count}" for name, count in self.detectors.most_common())
            lines.append(f"another detector stepped in on {self.fallbacks} photos (detectors: {made})")
        lines += [f"error: {text}" for text in self.first_errors]
        if self.errors > len(self.first_errors):
            lines.append(f"... and {self.errors - len(self.first_errors)} more errors, in results.jsonl")
        return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
