"""WIDER FACE in its own layout: `images/<event>/<photo>.jpg` and `wider_face_<split>_bbx_gt.txt`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from facedet.data.coco import IMAGES_FOLDER, FaceDataset, Photo
from facedet.errors import DataError

INVALID_COLUMN = 7  # x, y, w, h, blur, expression, illumination, invalid, occlusion, pose


def is_wider(folder: str | Path) -> bool:
    """Whether `folder` holds WIDER FACE in its own layout."""
    return (Path(folder) / IMAGES_FOLDER).is_dir() and len(list(Path(folder).glob("wider_face_*_bbx_gt.txt"))) == 1


def load_wider(folder: str | Path) -> FaceDataset:
    """Read the photos that are present. Faces marked invalid are to be ignored, boxes without extent are left out.

    Raises DataError, with file and line, for anything else than WIDER's layout, and when no photo is present.
    """
    folder = Path(folder)
    lists = sorted(folder.glob("wider_face_*_bbx_gt.txt"))
    if len(lists) != 1:
        raise DataError(f"{folder}: expected one wider_face_*_bbx_gt.txt, found {len(lists)}")
    images_dir = folder / IMAGES_FOLDER
    photos = []
    for name, rows in read_bbx_gt(lists[0]):
        path = images_dir / name
        if path.is_file():
            photos.append(_photo(path, name, rows))
    if not photos:
        raise DataError(f"{images_dir}: no photo of {lists[0].name} is present")
    return FaceDataset(f"{folder.parent.name}/{folder.name}", images_dir, tuple(sorted(photos, key=lambda p: p.name)))


def read_bbx_gt(path: str | Path) -> Iterator[tuple[str, list[list[int]]]]:
    """Yield (photo name, rows of ten integers). A photo without faces has one row of zeros, which is left out."""
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    at = 0
    while at < len(lines):
        name = lines[at]
        if not name:
            at += 1
            continue
        try:
            count = int(lines[at + 1])
            rows = [[int(v) for v in line.split()] for line in lines[at + 2 : at + 2 + max(count, 1)]]
            if any(len(row) <= INVALID_COLUMN for row in rows) or len(rows) < count:
                raise ValueError("too few rows or columns")
        except (ValueError, IndexError) as e:
            raise DataError(f"{path}: line {at + 2}: expected a count and that many rows for {name}: {e}") from e
        yield name, rows[:count]
        at += 2 + max(count, 1)


def _photo(path: Path, name: str, rows: list[list[int]]) -> Photo:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: expected an image, could not decode it")
    table = np.array(rows, np.float32).reshape(len(rows), -1)
    if not len(rows):
        return Photo(path, name, image.shape[1], image.shape[0], np.zeros((0, 4), np.float32), np.zeros(0, np.bool_))
    xywh = table[:, :4]
    good = (xywh[:, 2:] > 0).all(1)
    boxes = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])[good]
    ignore = table[good, INVALID_COLUMN] > 0
    return Photo(path, name, image.shape[1], image.shape[0], boxes.astype(np.float32), ignore)
