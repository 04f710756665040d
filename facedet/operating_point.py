"""Which detections are right, which faces are missed, and the score threshold that balances the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facedet.boxes import iou_matrix
from facedet.data.coco import FaceDataset, Photo
from facedet.faces import Faces

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Match:
    """hits: bool [D], detections on a face that counts; neutral: bool [D], on an ignored one.

    found_at: float32 [N], score of the detection on each true face, -1 where it is missed. A detection that is
    neither hit nor neutral is a false alarm.
    """

    hits: Flags
    neutral: Flags
    found_at: npt.NDArray[np.float32]


@dataclass(frozen=True)
class OperatingPoint:
    """The score threshold with the best F1 over a set, and precision, recall and F1 there, all in [0, 1]."""

    score: float
    precision: float
    recall: float
    f1: float


def match_faces(faces: Faces, photo: Photo, *, min_iou: float = 0.5) -> Match:
    """Give each detection, by falling score, the free true face it overlaps most, at IoU `min_iou` or more.

    A face that counts goes before an ignored one; an ignored face takes any number of detections.
    """
    hits, neutral = np.zeros(len(faces), np.bool_), np.zeros(len(faces), np.bool_)
    found_at = np.full(len(photo.boxes_xyxy), -1, np.float32)
    if not len(found_at):
        return Match(hits, neutral, found_at)
    for d, overlaps in enumerate(iou_matrix(faces.boxes_xyxy, photo.boxes_xyxy)):
        free = np.where((found_at < 0) & ~photo.ignore, overlaps, -1)
        best = int(free.argmax())
        if free[best] >= min_iou:
            hits[d], found_at[best] = True, faces.scores[d]
        elif (overlaps[photo.ignore] >= min_iou).any():
            neutral[d] = True
    return Match(hits, neutral, found_at)


def match_all(dataset: FaceDataset, detections: Sequence[Faces], *, min_iou: float = 0.5) -> list[Match]:
    """`match_faces` for every photo."""
    return [match_faces(f, p, min_iou=min_iou) for f, p in zip(detections, dataset.photos, strict=True)]


def operating_point(
    dataset: FaceDataset, detections: Sequence[Faces], matches: Sequence[Match]
) -> OperatingPoint | None:
    """The threshold with the best F1; None without a face that counts or without any detection on or off one."""
    scores, hits = np.zeros(0, np.float32), np.zeros(0, np.bool_)
    for faces, match in zip(detections, matches, strict=True):
        scores = np.append(scores, faces.scores[~match.neutral])
        hits = np.append(hits, match.hits[~match.neutral])
    if not len(scores) or not dataset.face_count:
        return None
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    precision, recall = right / np.arange(1, len(order) + 1), right / dataset.face_count
    f1 = 2 * right / (np.arange(1, len(order) + 1) + dataset.face_count)
    last_of_score = np.append(np.diff(scores[order]) < 0, True)
    best = int(np.where(last_of_score, f1, -1).argmax())
    return OperatingPoint(*(float(v) for v in (scores[order][best], precision[best], recall[best], f1[best])))
