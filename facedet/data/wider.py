"""WIDER FACE in its own layout: `images/<event>/<photo>.jpg` and `wider_face_<split>_bbx_gt.txt`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facedet.data.coco import IMAGES_FOLDER, SPLITS, FaceDataset, Photo
from facedet.data.images import read_photo
from facedet.data.raw import RawPhoto, corners_array, inside, read_text
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
    list_file = _list_file(folder)
    images_dir = folder / IMAGES_FOLDER
    photos = []
    for name, rows in read_bbx_gt(list_file):
        path = inside(images_dir, name)
        if path.is_file():
            photos.append(_photo(path, name, rows))
    if not photos:
        raise DataError(f"{images_dir}: no photo of {list_file.name} is present")
    return FaceDataset(f"{folder.parent.name}/{folder.name}", images_dir, tuple(sorted(photos, key=lambda p: p.name)))


def _list_file(folder: Path) -> Path:
    lists = sorted(folder.glob("wider_face_*_bbx_gt.txt"))
    if len(lists) != 1:
        raise DataError(f"{folder}: expected one wider_face_*_bbx_gt.txt, found {len(lists)}")
    return lists[0]


def read_bbx_gt(path: str | Path) -> Iterator[tuple[str, list[list[int]]]]:
    """Yield (photo name, rows of ten integers). A photo without faces has one row of zeros, which is left out."""
    lines = [line.strip() for line in read_text(Path(path)).splitlines()]
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
            if len({len(row) for row in rows}) > 1:
                raise ValueError("rows of unequal length")
        except (ValueError, IndexError) as e:
            raise DataError(f"{path}: line {at + 2}: expected a count and that many rows for {name}: {e}") from e
        yield name, rows[:count]
        at += 2 + max(count, 1)


def _photo(path: Path, name: str, rows: list[list[int]]) -> Photo:
    height, width = read_photo(path).shape[:2]
    table = np.array(rows, np.float32).reshape(len(rows), -1) if rows else np.zeros((0, 10), np.float32)
    xywh = table[:, :4]
    good = (xywh[:, 2:] > 0).all(1)
    boxes = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])[good]
    return Photo(path, name, width, height, boxes, table[good, INVALID_COLUMN] > 0)


def read_wider(folder: str | Path) -> list[RawPhoto]:
    """Every photo of the list file, unchecked, in the split that the list is called by; one that is absent has no path.

    For `facedet prepare wider`. Raises DataError with file and line.
    """
    folder = Path(folder)
    list_file = _list_file(folder)
    split = next((split for split in SPLITS if list_file.name == f"wider_face_{split}_bbx_gt.txt"), None)
    raws = []
    for name, rows in read_bbx_gt(list_file):
        corners = corners_array([[x, y, x + w, y + h] for x, y, w, h in (row[:4] for row in rows)])
        ignore = np.array([row[INVALID_COLUMN] > 0 for row in rows], np.bool_)
        path = inside(folder / IMAGES_FOLDER, name)
        raws.append(RawPhoto(name, corners, ignore, path=path if path.is_file() else None, split=split))
    return raws
