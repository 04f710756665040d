"""Faces of one video followed from frame to frame, and their emotions smoothed along the way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emotion import EMOTIONS
from pipeline.errors import MissingExtra
from pipeline.reading import FaceReading, PhotoReading

SMOOTHING_S = 0.7
"""Time after which a frame's emotions weigh 1/e of a new frame's: long enough against flicker, shorter than a smile."""

LOST_S = 1.0
"""A face that was not found for so long comes back as another track."""

MIN_TRACK_SCORE = 0.4
"""A track begins with a face scored so high; weaker ones may only continue it."""


@dataclass
class Track:
    """One followed face. probabilities: smoothed, float64 [7]; total: their sum over `judged` frames."""

    number: int
    first_frame: int
    last_frame: int
    frames: int = 0
    judged: int = 0
    size_px_sum: float = 0.0
    smoothed: npt.NDArray[np.float64] | None = None
    total: npt.NDArray[np.float64] | None = None

    @property
    def mean(self) -> dict[str, float] | None:
        """Mean probabilities over the track by name; None when no frame showed it large enough."""
        return None if self.total is None else dict(zip(EMOTIONS, (self.total / self.judged).tolist(), strict=True))


class FaceTracker:
    """Gives faces of successive frames the numbers of their tracks. Uses ByteTrack (Zhang et al., ECCV 2022)."""

    def __init__(self, frames_per_second: float) -> None:
        """frames_per_second: of the frames that `update` will get. Raises MissingExtra without the extra [video]."""
        try:
            import supervision
            from trackers import ByteTrackTracker
        except ImportError as error:
            raise MissingExtra(f"following faces needs {error.name}: pip install 'crowdmood[video]'") from error
        self._detections: Any = supervision.Detections
        self._tracker: Any = ByteTrackTracker(
            lost_track_buffer=max(1, round(30 * LOST_S)),
            frame_rate=frames_per_second,
            track_activation_threshold=MIN_TRACK_SCORE,
            high_conf_det_threshold=MIN_TRACK_SCORE,
            minimum_consecutive_frames=1,
        )
        self._keep = math.exp(-1 / (frames_per_second * SMOOTHING_S))
        self.tracks: dict[int, Track] = {}

    def update(self, reading: PhotoReading, frame: int) -> list[tuple[FaceReading, int | None]]:
        """The faces of one frame with smoothed emotions, and each one's track (from 1); None in its first frame."""
        numbers = dict(self._numbers(reading))
        return [self._followed(face, numbers.get(i), frame) for i, face in enumerate(reading.faces)]

    def _numbers(self, reading: PhotoReading) -> Iterator[tuple[int, int]]:
        """Index of each tracked face, and its track."""
        boxes = np.array([face.box_xyxy for face in reading.faces], np.float64).reshape(-1, 4)
        scores = np.array([face.score for face in reading.faces], np.float64)
        rows = np.arange(len(boxes))
        given = self._detections(xyxy=boxes, confidence=scores, class_id=np.zeros_like(rows), data={"row": rows})
        found = self._tracker.update(given)
        for row, number in zip(found.data.get("row", ()), found.tracker_id, strict=True):
            if number >= 0:
                yield int(row), int(number) + 1

    def _followed(self, face: FaceReading, number: int | None, frame: int) -> tuple[FaceReading, int | None]:
        if number is None:
            return face, None
        track = self.tracks.setdefault(number, Track(number, frame, frame))
        track.last_frame = frame
        track.frames += 1
        track.size_px_sum += face.size_px
        if face.probabilities is None:
            return face, number
        now = np.array([face.probabilities[name] for name in EMOTIONS])
        track.judged += 1
        track.total = now if track.total is None else track.total + now
        track.smoothed = now if track.smoothed is None else self._keep * track.smoothed + (1 - self._keep) * now
        return replace(face, probabilities=dict(zip(EMOTIONS, track.smoothed.tolist(), strict=True))), number
