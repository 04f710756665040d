"""Which detection belongs to which true face, as flat arrays over all photos; and average precision on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emotion import EMOTIONS
from facedet.boxes import iou_matrix
from pipeline.reading import PhotoReading
from pipeline.truth import TruePhoto

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MIN_IOU = 0.5
"""A detection that overlaps a true face this much has found it."""
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class Matches:
    """N judged faces and D detections of all photos; detections on a face that is not judged are left out.

    face_photo, det_photo: int64, each one's photo. face_px, det_px: float64, mean side in pixels.
    face_label: int64 [N], column of EMOTIONS. face_found: bool [N]. face_said: int64 [N], the emotion that was
    claimed, -1 where none was (missed, or found but too small). det_label: int64 [D], emotion of the true face it
    found, -1 for a false alarm. det_said: int64 [D], -1 for none. det_score: float64 [D]. det_shares: float64 [D, 7],
    probabilities, 0 where no emotion is claimed.
    """

    face_photo: Ints
    face_px: Floats
    face_label: Ints
    face_found: npt.NDArray[np.bool_]
    face_said: Ints
    det_photo: Ints
    det_px: Floats
    det_label: Ints
    det_said: Ints
    det_score: Floats
    det_shares: Floats


def match_readings(
    truth: Sequence[TruePhoto], readings: Sequence[PhotoReading], *, min_iou: float = MIN_IOU
) -> Matches:
    """Match every photo's reading, in the order of `truth`. Sizes and names are the caller's to check."""
    rows = [_match_photo(i, *pair, min_iou) for i, pair in enumerate(zip(truth, readings, strict=True))]
    columns = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    return Matches(*columns)


def match_boxes(
    detected_xyxy: npt.NDArray[np.float32],
    true_xyxy: npt.NDArray[np.float32],
    judged: npt.NDArray[np.bool_],
    min_iou: float,
) -> Ints:
    """For each detection, in the order given (by falling score), the true face it found: int64 [D].

    It gets the free judged face that it overlaps most, at IoU `min_iou` or more. -1: none; -2: none, but it lies on a
    face that is not judged.
    """
    owner = np.full(len(detected_xyxy), -1, np.int64)
    if not len(true_xyxy):
        return owner
    free = judged.copy()
    for d, overlaps in enumerate(iou_matrix(detected_xyxy, true_xyxy)):
        best = int(np.where(free, overlaps, -1).argmax())
        if free[best] and overlaps[best] >= min_iou:
            owner[d], free[best] = best, False
        elif (overlaps[~judged] >= min_iou).any():
            owner[d] = -2
    return owner


def average_precision(scores: Floats, hits: npt.NDArray[np.bool_], det_weights: Floats, faces: Floats) -> Floats:
    """COCO's interpolated AP (101 recalls) of D detections, for R weightings at once: float64 [R], NaN without faces.

    scores: [D]. hits: bool [D], those that found a face. det_weights: [R, D], how often each detection counts.
    faces: [R], number of true faces.
    """
    order = np.argsort(-scores, kind="stable")
    result = np.full(len(faces), np.nan)
    for r in np.flatnonzero(faces > 0):
        weights = det_weights[r, order]
        right, all_ = np.cumsum(weights * hits[order]), np.cumsum(weights)
        precision = right / np.maximum(all_, 1e-12)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
        result[r] = envelope[np.searchsorted(right / faces[r], _RECALLS)].mean()
    return result


def _match_photo(
    number: int, photo: TruePhoto, reading: PhotoReading, min_iou: float
) -> tuple[npt.NDArray[np.generic], ...]:
    """One photo's part of every array of `Matches`, in their order."""
    faces = sorted(reading.faces, key=lambda face: -face.score)
    boxes = np.array([face.box_xyxy for face in faces], np.float32).reshape(-1, 4)
    labels, true_px = photo.labels, photo.boxes_xyxy
    owner = match_boxes(boxes, true_px, labels >= 0, min_iou)
    said = np.array([-1 if face.emotion is None else EMOTIONS.index(face.emotion) for face in faces], np.int64)
    shares = [[0.0 if f.probabilities is None else f.probabilities.get(e, 0.0) for e in EMOTIONS] for f in faces]
    face_said, face_found = np.full(len(labels), -1, np.int64), np.zeros(len(labels), np.bool_)
    face_said[owner[owner >= 0]], face_found[owner[owner >= 0]] = said[owner >= 0], True
    judged, counted = labels >= 0, owner != -2
    det_label = np.where(owner >= 0, labels[owner.clip(0)] if len(labels) else -1, -1)
    return (
        np.full(judged.sum(), number, np.int64),
        _mean_side(true_px)[judged],
        labels[judged],
        face_found[judged],
        face_said[judged],
        np.full(counted.sum(), number, np.int64),
        _mean_side(boxes)[counted],
        det_label[counted],
        said[counted],
        np.array([face.score for face in faces], np.float64)[counted],
        np.array(shares, np.float64).reshape(-1, len(EMOTIONS))[counted],
    )


def _mean_side(boxes_xyxy: npt.NDArray[np.float32]) -> Floats:
    x1, y1, x2, y2 = boxes_xyxy.astype(np.float64).T
    sides: Floats = (x2 - x1 + y2 - y1) / 2
    return sides
