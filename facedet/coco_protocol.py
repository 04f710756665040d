"""COCO's measure for crowds: AP and AR with up to 1,000 detections per photo, by pycocotools.

pycocotools' own summary reports maxDets 100 and fails without it, so the figures are taken from its raw arrays.
IoU 0.3 is measured beside COCO's ten: labels of small sets are loose, and "found at all" is a question of its own.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from facedet.data.coco import FaceDataset
from facedet.errors import MissingExtra
from facedet.faces import Faces
from facedet.intervals import FloatArray, Resampled

MAX_DETECTIONS = 1000
AREAS_PX2 = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
COCO_IOUS = np.linspace(0.5, 0.95, 10)
IOUS = np.concatenate([[0.3], COCO_IOUS])


def coco_metrics(
    dataset: FaceDataset, detections: Sequence[Faces]
) -> tuple[dict[str, float | None], dict[str, FloatArray], dict[str, Resampled]]:
    """Metrics; precision-recall curves (float64 [101, 2]: recall, precision) at IoU 0.3, 0.5 and 0.75; AP resampled.

    detections: one value per photo, in order. A metric without any face to measure (say AP_large) is None. AP, AP30,
    AP50 and AP75 can be taken again of other draws of the photos. Raises MissingExtra without pycocotools.
    """
    COCO, COCOeval = pycocotools_classes()  # noqa: N806
    if not len(dataset):
        return dict.fromkeys(_names()), {}, {}
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(_index(COCO, dataset, _truth(dataset)), _index(COCO, dataset, _found(detections)), "bbox")
        run.params.iouThrs = IOUS
        run.params.maxDets = [MAX_DETECTIONS]
        run.params.areaRng = [list(r) for r in AREAS_PX2.values()]
        run.params.areaRngLbl = list(AREAS_PX2)
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, 0, :, 0]  # [IoU, recall, area]
    summary, recalls = _summary(precision, run.eval["recall"][:, 0, :, 0]), run.params.recThrs
    return summary, _curves(precision[:, :, 0], recalls), _resampled(run.evalImgs[: len(dataset)], recalls)


def pycocotools_classes() -> tuple[Any, Any]:
    """pycocotools' COCO and COCOeval. Raises MissingExtra without it."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as e:
        raise MissingExtra("COCO's AP needs pycocotools: pip install 'crowdmood[train]'") from e
    return COCO, COCOeval


def _names() -> list[str]:
    sizes = [name for name in AREAS_PX2 if name != "all"]
    return ["AP", "AP30", "AP50", "AP75", *(f"AP_{s}" for s in sizes), "AR", *(f"AR_{s}" for s in sizes)]


def _summary(precision: npt.NDArray[Any], recall: npt.NDArray[Any]) -> dict[str, float | None]:
    """Means of what could be measured; pycocotools marks the rest with -1. IoU 0.3 is in AP30 only."""

    def mean(values: npt.NDArray[Any]) -> float | None:
        known = values[values > -1]
        return float(known.mean()) if known.size else None

    per_iou = {f"AP{iou}": mean(precision[_at(iou / 100), :, 0]) for iou in (30, 50, 75)}
    by_size = {f"AP_{a}": mean(precision[1:, :, i]) for i, a in enumerate(AREAS_PX2) if i}
    recalls = {f"AR_{a}": mean(recall[1:, i]) for i, a in enumerate(AREAS_PX2) if i}
    return {"AP": mean(precision[1:, :, 0]), **per_iou, **by_size, "AR": mean(recall[1:, 0]), **recalls}


def _curves(precision: npt.NDArray[Any], recall: npt.NDArray[Any]) -> dict[str, FloatArray]:
    return {f"IoU {iou}": np.stack([recall, precision[_at(iou)].clip(0)], 1) for iou in (0.3, 0.5, 0.75)}


def _resampled(photos: Sequence[dict[str, Any] | None], recalls: FloatArray) -> dict[str, Resampled]:
    """The means of AP by name, of other draws. photos: pycocotools' matches of each, None for one without any box."""
    matched = [(i, photo) for i, photo in enumerate(photos) if photo is not None]
    faces = np.zeros(len(photos))
    for i, photo in matched:
        faces[i] = np.sum(np.asarray(photo["gtIgnore"]) == 0)
    if not faces.any():
        return {}
    scores = np.concatenate([photo["dtScores"] for _, photo in matched])
    order = np.argsort(-scores, kind="mergesort")
    owner = np.concatenate([np.full(len(photo["dtScores"]), i) for i, photo in matched])[order]
    ignored = np.concatenate([photo["dtIgnore"] for _, photo in matched], 1)[:, order].astype(np.bool_)
    hits = np.concatenate([photo["dtMatches"] for _, photo in matched], 1)[:, order] > 0

    def ap_at(iou: int, times: FloatArray) -> float:
        """COCO's mean of the precision's envelope at 101 recalls, each photo counting `times`."""
        counted = times[owner] * ~ignored[iou]
        right, reported = np.cumsum(counted * hits[iou]), np.cumsum(counted)
        envelope = np.maximum.accumulate((right / np.maximum(reported, 1e-9))[::-1])[::-1]
        place = np.searchsorted(right / max(float(times @ faces), 1.0), recalls)
        return float(np.append(envelope, 0.0)[place].mean())

    def mean_of(ious: Sequence[int], draws: FloatArray) -> FloatArray:
        return np.array([np.mean([ap_at(iou, times) for iou in ious]) for times in draws])

    return {
        "AP": partial(mean_of, range(1, len(IOUS))),
        **{f"AP{iou}": partial(mean_of, [_at(iou / 100)]) for iou in (30, 50, 75)},
    }


def _at(iou: float) -> int:
    return int(np.abs(IOUS - iou).argmin())


def _index(coco_class: Any, dataset: FaceDataset, annotations: list[dict[str, Any]]) -> Any:
    index = coco_class()
    images = [{"id": i, "width": p.width, "height": p.height} for i, p in enumerate(dataset.photos, 1)]
    index.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]}
    index.createIndex()
    return index


def _annotation(number: int, image_id: int, box_xyxy: Sequence[float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box_xyxy
    bbox = [x1, y1, x2 - x1, y2 - y1]
    return {"id": number, "image_id": image_id, "category_id": 1, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}


def _truth(dataset: FaceDataset) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image_id, photo in enumerate(dataset.photos, 1):
        for box, ignore in zip(photo.boxes_xyxy.tolist(), photo.ignore.tolist(), strict=True):
            rows.append(_annotation(len(rows) + 1, image_id, box) | {"iscrowd": int(ignore)})
    return rows


def _found(detections: Sequence[Faces]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image_id, faces in enumerate(detections, 1):
        for box, score in zip(faces.boxes_xyxy.tolist(), faces.scores.tolist(), strict=True):
            rows.append(_annotation(len(rows) + 1, image_id, box) | {"score": score})
    return rows
