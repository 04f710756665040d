"""WIDER FACE's own measure: AP at easy, medium and hard (Yang et al., CVPR 2016; the benchmark's eval_tools).

All true boxes of a photo take part in the matching at every level, but only the faces of the level count: a
detection on any other face neither rewards nor costs. Scores are stretched to [0, 1] over the whole set, precision
and recall are taken at 1,000 thresholds, and AP is the area under the envelope of that curve (VOC 2010).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from facedet.errors import DataError, MissingExtra
from facedet.faces import Faces
from facedet.intervals import FloatArray, Resampled

LEVELS = ("easy", "medium", "hard")
THRESHOLDS = 1000
MIN_IOU = 0.5


@dataclass(frozen=True)
class WiderPhoto:
    """Truth of one photo. boxes_xyxy: float64 [N, 4], pixels; counted: level -> bool [N], faces of that level."""

    boxes_xyxy: FloatArray
    counted: Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class WiderResult:
    """One level: AP in [0, 1], the faces that count, and the curve, float64 [1000, 2] of recall and precision.

    resampled: the AP of other draws of the photos, their scores stretched as in the whole set.
    """

    ap: float
    faces: int
    curve: FloatArray
    resampled: Resampled


def load_wider_truth(ground_truth_dir: str | Path) -> dict[str, WiderPhoto]:
    """Read the benchmark's four .mat files. Keys are "<event>/<photo>" without suffix.

    Raises DataError when a file is missing or differs in layout, MissingExtra without scipy.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtra("WIDER FACE's protocol needs scipy: pip install 'crowdmood[train]'") from error
    folder = Path(ground_truth_dir)
    truth: dict[str, WiderPhoto] = {}
    try:
        mats = {level: loadmat(str(folder / f"wider_{level}_val.mat")) for level in LEVELS}
        base = loadmat(str(folder / "wider_face_val.mat"))
        for e, event_cell in enumerate(base["event_list"][:, 0]):
            for p, name_cell in enumerate(base["file_list"][e, 0][:, 0]):
                key = f"{event_cell[0]}/{name_cell[0]}"
                truth[key] = _photo_truth(base["face_bbx_list"][e, 0][p, 0], mats, e, p)
    except (OSError, KeyError, IndexError, ValueError, NotImplementedError) as error:
        raise DataError(f"{folder}: not WIDER FACE's ground_truth folder: {error}") from error
    return truth


def _photo_truth(boxes_xywh: npt.NDArray[Any], mats: Mapping[str, Any], event: int, photo: int) -> WiderPhoto:
    boxes = np.asarray(boxes_xywh, np.float64).reshape(-1, 4)
    counted = {}
    for level, mat in mats.items():
        one_based = np.asarray(mat["gt_list"][event, 0][photo, 0], np.int64).reshape(-1)
        counted[level] = np.zeros(len(boxes), np.bool_)
        counted[level][one_based - 1] = True
    return WiderPhoto(np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]), counted)


def wider_ap(truth: Mapping[str, WiderPhoto], detections: Mapping[str, Faces]) -> dict[str, WiderResult]:
    """AP per level over the photos in `detections` (keys as in `truth`, a suffix is cut off; all must be known)."""
    photos = photos_of(truth, detections)
    scores = _stretch([faces.scores.astype(np.float64) for faces in detections.values()])
    boxes = [faces.boxes_xyxy.astype(np.float64) for faces in detections.values()]
    overlaps = [_iou(found, photo.boxes_xyxy) for found, photo in zip(boxes, photos, strict=True)]
    return {level: _level_ap([p.counted[level] for p in photos], overlaps, scores) for level in LEVELS}


def photos_of(truth: Mapping[str, WiderPhoto], names: Iterable[str]) -> list[WiderPhoto]:
    """The truth of each photo, whose name may have a suffix. Raises DataError when there is none."""
    keys = {name: name if name in truth else str(PurePosixPath(name).with_suffix("")) for name in names}
    unknown = [name for name, key in keys.items() if key not in truth]
    if unknown:
        raise DataError(f"{len(unknown)} photos are not in WIDER FACE's truth, the first is {unknown[0]}")
    return [truth[key] for key in keys.values()]


def _stretch(scores: Sequence[FloatArray]) -> list[FloatArray]:
    """Scores of the whole set stretched so that the lowest is 0 and the highest 1."""
    together = np.concatenate([*scores, np.zeros(0)])
    if not together.size:
        return list(scores)
    low = min(float(together.min()), 1.0)
    high = max(float(together.max()), 0.0)
    return [(s - low) / (high - low) if high > low else np.ones_like(s) for s in scores]


def _iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """IoU [N, M] as eval_tools has it: sides are x2 - x1 + 1."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (bottom_right - top_left + 1).clip(0).prod(2)
    area_a, area_b = ((x[:, 2:] - x[:, :2] + 1).prod(1) for x in (a, b))
    result: FloatArray = inter / (area_a[:, None] + area_b[None] - inter)
    return result


def _level_ap(
    counted: Sequence[npt.NDArray[np.bool_]], overlaps: Sequence[FloatArray], scores: Sequence[FloatArray]
) -> WiderResult:
    faces = np.array([c.sum() for c in counted], np.float64)
    proposals, recalled = np.zeros((2, len(counted), THRESHOLDS), np.float32)  # whole numbers, exact up to 2 ** 24
    thresholds = 1 - np.arange(1, THRESHOLDS + 1) / THRESHOLDS
    for i, (keep, iou, score) in enumerate(zip(counted, overlaps, scores, strict=True)):
        if not (len(keep) and len(score)):
            continue  # as eval_tools does: detections on a photo without any true face cost nothing
        costs, hits = _match(iou, keep)
        taken = np.searchsorted(-score, -thresholds, side="right")
        proposals[i] = np.concatenate([[0], np.cumsum(costs)])[taken]
        recalled[i] = np.concatenate([[0], np.cumsum(hits)])[taken]

    def curve(times: FloatArray) -> FloatArray:
        reported, right = (np.asarray(times @ each, np.float64) for each in (proposals, recalled))
        precision = np.divide(right, reported, out=np.zeros(THRESHOLDS), where=reported > 0)
        return np.stack([right / max(float(times @ faces), 1.0), precision], 1)

    whole = curve(np.ones(len(counted)))
    return WiderResult(_area(*whole.T), int(faces.sum()), whole, lambda d: np.array([_area(*curve(t).T) for t in d]))


def _match(iou: FloatArray, keep: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """For detections by falling score: which count as proposals, and which are the first on a face that counts.

    A second detection of a face is a proposal without a hit, thus a false alarm.
    """
    best = iou.argmax(1)
    on_a_face = iou[np.arange(len(iou)), best] >= MIN_IOU
    counts = on_a_face & keep[best]
    hits = np.zeros(len(iou), np.bool_)
    _, first = np.unique(np.where(counts, best, -1), return_index=True)
    hits[first] = counts[first]
    return ~on_a_face | counts, hits


def _area(recall: FloatArray, precision: FloatArray) -> float:
    """Area under the envelope of the curve, as VOC 2010."""
    r = np.concatenate([[0.0], recall, [1.0]])
    p = np.concatenate([[0.0], precision, [0.0]])
    envelope = np.maximum.accumulate(p[::-1])[::-1]
    return float((np.diff(r) * envelope[1:]).sum())
