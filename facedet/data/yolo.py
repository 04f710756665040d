"""YOLO: one text file per photo, lines of `class cx cy w h` relative to the photo's size.

Read here and not by supervision, which gives up at the first photo or line that is damaged. Polygons (seven values
and more) become their bounding boxes; a sixth value is a confidence and is left out.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from facedet.data.raw import RawPhoto, corners_array, find_photos
from facedet.errors import DataError, MissingExtra

NAME_FILES = ("classes.txt", "obj.names")
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Folder that a photo lies in, in lower case -> the split it is kept in: images/val/, or valid/images/."""


def read_yolo(
    folder: str | Path, *, images: str | Path | None = None, classes: Collection[str] = ("face",)
) -> list[RawPhoto]:
    """Every photo below `images` (default `folder`) with its label file, in `labels/` beside `images/` or beside it.

    classes: names that count as faces, any case; without data.yaml or classes.txt every class does.
    A photo without a label file has no faces, one in a folder of SPLIT_FOLDERS has its split. Raises DataError naming
    file and line, also when there is no photo.
    """
    folder = Path(folder)
    photos = find_photos(Path(images or folder))
    if not photos:
        raise DataError(f"{images or folder}: expected photos, found none")
    wanted = _face_ids(folder, {c.lower() for c in classes})
    root = Path(images or folder)
    labelled = [(photo, _label_file(photo, root, folder)) for photo in photos]
    if not any(label for _, label in labelled):
        raise DataError(f"{folder}: found {len(photos)} photos, but no label file of YOLO's layout for any of them")
    return [_raw_photo(photo, label, root, wanted) for photo, label in labelled]


def _raw_photo(photo: Path, label: Path | None, root: Path, wanted: set[int] | None) -> RawPhoto:
    rows = [corners for kind, corners in _read_labels(label) if wanted is None or kind in wanted] if label else []
    name = "/".join(part for part in photo.relative_to(root).parts if part != "images")
    folders = (SPLIT_FOLDERS.get(part.lower()) for part in name.split("/")[:-1])
    split = next(filter(None, folders), None)
    return RawPhoto(name, corners_array(rows), np.zeros(len(rows), np.bool_), relative=True, path=photo, split=split)


def _label_file(photo: Path, root: Path, folder: Path) -> Path | None:
    parts = list(photo.with_suffix(".txt").parts)
    candidates = [photo.with_suffix(".txt"), folder / "labels" / photo.relative_to(root).with_suffix(".txt")]
    for at in reversed(range(len(parts))):
        if parts[at] == "images":
            candidates.append(Path(*parts[:at], "labels", *parts[at + 1 :]))
    return next((c for c in candidates if c.is_file()), None)


def _read_labels(path: Path) -> list[tuple[int, list[float]]]:
    found = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(v) for v in line.split()]
            found.append((int(values[0]), _corners(values[1:])))
        except (ValueError, IndexError, OverflowError) as e:
            raise DataError(f"{path}: line {number}: expected `class cx cy w h`, got {line.strip()[:60]!r}") from e
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as e:
        raise DataError(f"{path}: cannot read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: expected UTF-8 text: {e}") from e


def _corners(values: list[float]) -> list[float]:
    if len(values) in (4, 5):
        cx, cy, w, h = values[:4]
        return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} values")
    return [min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])]


def _face_ids(folder: Path, classes: set[str]) -> set[int] | None:
    """Numbers of the classes that are faces, or None when the set does not name its classes."""
    names = _class_names(folder)
    if names is None:
        return None
    ids = {i for i, name in names.items() if name.strip().lower() in classes}
    if not ids:
        raise DataError(
            f"{folder}: none of its classes is called {' or '.join(sorted(classes))}: {list(names.values())}"
        )
    return ids


def _class_names(folder: Path) -> dict[int, str] | None:
    for name in NAME_FILES:
        if (folder / name).is_file():
            return dict(enumerate(_text(folder / name).split("\n")))
    files = sorted([*folder.glob("data.y*ml"), *folder.glob("dataset.y*ml")])
    if not files:
        return None
    try:
        import yaml
    except ImportError as e:
        raise MissingExtra("data.yaml needs PyYAML: pip install 'crowdmood[train]'") from e
    try:
        document: Any = yaml.safe_load(_text(files[0]))
        names = document["names"]
        return {int(i): str(n) for i, n in (names.items() if isinstance(names, dict) else enumerate(names))}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as e:
        raise DataError(f"{files[0]}: expected `names` as a list or a mapping of numbers: {e}") from e
