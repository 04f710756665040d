"""What a data set holds: photos, faces per photo, face sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from facedet.data.coco import FaceDataset

FACES_PER_PHOTO = (("0", 0, 0), ("1", 1, 1), ("2-5", 2, 5), ("6-20", 6, 20), ("21-100", 21, 100), ("101+", 101, 10**9))
FACE_SIZES_PX = ((0, 8), (8, 16), (16, 32), (32, 64), (64, 128), (128, 256), (256, 10**9))
PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


def stats(dataset: FaceDataset) -> dict[str, Any]:
    """Counts ready for JSON. A face's size is the square root of its area, in pixels of the photo as it is.

    Ignored faces are counted once, apart; everything else is of the faces that count.
    """
    per_photo = np.array([(~p.ignore).sum() for p in dataset.photos], np.int64)
    boxes = [p.boxes_xyxy[~p.ignore] for p in dataset.photos]
    sides = np.concatenate([b[:, 2:] - b[:, :2] for b in boxes] or [np.zeros((0, 2), np.float32)])
    size = np.sqrt(sides.prod(1))
    widths, heights = ([getattr(p, side) for p in dataset.photos] for side in ("width", "height"))
    return {
        "name": dataset.name,
        "photos": len(dataset),
        "faces": int(per_photo.sum()),
        "faces_ignored": int(sum(p.ignore.sum() for p in dataset.photos)),
        "faces_per_photo": {k: int(((per_photo >= a) & (per_photo <= b)).sum()) for k, a, b in FACES_PER_PHOTO},
        "face_size_px": {_range(a, b): int(((size >= a) & (size < b)).sum()) for a, b in FACE_SIZES_PX},
        "face_size_px_percentiles": _percentiles(size),
        "face_height_by_width_percentiles": _percentiles(sides[:, 1] / sides[:, 0]),
        "photo_width_px_percentiles": _percentiles(np.array(widths)),
        "photo_height_px_percentiles": _percentiles(np.array(heights)),
    }


def _range(low: int, high: int) -> str:
    return f"{low}+" if high == FACE_SIZES_PX[-1][1] else f"{low}-{high}"


def _percentiles(values: Any) -> dict[str, float]:
    if not len(values):
        return {}
    return {str(p): round(float(v), 2) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}
