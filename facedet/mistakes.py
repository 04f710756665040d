"""What is right and wrong at each score threshold, and which kinds of mistake there are (TIDE, Bolya et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facedet.boxes import iou_matrix
from facedet.data.coco import FaceDataset, Photo
from facedet.faces import Faces
from facedet.operating_point import Match

SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MIN_IOU, FACE_ALL_THE_SAME_IOU = 0.5, 0.3


@dataclass(frozen=True)
class Mistakes:
    """Counts over a set, of detections of `score` and more, as they were matched at IoU 0.5.

    right: on a face of their own. off: overlap a face by 0.3 to 0.5. twice: on a face that a better one has.
    background: the other false ones. missed: faces that count without a detection. Those on ignored faces are nowhere.
    """

    score: float
    right: int
    off: int
    twice: int
    background: int
    missed: int

    @property
    def precision(self) -> float | None:
        """Share of the detections that are right; None without any."""
        false = self.off + self.twice + self.background
        return self.right / (self.right + false) if self.right + false else None

    @property
    def recall(self) -> float | None:
        """Share of the faces that are found; None without any."""
        return self.right / (self.right + self.missed) if self.right + self.missed else None


def mistakes_by_score(
    dataset: FaceDataset, detections: Sequence[Faces], matches: Sequence[Match], scores: Sequence[float] = SCORES
) -> list[Mistakes]:
    """A value per threshold. matches: as `match_all` gives them for these photos and detections."""
    of_score = np.concatenate([np.zeros(0, np.float32), *(faces.scores for faces in detections)])
    kinds = [_kinds(*each) for each in zip(dataset.photos, detections, matches, strict=True)]
    of_kind = np.concatenate([np.zeros(0, "U10"), *kinds])
    found = []
    for score in scores:
        names, numbers = np.unique(of_kind[of_score >= score], return_counts=True)
        counts = dict(zip(names.tolist(), numbers.tolist(), strict=True))
        right, off, twice, background = (counts.get(kind, 0) for kind in ("right", "off", "twice", "background"))
        found.append(Mistakes(score, right, off, twice, background, dataset.face_count - right))
    return found


def _kinds(photo: Photo, faces: Faces, match: Match) -> npt.NDArray[np.str_]:
    """str [D]: what each detection is."""
    overlap = iou_matrix(faces.boxes_xyxy, photo.boxes_xyxy).max(1, initial=0)
    return np.select(
        [match.hits, match.neutral, overlap >= MIN_IOU, overlap >= FACE_ALL_THE_SAME_IOU],
        ["right", "ignored", "twice", "off"],
        "background",
    ).astype("U10")
